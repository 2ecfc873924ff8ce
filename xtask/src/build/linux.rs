//! What Linux guests start from: RAM disks with the modules their devices need, and what their kernel's
//! command line says about it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::drivers::{Driver, Modules};
use super::{agent, initramfs, workload};
use crate::context::Context as Session;
use crate::guests::{GuestSpec, Initramfs, TypedAt};
use crate::tools::Tool;

/// The meta package of the guests' kernel.
pub const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
/// The kernel takes no more (arch/x86/include/asm/setup.h), with a terminating zero.
const LONGEST_LINE: usize = 2047;

/// Init of the RAM disk of a guest that starts from its disk.
const DISK_INIT: &str = r#"#!/bin/sh
# Init of a guest with a disk: report, load drivers, hand over to the system on the disk.
echo "pleat-event: up"
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
. /lib/drivers
mkdir /disk
if ! mount -t ext4 /dev/vda /disk; then
    echo "pleat-event: disk-failed"
    exec sh
fi
for place in dev proc sys; do mount --move /$place /disk/$place; done
exec switch_root /disk /sbin/init
"#;

/// Loads the drivers that the command line names. Each has a file with its modules in order.
const LOAD_DRIVERS: &str = r#"# Sourced by init: loads the drivers that the kernel's command line names.
for word in $(cat /proc/cmdline); do
    case $word in
        pleat.modules=*)
            old=$IFS IFS=,
            for driver in ${word#*=}; do
                while read -r module; do
                    [ -e "/sys/module/$module" ] || insmod "/lib/modules/$module.ko"
                done <"/lib/modules/$driver"
            done
            IFS=$old
            ;;
    esac
done
# Free memory is reported in blocks of 64 KiB. Usual are 2 MiB; but Linux reports nothing as long as no more than 32
# blocks are free (mm/page_reporting.c), and 64 MiB are half of a small guest. The balloon's driver sets the usual value.
order=/sys/module/page_reporting/parameters/page_reporting_order
[ ! -e $order ] || echo 4 >$order
"#;

/// The drivers that our RAM disk loads for a guest. A kernel of somebody else's has modules of its own.
fn drivers(guest: &GuestSpec) -> Vec<Driver> {
    match (guest.kernel.is_debian(), &guest.initramfs) {
        (true, Initramfs::Workload | Initramfs::Agent | Initramfs::Disk) => Driver::of(&guest.devices),
        _ => Vec::new(),
    }
}

/// Its disk has programs for whoever started from the RAM disk.
fn has_programs(guest: &GuestSpec) -> bool {
    let disk = guest.devices.disk.as_ref();
    disk.is_some_and(|disk| !disk.image.is_system())
}

/// The drivers in the RAM disks of these guests. Guests that boot alike share one, and its pages.
pub fn all_drivers<'a>(guests: impl IntoIterator<Item = &'a GuestSpec>) -> Vec<Driver> {
    let mut all: Vec<Driver> = guests.into_iter().flat_map(drivers).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The kernel's command line: the file's, and what its devices need.
pub fn command_line(guest: &GuestSpec) -> Result<String> {
    let mut line = guest.command_line.clone();
    let mut add = |words: String| {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&words);
    };
    let drivers = drivers(guest);
    let words: Vec<&str> = drivers.iter().map(|driver| driver.word()).collect();
    if drivers.contains(&Driver::Memory) {
        // What is plugged can be unplugged again only where the kernel puts nothing that cannot move.
        add("memhp_default_state=online_movable".to_owned());
    }
    if !words.is_empty() {
        add(format!("pleat.modules={}", words.join(",")));
    }
    if drivers.contains(&Driver::Disk) && has_programs(guest) {
        add("pleat.programs=yes".to_owned());
    }
    if !words.is_empty() && guest.devices.typed_at == TypedAt::Virtio {
        add("pleat.shell=hvc0".to_owned());
    }
    ensure!(
        line.len() <= LONGEST_LINE,
        "the command line of guest `{}` has {} characters with what its devices need; a kernel takes {LONGEST_LINE}",
        guest.name,
        line.len()
    );
    Ok(line)
}

/// The RAM disk that works, checks itself and ends in a shell.
pub fn workload_ramdisk(session: &Session, drivers: &[Driver]) -> Result<Vec<u8>> {
    let mut files = vec![
        ("bin/workload".to_owned(), workload::script().into_bytes()),
        ("etc/inittab".to_owned(), workload::INITTAB.into()),
    ];
    add_drivers(session, drivers, &mut files)?;
    initramfs::archive(&busybox(session)?, workload::INIT, &files)
}

/// The same with the agent and jobs for it.
pub fn agent_ramdisk(session: &Session, drivers: &[Driver]) -> Result<Vec<u8>> {
    let mut files = agent::files(session)?;
    add_drivers(session, drivers, &mut files)?;
    initramfs::archive(&busybox(session)?, workload::INIT, &files)
}

/// The RAM disk that starts what is on a disk.
pub fn disk_ramdisk(session: &Session, drivers: &[Driver]) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    add_drivers(session, drivers, &mut files)?;
    initramfs::archive(&busybox(session)?, DISK_INIT, &files)
}

fn busybox(session: &Session) -> Result<Vec<u8>> {
    let busybox = session.tools.get(Tool::Busybox)?;
    fs::read(busybox.program()).context("cannot read busybox")
}

fn add_drivers(session: &Session, drivers: &[Driver], files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    files.push(("lib/drivers".to_owned(), LOAD_DRIVERS.into()));
    if drivers.is_empty() {
        return Ok(());
    }
    let modules = Modules::beside(&session.tools.kernel(KERNEL_PACKAGE)?)?;
    for driver in drivers {
        let mut order = String::new();
        for (name, content) in modules.of(*driver)? {
            order.push_str(&name);
            order.push('\n');
            let file = format!("lib/modules/{name}.ko");
            if !files
                .iter()
                .any(|(known, _)| Path::new(known) == Path::new(&file))
            {
                files.push((file, content));
            }
        }
        files.push((format!("lib/modules/{}", driver.word()), order.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pleat_bundle::config::TypedAt;

    use super::{Driver, all_drivers, command_line};
    use crate::guests::{self, DiskImage, DiskSpec, GuestSpec, Initramfs};

    fn linux() -> GuestSpec {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let file = root.join("guest-tests/scenarios/linux-three.toml");
        guests::read(&file, "linux-three.toml", &root)
            .unwrap()
            .guests
            .remove(0)
    }

    #[test]
    fn the_command_line_names_what_the_guest_has() {
        let mut guest = linux();
        let file_says = guest.command_line.clone();
        let added = |guest: &GuestSpec| {
            let line = command_line(guest).unwrap();
            line.strip_prefix(&file_says).unwrap().trim().to_owned()
        };
        assert_eq!(added(&guest), "pleat.modules=balloon,console,random");
        guest.devices.max_memory_bytes = 1 << 30;
        guest.devices.typed_at = TypedAt::Virtio;
        assert_eq!(
            added(&guest),
            "memhp_default_state=online_movable pleat.modules=balloon,mem,console,random pleat.shell=hvc0"
        );
        guest.devices.disk = Some(DiskSpec {
            image: DiskImage::Programs(vec!["tcc".to_owned()]),
            bytes: 1 << 30,
            written_bytes: None,
        });
        assert!(added(&guest).contains("=disk,balloon,mem,console,random pleat.programs=yes pleat."));
        guest.devices.disk = None;
        guest.devices.balloon = None;
        guest.devices.max_memory_bytes = 0;
        (guest.devices.has_console, guest.devices.has_random) = (false, false);
        assert_eq!(added(&guest), "");
    }

    #[test]
    fn only_our_own_ram_disks_load_drivers() {
        let mut guest = linux();
        guest.devices.disk = Some(DiskSpec {
            image: DiskImage::Debian(Vec::new()),
            bytes: 1 << 30,
            written_bytes: None,
        });
        guest.devices.balloon = None;
        guest.devices.has_random = false;
        guest.initramfs = Initramfs::Disk;
        let both = [linux(), guest.clone()];
        let expected = [Driver::Balloon, Driver::Console, Driver::Disk, Driver::Random];
        assert_eq!(all_drivers(&both), expected);
        guest.initramfs = Initramfs::None;
        assert_eq!(all_drivers(&[guest.clone()]), []);
        assert_eq!(command_line(&guest).unwrap(), guest.command_line);
    }

    #[test]
    fn a_line_that_gets_too_long_is_refused() {
        let mut guest = linux();
        guest.command_line = "x".repeat(2030);
        let message = command_line(&guest).unwrap_err().to_string();
        assert!(message.contains("alder") && message.contains("2047"), "{message}");
    }
}
