//! A disk with the programs of Debian's packages and all that these depend on, for guests that start from the RAM disk.
//!
//! The packages' files are laid out, and that is all: nothing is installed or configured, so it takes seconds to make.

use anyhow::{Context, Result};

use super::maker::Tree;
use crate::context::Context as Session;

/// Lays out the files.
const SCRIPT: &str = include_str!("programs/tree.sh");
/// Hardly any: guests mount it read-only.
const SPARE_FILES: u32 = 64;

/// The image of a disk of this size with these packages.
pub fn disk(session: &Session, packages: &[String], bytes: u64) -> Result<Vec<u8>> {
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let tree = Tree {
        name: "programs",
        recipe: &[SCRIPT, &names.join(",")],
        spare_files: SPARE_FILES,
    };
    let make = || {
        tree.image(session, bytes, |maker| {
            let files = session.tools.for_guests(&names)?;
            let list: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            let variables = [("DEBS", list.join("\n").into())];
            maker.run("laying out packages", SCRIPT, &variables)
        })
    };
    make().with_context(|| format!("making a disk with the packages {}", names.join(", ")))
}
