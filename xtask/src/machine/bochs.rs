//! Bochs: the emulator with VMX.

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, bail, ensure};

use super::emulator::{Emulator, LineFilter};
use super::{BOCHS_HZ, DISK, Media, Start};
use crate::context::Context as Session;
use crate::guests::{DiskBus, HostDiskSpec};
use crate::tools::{Found, Tool};

/// Seconds since 1970 at which the board's clock starts, so that runs repeat: 2026-01-01 00:00 UTC.
const CLOCK_START: u64 = 1_767_225_600;

/// Starts Bochs in the run's directory.
pub fn start(session: &Session, start: &Start<'_>) -> Result<Emulator> {
    let bochs = session.tools.get(Tool::Bochs)?;
    let rc = start.directory.join("bochsrc");
    fs::write(&rc, configuration(&bochs, start)?)
        .with_context(|| format!("cannot write {}", rc.display()))?;
    // Debian's Bochs has the debugger built in; it waits for the command to continue.
    let go = start.directory.join("debugger-commands");
    fs::write(&go, "c\n").with_context(|| format!("cannot write {}", go.display()))?;
    let errors = File::create(start.directory.join("bochs.err")).context("cannot make bochs.err")?;
    let mut command = bochs.command();
    command
        .current_dir(start.directory)
        .args(["-q", "-unlock", "-f", "bochsrc"]);
    if bochs.is_unpacked() {
        // Bochs copies these paths into small buffers and dies of long ones: short names in its directory.
        for (variable, name, place) in [
            (
                "LTDL_LIBRARY_PATH",
                "plugins",
                "/usr/lib/x86_64-linux-gnu/bochs/plugins",
            ),
            ("BXSHARE", "share", "/usr/share/bochs"),
        ] {
            symlink(bochs.file(place), start.directory.join(name)).context("cannot link to Bochs's files")?;
            command.env(variable, name);
        }
    }
    command
        .env("TERM", "xterm")
        .stdin(File::open(&go)?)
        .stderr(errors);
    Emulator::spawn(command, Box::new(DebuggerFilter { is_running: false }))
}

fn configuration(bochs: &Found, start: &Start<'_>) -> Result<String> {
    let mut rc = String::from(FIXED);
    let mut line = |text: String| writeln!(rc, "{text}");
    line(format!("megs: {}", start.spec.memory_mib))?;
    line(media(bochs, start))?;
    if let Some(spec) = start.spec.disk {
        line(disk(spec)?)?;
    }
    // Bochs wants one with any ROM, and looks for the installed one unless told.
    line(format!(
        "vgaromimage: file={}",
        bochs.file("/usr/share/vgabios/vgabios.bin").display()
    ))?;
    let model = &start.spec.processor;
    line(format!(
        "cpu: model={model}, count=1, ips={BOCHS_HZ}, reset_on_triple_fault=0, ignore_bad_msrs=0"
    ))?;
    // Without a person, time is not coupled to the world's: the same inputs give the same instruction
    // stream, and idle guests cost nothing. With one, an idle second must not be over in no time.
    let clock = match start.console_port {
        Some(_) => "sync=slowdown, time0=utc".to_owned(),
        None => format!("sync=none, time0={CLOCK_START}"),
    };
    line(format!("clock: {clock}"))?;
    let console = match start.console_port {
        Some(port) => format!("mode=socket-client, dev=localhost:{port}"),
        None => "mode=file, dev=com1.out".to_owned(),
    };
    line(format!("com1: enabled=1, {console}"))?;
    Ok(rc)
}

/// What is the same for every machine.
const FIXED: &str = "display_library: term
port_e9_hack: enabled=1
com2: enabled=1, mode=file, dev=com2.out
log: bochs.log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
";

fn media(bochs: &Found, start: &Start<'_>) -> String {
    match start.media {
        Media::Rom(files) => format!(
            "romimage: file={}\noptramimage1: file={}, address={:#x}",
            files.rom.display(),
            files.bundle.display(),
            pleat_bundle::handover::BUNDLE_BASE
        ),
        Media::Iso(iso) => format!(
            "romimage: file={}\nata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
             ata0-master: type=cdrom, path={}, status=inserted\nboot: cdrom",
            bochs.file("/usr/share/bochs/BIOS-bochs-latest").display(),
            iso.display()
        ),
    }
}

/// Cylinders of a MiB, with 16 heads and 32 sectors.
const CYLINDERS: u64 = 4;
/// The largest disk in MiB: Bochs takes 262,143 cylinders at most.
const MAX_DISK: u64 = 262_143 / CYLINDERS;

/// The host's disk. Bochs takes a flat file only if its size is that of the geometry.
fn disk(spec: HostDiskSpec) -> Result<String> {
    if spec.bus == DiskBus::Virtio {
        bail!("Bochs has no virtio disk; write disk_kind = \"ata\", or take --machine qemu");
    }
    ensure!(
        spec.mebibytes <= MAX_DISK,
        "Bochs has disks of at most {MAX_DISK} MiB"
    );
    Ok(format!(
        "pci: enabled=1, chipset=i440fx\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=disk, mode=flat, path={DISK}, cylinders={}, heads=16, spt=32",
        spec.mebibytes * CYLINDERS
    ))
}

/// The debugger's banner and prompt come before the stream, its last word after it.
struct DebuggerFilter {
    is_running: bool,
}

impl LineFilter for DebuggerFilter {
    fn keep<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if !self.is_running {
            self.is_running = line.starts_with("<bochs:1>");
            return None;
        }
        // Where it stopped: `(0).[131] [0x0000000f00fe] f000:00fe ...`, or the next prompt.
        let is_debugger =
            line.starts_with("(0).[") || line.starts_with("<bochs:") || line.starts_with("Next at t=");
        (!is_debugger).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::{DebuggerFilter, LineFilter};

    #[test]
    fn the_debuggers_words_are_kept_out() {
        let said = [
            "Next at t=0",
            "(0) [0xfff0] jmpf",
            "<bochs:1> c",
            "{\"t\":1}",
            "raw",
            "(0).[131] [0x00] out",
        ];
        let mut filter = DebuggerFilter { is_running: false };
        let kept: Vec<&str> = said.iter().filter_map(|line| filter.keep(line)).collect();
        assert_eq!(kept, ["{\"t\":1}", "raw"]);
    }
}
