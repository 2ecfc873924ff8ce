//! Everything that a machine boots from: built, fetched, packed into one bundle.

mod agent;
mod bundle;
pub mod bzimage;
mod cargo;
mod debian;
mod drivers;
pub mod elf;
mod initramfs;
mod linux;
mod maker;
mod programs;
mod record;
mod symbols;
mod vmlinux;
mod workload;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::context::Context as Session;
use crate::guests::Scenario;

/// The files that a machine is started with.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The 64 KiB ROM.
    pub rom: PathBuf,
    /// The boot bundle.
    pub bundle: PathBuf,
    /// The hypervisor's ELF file, for GRUB.
    pub hypervisor: PathBuf,
}

/// What the configuration record says beyond the scenario.
#[derive(Clone, Copy, Debug)]
pub struct BootOptions {
    /// The exact rate of the time-stamp counter, where it is known.
    pub tsc_hz: Option<u64>,
    /// A person sits at the console.
    pub is_interactive: bool,
    /// The machine has the disk for the host that the scenario asks for, and nothing else in its place.
    pub has_disk: bool,
}

/// Builds all programs that these scenarios need, in one call of Cargo, and one more for programs inside Linux guests.
pub fn programs(session: &Session, scenarios: &[Scenario]) -> Result<()> {
    let mut guests = scenarios.iter().flat_map(|scenario| &scenario.guests);
    if guests.any(agent::is_wanted) {
        agent::build(session)?;
    }
    cargo::build(session, scenarios)
}

/// Fetches and unpacks what the Linux guests of a scenario are made of, so that packing finds it.
pub fn fetch_linux(session: &Session, scenario: &Scenario) -> Result<()> {
    bundle::linux(session, scenario)
}

/// Packs what a scenario boots from into a directory. [`programs()`] has run before.
pub fn pack(
    session: &Session,
    scenario: &Scenario,
    options: BootOptions,
    directory: &std::path::Path,
) -> Result<Boot> {
    let program = if scenario.machine.checks_disk {
        cargo::DISK_CHECK
    } else {
        "pleat"
    };
    let hypervisor = session.paths.release().join(program);
    let rom = session.paths.images().join("rom.bin");
    let bundle = directory.join("bundle.bin");
    let image = bundle::assemble(session, scenario, options, &hypervisor)?;
    crate::files::write_new(&bundle, &image)?;
    let rom_elf =
        std::fs::read(session.paths.release().join("pleat-rom")).context("cannot read the built ROM")?;
    let image =
        pleat_bundle::write::rom_image(&rom_elf).context("the built ROM has no segments below 4 GiB")?;
    crate::files::write_new(&rom, &image)?;
    Ok(Boot {
        rom,
        bundle,
        hypervisor,
    })
}
