//! The machines: which emulator, how it is started, how it is ended.

mod bochs;
mod choose;
mod emulator;
mod qemu;

use std::path::Path;

use anyhow::Result;

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

/// Starts the emulator.
pub fn start(session: &Session, kind: Kind, start: &Start<'_>) -> Result<Emulator> {
    match kind {
        Kind::Bochs => bochs::start(session, start),
        Kind::QemuKvm | Kind::QemuTcg => qemu::start(session, kind, start),
    }
}
