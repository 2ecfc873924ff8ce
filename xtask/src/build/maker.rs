//! Making images of disks without root: owners and modes have to be right without anybody being root.
//!
//! A user namespace makes us root of our own files, and fakeroot keeps book of the owners that such a root cannot
//! give. Where there are no user namespaces, root itself does the same.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::context::Context as Session;
use crate::tools::Unpacked;
use crate::{files, process, progress};

/// Makes an image of a tree.
const IMAGE_SCRIPT: &str = include_str!("maker/image.sh");
/// What it takes to make one.
const PACKAGES: [&str; 5] = [
    "debootstrap",
    "debian-archive-keyring",
    "fakeroot",
    "libfakeroot",
    "e2fsprogs",
];
/// Images are read page by page.
const PAGE: usize = 4096;

/// A tree of files that images are made of.
pub struct Tree<'a> {
    /// What it is, in a word.
    pub name: &'a str,
    /// All that it is made from, apart from the packages' versions.
    pub recipe: &'a [&'a str],
    /// Files that a guest can add to an image of it.
    pub spare_files: u32,
}

impl Tree<'_> {
    /// An image of this size, without the zeros at its end. Two steps, each kept: `make` leaves the tree as `root.tar` in
    /// the maker's directory, and each size of a disk has an image of it.
    pub fn image(
        &self,
        session: &Session,
        bytes: u64,
        make: impl FnOnce(&Maker) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let name = format!("{}-{}", self.name, self.digest());
        let archive = session.paths.images().join(format!("{name}.tar"));
        let image = session.paths.images().join(format!("{name}-{bytes}.img"));
        files::cached(&image, || {
            let maker = Maker::new(session, self.name)?;
            if !archive.is_file() {
                make(&maker)?;
                maker.keep_tree(&archive)?;
            }
            maker.image(&archive, bytes, self.spare_files)
        })
    }

    /// A word for all that an image depends on.
    fn digest(&self) -> String {
        let spare = self.spare_files.to_string();
        let mut parts = vec![IMAGE_SCRIPT, &spare];
        parts.extend(self.recipe);
        let digest = Sha256::digest(parts.join("\n").as_bytes());
        digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who the scripts run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Root of a user namespace, with fakeroot.
    Namespace,
    /// The system's root.
    Root,
}

/// Runs scripts in a directory of its own, which goes with it.
pub struct Maker {
    who: Who,
    tools: Unpacked,
    work: PathBuf,
}

impl Drop for Maker {
    fn drop(&mut self) {
        // Nothing depends on it: a directory that stays is in nobody's way but takes room.
        if let Err(error) = fs::remove_dir_all(&self.work) {
            eprintln!("xtask: {} stays: {error}", self.work.display());
        }
    }
}

/// What makes us root of our own files, with processes and mounts that end with the script.
const UNSHARE: [&str; 7] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--ipc",
    "--pid",
    "--fork",
];

impl Maker {
    fn new(session: &Session, name: &str) -> Result<Self> {
        let has_namespaces = process::run(Command::new(UNSHARE[0]).args(&UNSHARE[1..]).arg("true")).is_ok();
        let is_root = || Ok::<_, anyhow::Error>(process::text(Command::new("id").arg("-u"))?.trim() == "0");
        let who = if has_namespaces {
            Who::Namespace
        } else if is_root()? {
            Who::Root
        } else {
            bail!(
                "this system gives ordinary users no user namespaces (`unshare --user --map-root-user true` fails). \
                 Allow them (sysctl kernel.apparmor_restrict_unprivileged_userns=0, or \
                 user.max_user_namespaces=1000), or run this once as root"
            )
        };
        let tools = session.tools.unpacked("debootstrap", &PACKAGES)?;
        let work = session
            .paths
            .images()
            .join(format!("{name}-work-{}", std::process::id()));
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        Ok(Self { who, tools, work })
    }

    /// A file of the packages that it works with, by its installed path.
    pub fn file(&self, installed: &str) -> OsString {
        self.tools.file(installed).into_os_string()
    }

    /// The library of fakeroot, if that is what makes us root.
    pub fn fakeroot_library(&self) -> OsString {
        match self.who {
            Who::Namespace => self.file(FAKEROOT_LIBRARY),
            Who::Root => OsString::new(),
        }
    }

    /// Keeps the archive of the tree, and not the tree.
    fn keep_tree(&self, archive: &Path) -> Result<()> {
        let made = self.work.join("root.tar");
        fs::rename(&made, archive).with_context(|| format!("cannot rename to {}", archive.display()))?;
        let tree = self.work.join("root");
        fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))
    }

    fn image(&self, archive: &Path, bytes: u64, spare_files: u32) -> Result<Vec<u8>> {
        let variables = [
            ("TAR", archive.as_os_str().to_owned()),
            ("BYTES", bytes.to_string().into()),
            ("SPARE_FILES", spare_files.to_string().into()),
        ];
        self.run("packing the image of a disk", IMAGE_SCRIPT, &variables)?;
        let image = self.work.join("image");
        used_part(&image).with_context(|| format!("cannot read {}", image.display()))
    }

    /// Runs a script, and shows the last line it said as it goes on.
    pub fn run(&self, title: &str, script: &str, variables: &[(&str, OsString)]) -> Result<()> {
        let file = self.work.join("script.sh");
        fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
        let log = self.work.with_extension("log");
        let said = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = self.command(&file);
        command
            .env("WORK", &self.work)
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?);
        let bar = progress::spinner(title);
        let mut child = command.spawn().with_context(|| format!("cannot start {title}"))?;
        let mut said = said;
        for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
            let line = line.context("cannot read what a script says")?;
            bar.set_message(format!("{title}: {}", line.trim_start_matches("I: ")));
            writeln!(said, "{line}")?;
        }
        let status = child.wait().with_context(|| format!("cannot wait for {title}"))?;
        bar.finish_and_clear();
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            bail!("{title} failed ({status}):\n{}", process::tail(&text, 20));
        }
        fs::remove_file(&log).with_context(|| format!("cannot remove {}", log.display()))
    }

    /// A command that runs a script as root or what looks like it.
    fn command(&self, script: &Path) -> Command {
        let mut command = match self.who {
            Who::Root => Command::new("sh"),
            Who::Namespace => {
                let mut command = Command::new(UNSHARE[0]);
                command.args(&UNSHARE[1..]);
                command
                    .arg("sh")
                    .arg(self.tools.file("/usr/bin/fakeroot-sysv"))
                    .arg("-l")
                    .arg(self.tools.file(FAKEROOT_LIBRARY))
                    .arg("-f")
                    .arg(self.tools.file("/usr/bin/faked-sysv"))
                    .arg("sh");
                // The namespace has one user only: asking the kernel for another owner fails in a way that
                // fakeroot does not expect.
                command.env("FAKEROOTDONTTRYCHOWN", "1");
                command
            }
        };
        command.arg(script);
        self.tools.prepare(&mut command);
        command
    }
}

const FAKEROOT_LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-sysv.so";

/// An image up to its last page that is not zero. Most of it is a hole, which is never held in memory.
fn used_part(image: &Path) -> std::io::Result<Vec<u8>> {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    let mut file = fs::File::open(image)?;
    let (mut used, mut page) = (Vec::new(), [0; PAGE]);
    let mut zeros = 0;
    for _ in 0..file.metadata()?.len() / PAGE as u64 {
        file.read_exact(&mut page)?;
        if page == ZEROS {
            zeros += PAGE;
            continue;
        }
        used.resize(used.len() + std::mem::take(&mut zeros), 0);
        used.extend_from_slice(&page);
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::{PAGE, used_part};

    #[test]
    fn an_image_ends_with_its_last_page_that_is_not_zero() {
        let file = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        let used = |last: Option<usize>| {
            let mut image = vec![0; 4 * PAGE];
            last.into_iter().for_each(|last| image[last] = 1);
            std::fs::write(&file, &image).unwrap();
            let used = used_part(&file).unwrap();
            assert!(image.starts_with(&used));
            used.len()
        };
        assert_eq!(
            [0, PAGE - 1, PAGE, 4 * PAGE - 1].map(|last| used(Some(last))),
            [PAGE, PAGE, 2 * PAGE, 4 * PAGE]
        );
        assert_eq!(used(None), 0);
        std::fs::remove_file(&file).unwrap();
    }
}
