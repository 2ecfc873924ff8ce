//! The configuration record: what the guests file says, with the sections its images are in.

use anyhow::{Result, anyhow};
use pleat_bundle::config::{self, DeviceConfig, DiskConfig, GuestConfig, HostDisk, RunConfig, Step};

use super::BootOptions;
use crate::guests::{DeviceSpec, DiskBus, GuestSpec, HostDiskSpec, Scenario, When};

/// The sections of a guest's images, and what the kernel among them is told.
#[derive(Clone, Debug)]
pub struct Images {
    /// Its kernel's whole command line.
    pub command_line: String,
    /// Its kernel.
    pub kernel: u16,
    /// Its initial RAM disk, if it has one.
    pub ramdisk: Option<u16>,
    /// The base image of its disk, if it has one.
    pub disk: Option<u16>,
}

/// From which the domains' secrets are made in an emulator, so that a run repeats.
const SEED: u64 = 0x005e_ed0f_9134;

/// The record of a scenario whose images are in these sections.
pub fn run_config<'a>(
    scenario: &'a Scenario,
    options: BootOptions,
    images: &'a [Images],
) -> Result<RunConfig<'a>> {
    let guest = |(guest, images): (&'a GuestSpec, &'a Images)| GuestConfig {
        name: &guest.name,
        memory_bytes: guest.memory_bytes,
        kernel: images.kernel,
        initramfs: images.ramdisk,
        command_line: &images.command_line,
        weight: guest.weight,
        domain: &guest.domain,
        pages: guest.pages,
        start: guest.start,
        on_reboot: guest.on_reboot,
        merge: guest.merge,
        terms: guest.terms,
        devices: devices(&guest.devices, images.disk),
    };
    let mut run = RunConfig {
        tsc_hz: options.tsc_hz,
        for_ms: scenario.for_ms,
        is_interactive: options.is_interactive,
        slice_us: scenario.machine.slice_us,
        seed: options.tsc_hz.map(|_| SEED),
        merge: scenario.merge,
        reclaim: scenario.reclaim,
        host: scenario.host,
        disk: host_disk(scenario.machine.disk.filter(|_| options.has_disk)),
        ..RunConfig::default()
    };
    let full = |what: &str| anyhow!("too many {what}");
    for event in &scenario.until {
        run.until
            .try_push(event)
            .map_err(|_| full("events to wait for"))?;
    }
    for guest in scenario.guests.iter().zip(images).map(guest) {
        run.guests.try_push(guest).map_err(|_| full("guests"))?;
    }
    for step in &scenario.script {
        let when = match &step.when {
            When::Micros(micros) => config::When::Micros(*micros),
            When::Event { guest, event } => config::When::Event { guest, event },
            When::Every { period_us, from_us } => config::When::Every {
                period_us: *period_us,
                from_us: *from_us,
            },
        };
        run.script
            .try_push(Step {
                when,
                command: &step.command,
            })
            .map_err(|_| full("steps"))?;
    }
    Ok(run)
}

/// What the hypervisor may use as its disk.
fn host_disk(disk: Option<HostDiskSpec>) -> HostDisk {
    match disk.map(|disk| disk.bus) {
        None => HostDisk::Absent,
        Some(DiskBus::Ata) => HostDisk::Best,
        Some(DiskBus::AtaPio) => HostDisk::AtaPio,
        Some(DiskBus::Virtio) => HostDisk::Virtio,
    }
}

/// A guest's devices, with its disk in that section.
fn devices(spec: &DeviceSpec, disk: Option<u16>) -> DeviceConfig {
    DeviceConfig {
        balloon: spec.balloon,
        max_memory_bytes: spec.max_memory_bytes,
        has_console: spec.has_console,
        has_random: spec.has_random,
        disk: disk.zip(spec.disk.as_ref()).map(|(image, disk)| DiskConfig {
            image,
            bytes: disk.bytes,
            written_bytes: disk.written_bytes,
        }),
        typed_at: spec.typed_at,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pleat_bundle::config::{DiskConfig, HostDisk, MergeConfig, When};

    use super::{BootOptions, Images, run_config};
    use crate::guests;

    #[test]
    fn the_record_says_what_the_file_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let file = root.join("guest-tests/scenarios/density.toml");
        let mut scenario = guests::read(&file, "density.toml", &root).unwrap();
        scenario.merge.pace = Some(20_000_000);
        scenario.guests[1].merge = guests::Merge::Off;
        let options = BootOptions {
            tsc_hz: Some(7),
            is_interactive: false,
            has_disk: true,
        };
        scenario.guests[2].terms.shares = 7;
        scenario.machine.disk = Some(guests::HostDiskSpec {
            mebibytes: 1,
            bus: guests::DiskBus::AtaPio,
            bad_block: None,
            pace: None,
        });
        scenario.guests[2].devices.disk = Some(guests::DiskSpec {
            image: guests::DiskImage::Debian(Vec::new()),
            bytes: 1 << 20,
            written_bytes: Some(4096),
        });
        let images = |kernel| Images {
            command_line: format!("line {kernel}"),
            kernel,
            ramdisk: Some(9),
            disk: (kernel == 2).then_some(5),
        };
        let images: Vec<Images> = (0..4).map(images).collect();
        let record = run_config(&scenario, options, &images).unwrap();
        let merge = MergeConfig {
            pace: Some(20_000_000),
            ..MergeConfig::default()
        };
        assert_eq!((record.merge, record.seed.is_some()), (merge, true));
        assert_eq!(
            (record.guests[1].merge, record.guests[1].domain),
            (guests::Merge::Off, "web")
        );
        assert_eq!(
            (record.guests[3].kernel, record.guests[3].initramfs),
            (3, Some(9))
        );
        let disk = DiskConfig {
            image: 5,
            bytes: 1 << 20,
            written_bytes: Some(4096),
        };
        assert_eq!(
            (record.guests[2].terms.shares, record.guests[2].devices.disk),
            (7, Some(disk))
        );
        assert_eq!(record.disk, HostDisk::AtaPio);
        let elsewhere = BootOptions {
            has_disk: false,
            ..options
        };
        let image = run_config(&scenario, elsewhere, &images).unwrap();
        assert_eq!(
            image.disk,
            HostDisk::Absent,
            "the first disk of another machine is not ours"
        );
        assert_eq!(record.guests[3].command_line, "line 3");
        assert_eq!((record.host, record.guests[1].devices), Default::default());
        let repeated = When::Every {
            period_us: 250_000,
            from_us: 8_000_000,
        };
        assert!(
            record
                .script
                .iter()
                .any(|step| step.when == repeated && step.command == "stats")
        );
        let up = When::Event {
            guest: "d",
            event: "up",
        };
        assert!(record.script.iter().any(|step| step.when == up));
    }
}
