//! The initial RAM disk: busybox, the init script and device nodes, made without root.

use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::Builder;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;
const LINK: u32 = 0o120_777;

/// Commands that init and the workload call by path before busybox has installed its links.
const LINKS: [&str; 3] = ["sh", "mount", "poweroff"];

/// A cpio archive with busybox and an init script.
pub fn archive(busybox: &[u8], init: &str, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in [
        "bin",
        "dev",
        "proc",
        "sys",
        "tmp",
        "etc",
        "root",
        "lib",
        "lib/modules",
    ] {
        archive.add(directory, DIRECTORY, &[])?;
    }
    // The kernel opens /dev/console for init before anything is mounted.
    archive.device("dev/console", 5, 1)?;
    archive.device("dev/null", 1, 3)?;
    archive.device("dev/ttyS0", 4, 64)?;
    archive.device("dev/kmsg", 1, 11)?;
    archive.add("bin/busybox", PROGRAM, busybox)?;
    for link in LINKS {
        archive.add(&format!("bin/{link}"), LINK, b"busybox")?;
    }
    archive.add("init", PROGRAM, init.as_bytes())?;
    for (name, content) in files {
        archive.add(
            name,
            if name.starts_with("bin/") { PROGRAM } else { PLAIN },
            content,
        )?;
    }
    cpio::newc::trailer(archive.bytes).context("cannot finish the RAM disk")
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let builder = self.entry(name, mode);
        self.write(builder, name, content)
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) -> Result<()> {
        let builder = self
            .entry(name, CHARACTER_DEVICE)
            .rdev_major(major)
            .rdev_minor(minor);
        self.write(builder, name, &[])
    }

    fn entry(&mut self, name: &str, mode: u32) -> Builder {
        // Distinct inode numbers, or the kernel takes equal ones for hard links.
        self.entries += 1;
        Builder::new(name).mode(mode).ino(self.entries).nlink(1).mtime(0)
    }

    fn write(&mut self, builder: Builder, name: &str, content: &[u8]) -> Result<()> {
        let failed = || format!("cannot put {name} into the RAM disk");
        let size = u32::try_from(content.len()).with_context(failed)?;
        let mut writer = builder.write(&mut self.bytes, size);
        writer.write_all(content).with_context(failed)?;
        writer.finish().map(drop).with_context(failed)
    }
}
