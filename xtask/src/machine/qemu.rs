//! QEMU: with KVM where nesting works, else its own emulation, which has no VMX.

use std::fs::File;
use std::process::Stdio;

use anyhow::{Context, Result};
use pleat_bundle::handover::{BUNDLE_BASE, QEMU_EXIT_PORT};

use super::emulator::{Emulator, KeepAll};
use super::{DISK, Kind, Media, Start};
use crate::context::Context as Session;
use crate::guests::{DiskBus, HostDiskSpec};
use crate::tools::Tool;

/// Starts QEMU in the run's directory.
pub fn start(session: &Session, kind: Kind, start: &Start<'_>) -> Result<Emulator> {
    let qemu = session.tools.get(Tool::Qemu)?;
    let errors = File::create(start.directory.join("qemu.err")).context("cannot make qemu.err")?;
    let mut command = qemu.command();
    command
        .current_dir(start.directory)
        .args(["-nodefaults", "-display", "none", "-no-reboot", "-M", "pc"]);
    if qemu.is_unpacked() {
        for directory in ["/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(qemu.file(directory));
        }
    }
    match kind {
        Kind::QemuKvm => command.args(["-accel", "kvm", "-cpu", "host"]),
        _ => command.args(["-accel", "tcg", "-cpu", "max"]),
    };
    command.arg("-m").arg(format!("{}M", start.spec.memory_mib));
    command.args(["-debugcon", "stdio", "-global", "isa-debugcon.readback=0xe9"]);
    command
        .arg("-device")
        .arg(format!("isa-debug-exit,iobase={QEMU_EXIT_PORT:#x},iosize=4"));
    match start.console_port {
        Some(port) => command.arg("-serial").arg(format!("tcp:127.0.0.1:{port}")),
        None => command.args(["-serial", "null"]),
    };
    match start.media {
        Media::Rom(files) => {
            let loader = format!(
                "loader,file={},addr={BUNDLE_BASE:#x},force-raw=on",
                files.bundle.display()
            );
            command.arg("-bios").arg(&files.rom).args(["-device", &loader])
        }
        Media::Iso(iso) => command.arg("-cdrom").arg(iso).args(["-boot", "d"]),
    };
    if let Some(disk) = start.spec.disk {
        command.arg("-drive").arg(drive(disk));
    }
    command.stdin(Stdio::null()).stderr(errors);
    Emulator::spawn(command, Box::new(KeepAll))
}

/// The host's disk. A bad block fails below the raw format, so that each device reports it in its own way; a pace makes requests last.
fn drive(disk: HostDiskSpec) -> String {
    const SECTORS: u64 = 8;
    let interface = match disk.bus {
        DiskBus::Ata | DiskBus::AtaPio => "ide",
        DiskBus::Virtio => "virtio",
    };
    let file = match disk.bad_block {
        None => format!("file={DISK}"),
        Some(block) => format!(
            "file.driver=blkdebug,file.image.driver=file,file.image.filename={DISK},\
             file.inject-error.0.event=read_aio,file.inject-error.0.iotype=read,file.inject-error.0.errno=5,file.inject-error.0.sector={}",
            block * SECTORS
        ),
    };
    let pace = disk.pace.map(|pace| format!(",throttling.iops-total={pace}"));
    format!(
        "{file},format=raw,cache=unsafe,if={interface},index=0{}",
        pace.unwrap_or_default()
    )
}
