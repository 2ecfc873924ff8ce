//! A small Debian for guests to start from: made by debootstrap without root.
//!
//! The system is minbase with sysvinit, and starts nothing but a login: see `root.sh` beside this file.

use std::fs;

use anyhow::{Context, Result};

use super::maker::{Maker, Tree};
use crate::context::Context as Session;

/// Makes the tree.
const ROOT_SCRIPT: &str = include_str!("debian/root.sh");
/// The release of Debian.
const SUITE: &str = "bookworm";
/// What it has beyond the packages that every Debian has, and those that a guest asks for.
const INIT_PACKAGE: &str = "sysvinit-core";
/// Files that a guest can add.
const SPARE_FILES: u32 = 8192;
/// Where it comes from if this system's package sources name no mirror of Debian.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The image of a disk of this size with these packages installed.
pub fn disk(session: &Session, packages: &[String], bytes: u64) -> Result<Vec<u8>> {
    let included = std::iter::once(INIT_PACKAGE).chain(packages.iter().map(String::as_str));
    let included = included.collect::<Vec<_>>().join(",");
    let tree = Tree {
        name: "debian",
        recipe: &[ROOT_SCRIPT, SUITE, &included],
        spare_files: SPARE_FILES,
    };
    tree.image(session, bytes, |maker| make_root(session, maker, &included))
        .with_context(|| format!("making a Debian disk of {} MiB", bytes >> 20))
}

fn make_root(session: &Session, maker: &Maker, included: &str) -> Result<()> {
    let debs = session.paths.tools().join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("cannot make {}", debs.display()))?;
    let mirror = session.tools.debian_mirror()?;
    let variables = [
        ("FAKEROOT_LIBRARY", maker.fakeroot_library()),
        ("DEBOOTSTRAP", maker.file("/usr/sbin/debootstrap")),
        ("DEBOOTSTRAP_DIR", maker.file("/usr/share/debootstrap")),
        (
            "KEYRING",
            maker.file("/usr/share/keyrings/debian-archive-keyring.gpg"),
        ),
        ("CACHE", debs.into_os_string()),
        ("PACKAGES", included.into()),
        ("SUITE", SUITE.into()),
        ("MIRROR", mirror.unwrap_or_else(|| MIRROR.to_owned()).into()),
    ];
    maker.run("making a Debian root", ROOT_SCRIPT, &variables)
}
