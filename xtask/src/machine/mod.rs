//! The machines: which emulator, how it is started, how it is ended.

mod bochs;
mod choose;
mod emulator;
mod qemu;

use std::path::Path;

use anyhow::{Context as _, Result};

pub use choose::{Kind, choose};
pub use emulator::{Emulator, Said};

use crate::build::Boot as Files;
use crate::context::Context as Session;
use crate::guests::MachineSpec;

/// Rate of Bochs's time-stamp counter: instructions in a virtual second.
pub const BOCHS_HZ: u64 = 200_000_000;

/// How a machine is booted and where its console goes.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The machine.
    pub spec: &'a MachineSpec,
    /// What it boots.
    pub media: Media<'a>,
    /// The directory of this run.
    pub directory: &'a Path,
    /// The port on this host that COM1 connects to; without it nobody can type.
    pub console_port: Option<u16>,
}

/// What a machine boots.
#[derive(Clone, Copy, Debug)]
pub enum Media<'a> {
    /// Our ROM and a bundle.
    Rom(&'a Files),
    /// A CD image, with the emulator's own BIOS.
    Iso(&'a Path),
}

/// The name of the host's disk in the run's directory.
const DISK: &str = "disk.img";

/// Makes the host's disk: an empty file that takes room only where it is written.
pub fn make_disk(start: &Start<'_>) -> Result<()> {
    let Some(disk) = start.spec.disk else {
        return Ok(());
    };
    let file = start.directory.join(DISK);
    std::fs::File::create_new(&file)
        .and_then(|file| file.set_len(disk.mebibytes << 20))
        .with_context(|| format!("cannot make {}", file.display()))
}

/// Removes it: what is on it means nothing to anybody.
pub fn remove_disk(start: &Start<'_>) -> Result<()> {
    let file = start.directory.join(DISK);
    match std::fs::remove_file(&file) {
        Err(error) if start.spec.disk.is_some() => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Starts the emulator.
pub fn start(session: &Session, kind: Kind, start: &Start<'_>) -> Result<Emulator> {
    match kind {
        Kind::Bochs => bochs::start(session, start),
        Kind::QemuKvm | Kind::QemuTcg => qemu::start(session, kind, start),
    }
}
