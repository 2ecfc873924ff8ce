//! Puts a boot bundle together: sections for images, each once, and the configuration record.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use pleat_bundle::SectionKind;
use pleat_bundle::config::{self, DeviceConfig, GuestConfig, HostConfig, RunConfig, Step, Terms};
use pleat_bundle::write::BundleWriter;

use super::{BootOptions, bzimage, cargo, initramfs, symbols, vmlinux, workload};
use crate::context::Context as Session;
use crate::guests::{GuestSpec, Initramfs, Kernel, Scenario, When};
use crate::tools::Tool;
use crate::{files, progress};

const DEBIAN_KERNEL: &str = "linux-image-cloud-amd64";

/// The bundle's bytes.
pub fn assemble(
    session: &Session,
    scenario: &Scenario,
    options: BootOptions,
    hypervisor: &Path,
) -> Result<Vec<u8>> {
    let image = fs::read(hypervisor).with_context(|| format!("cannot read {}", hypervisor.display()))?;
    let stripped = strip_hypervisor(&image)?;
    let mut sections = Sections {
        session,
        writer: BundleWriter::new(),
        kernels: BTreeMap::new(),
        ramdisks: BTreeMap::new(),
    };
    // The ROM copies the hypervisor out of the bundle: first, so that it is found at once.
    sections.writer.add(SectionKind::Hypervisor, "pleat", stripped)?;
    sections
        .writer
        .add(SectionKind::Symbols, "symbols", symbols::section(&image)?)?;
    let images: Vec<(u16, Option<u16>)> = scenario
        .guests
        .iter()
        .map(|guest| sections.images(guest))
        .collect::<Result<_>>()?;
    let record = config::encode(&run_config(scenario, options, &images)?)
        .map_err(|error| anyhow!("configuration: {error}"))?;
    sections.writer.add(SectionKind::Config, "config", record)?;
    Ok(sections.writer.finish())
}

/// Without sections and debugging information; those lie beside it as a file.
fn strip_hypervisor(image: &[u8]) -> Result<Vec<u8>> {
    vmlinux::loadable(image).context("the built hypervisor")
}

struct Sections<'a> {
    session: &'a Session,
    writer: BundleWriter,
    kernels: BTreeMap<Kernel, u16>,
    ramdisks: BTreeMap<Initramfs, u16>,
}

impl Sections<'_> {
    /// The sections of a guest's kernel and RAM disk; guests with the same images share them.
    fn images(&mut self, guest: &GuestSpec) -> Result<(u16, Option<u16>)> {
        let kernel = match self.kernels.get(&guest.kernel) {
            Some(index) => *index,
            None => {
                let content = kernel(self.session, &guest.kernel)?;
                let index = self
                    .writer
                    .add(SectionKind::Kernel, &shown_kernel(&guest.kernel), content)?;
                self.kernels.insert(guest.kernel.clone(), index);
                index
            }
        };
        let ramdisk = match (&guest.initramfs, self.ramdisks.get(&guest.initramfs)) {
            (Initramfs::None, _) => None,
            (_, Some(index)) => Some(*index),
            (Initramfs::Workload, None) => {
                Some(self.ramdisk(&guest.initramfs, "workload", workload_ramdisk(self.session)?)?)
            }
            (Initramfs::File(path), None) => {
                let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                Some(self.ramdisk(&guest.initramfs, "initramfs", content)?)
            }
        };
        Ok((kernel, ramdisk))
    }

    fn ramdisk(&mut self, which: &Initramfs, name: &str, content: Vec<u8>) -> Result<u16> {
        let index = self.writer.add(SectionKind::Initramfs, name, content)?;
        self.ramdisks.insert(which.clone(), index);
        Ok(index)
    }
}

fn shown_kernel(kernel: &Kernel) -> String {
    match kernel {
        Kernel::DebianCloud => "debian-cloud".to_owned(),
        Kernel::DebianCloudBzImage => "debian-cloud-bzimage".to_owned(),
        Kernel::Test(name) => format!("test:{name}"),
        Kernel::File(path) => path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .chars()
            .take(60)
            .collect(),
    }
}

fn kernel(session: &Session, kernel: &Kernel) -> Result<Vec<u8>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read the kernel {}", path.display()));
    match kernel {
        Kernel::DebianCloudBzImage => read(&session.tools.kernel(DEBIAN_KERNEL)?),
        Kernel::DebianCloud => {
            let image = session.tools.kernel(DEBIAN_KERNEL)?;
            let name = image
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .replace("vmlinuz", vmlinux::PREFIX);
            files::cached(&session.paths.images().join(name), || {
                let bar = progress::spinner("unpacking the kernel");
                let small = vmlinux::strip(&bzimage::payload(&read(&image)?)?);
                bar.finish_and_clear();
                small
            })
        }
        Kernel::Test(name) => {
            let file = session.paths.release().join(cargo::package_of(name));
            vmlinux::strip(&read(&file)?).with_context(|| format!("the test kernel {name}"))
        }
        Kernel::File(path) => read(path),
    }
}

/// Makes the kernel and the RAM disk of Linux guests.
pub fn linux(session: &Session) -> Result<()> {
    kernel(session, &Kernel::DebianCloud)?;
    workload_ramdisk(session).map(drop)
}

fn workload_ramdisk(session: &Session) -> Result<Vec<u8>> {
    let busybox = session.tools.get(Tool::Busybox)?;
    let program = fs::read(busybox.program()).context("cannot read busybox")?;
    let files = [
        ("bin/workload", workload::script()),
        ("etc/inittab", workload::INITTAB.to_owned()),
    ];
    initramfs::archive(&program, workload::INIT, &files)
}

/// From which the domains' secrets are made in an emulator, so that a run repeats.
const SEED: u64 = 0x005e_ed0f_9134;

fn run_config<'a>(
    scenario: &'a Scenario,
    options: BootOptions,
    images: &[(u16, Option<u16>)],
) -> Result<RunConfig<'a>> {
    let guest = |(guest, (kernel, initramfs)): (&'a GuestSpec, &(u16, Option<u16>))| GuestConfig {
        name: &guest.name,
        memory_bytes: guest.memory_bytes,
        kernel: *kernel,
        initramfs: *initramfs,
        command_line: &guest.command_line,
        weight: guest.weight,
        domain: &guest.domain,
        pages: guest.pages,
        on_reboot: guest.on_reboot,
        merge: guest.merge,
        terms: Terms::default(),
        devices: DeviceConfig::default(),
    };
    let mut run = RunConfig {
        tsc_hz: options.tsc_hz,
        for_ms: scenario.for_ms,
        is_interactive: options.is_interactive,
        slice_us: scenario.machine.slice_us,
        seed: options.tsc_hz.map(|_| SEED),
        merge: scenario.merge,
        host: HostConfig::default(),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pleat_bundle::config::{MergeConfig, When};

    use super::{BootOptions, run_config};
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
        };
        let images: Vec<(u16, Option<u16>)> = (0..4).map(|index| (index, Some(9))).collect();
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
