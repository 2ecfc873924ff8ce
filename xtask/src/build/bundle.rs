//! Puts a boot bundle together: sections for images, each once, and the configuration record.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use pleat_bundle::SectionKind;
use pleat_bundle::config;
use pleat_bundle::handover::BUNDLE_BASE;
use pleat_bundle::write::BundleWriter;

use super::drivers::Driver;
use super::linux::{self, KERNEL_PACKAGE};
use super::record::{Images, run_config};
use super::{BootOptions, bzimage, cargo, debian, programs, symbols, vmlinux};
use crate::context::Context as Session;
use crate::guests::{DiskImage, DiskSpec, GuestSpec, Initramfs, Kernel, Scenario};
use crate::{files, progress};

/// Less than this is no use to any guest.
const LEAST_ROOM_MIB: u64 = 8;

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
        drivers: linux::all_drivers(&scenario.guests),
        writer: BundleWriter::new(),
        kernels: BTreeMap::new(),
        ramdisks: BTreeMap::new(),
        disks: BTreeMap::new(),
    };
    // The ROM copies the hypervisor out of the bundle: first, so that it is found at once.
    sections.writer.add(SectionKind::Hypervisor, "pleat", stripped)?;
    sections
        .writer
        .add(SectionKind::Symbols, "symbols", symbols::section(&image)?)?;
    let images: Vec<Images> = scenario
        .guests
        .iter()
        .map(|guest| sections.images(guest))
        .collect::<Result<_>>()?;
    let record = config::encode(&run_config(scenario, options, &images)?)
        .map_err(|error| anyhow!("configuration: {error}"))?;
    sections.writer.add(SectionKind::Config, "config", record)?;
    let bundle = sections.writer.finish();
    check_room(bundle.len() as u64, scenario.machine.memory_mib)?;
    Ok(bundle)
}

/// Besides the bundle a machine needs room below it (16 MiB), and some for its guests.
fn check_room(bundle_bytes: u64, machine_mib: u64) -> Result<()> {
    let needed = (BUNDLE_BASE + bundle_bytes).div_ceil(1 << 20) + LEAST_ROOM_MIB;
    ensure!(
        needed <= machine_mib,
        "kernels, RAM disks and disks of the guests take {} MiB, which a machine of {machine_mib} MiB has no room for; \
         write at least memory = \"{needed}M\" in [machine], more for what the guests touch",
        bundle_bytes.div_ceil(1 << 20)
    );
    Ok(())
}

/// Without sections and debugging information; those lie beside it as a file.
fn strip_hypervisor(image: &[u8]) -> Result<Vec<u8>> {
    vmlinux::loadable(image).context("the built hypervisor")
}

struct Sections<'a> {
    session: &'a Session,
    drivers: Vec<Driver>,
    writer: BundleWriter,
    kernels: BTreeMap<Kernel, u16>,
    ramdisks: BTreeMap<Initramfs, u16>,
    disks: BTreeMap<DiskSpec, u16>,
}

impl Sections<'_> {
    /// The sections of a guest's kernel, RAM disk and disk; guests with the same images share them.
    fn images(&mut self, guest: &GuestSpec) -> Result<Images> {
        Ok(Images {
            command_line: linux::command_line(guest)?,
            kernel: self.kernel(guest)?,
            ramdisk: self.ramdisk(guest)?,
            disk: guest
                .devices
                .disk
                .as_ref()
                .map(|disk| self.disk(disk))
                .transpose()?,
        })
    }

    fn kernel(&mut self, guest: &GuestSpec) -> Result<u16> {
        Ok(match self.kernels.get(&guest.kernel) {
            Some(index) => *index,
            None => {
                let content = kernel(self.session, &guest.kernel)?;
                let index = self
                    .writer
                    .add(SectionKind::Kernel, &shown_kernel(&guest.kernel), content)?;
                self.kernels.insert(guest.kernel.clone(), index);
                index
            }
        })
    }

    fn ramdisk(&mut self, guest: &GuestSpec) -> Result<Option<u16>> {
        if let Some(index) = self.ramdisks.get(&guest.initramfs) {
            return Ok(Some(*index));
        }
        let (name, content) = match &guest.initramfs {
            Initramfs::None => return Ok(None),
            Initramfs::Workload => ("workload", linux::workload_ramdisk(self.session, &self.drivers)?),
            Initramfs::Agent => ("agent", linux::agent_ramdisk(self.session, &self.drivers)?),
            Initramfs::Disk => ("disk-start", linux::disk_ramdisk(self.session, &self.drivers)?),
            Initramfs::File(path) => ("initramfs", read("the RAM disk", path)?),
        };
        let index = self.writer.add(SectionKind::Initramfs, name, content)?;
        self.ramdisks.insert(guest.initramfs.clone(), index);
        Ok(Some(index))
    }

    fn disk(&mut self, disk: &DiskSpec) -> Result<u16> {
        // A file is the same at every size of the disk; a file system is made for one.
        let key = DiskSpec {
            image: disk.image.clone(),
            bytes: match &disk.image {
                DiskImage::Debian(_) | DiskImage::Programs(_) => disk.bytes,
                DiskImage::File(_) => 0,
            },
            written_bytes: None,
        };
        if let Some(index) = self.disks.get(&key) {
            return Ok(*index);
        }
        let (name, content) = match &disk.image {
            DiskImage::Debian(packages) => ("debian", debian::disk(self.session, packages, disk.bytes)?),
            DiskImage::Programs(packages) => {
                ("programs", programs::disk(self.session, packages, disk.bytes)?)
            }
            DiskImage::File(path) => ("disk", read("the disk", path)?),
        };
        let index = self.writer.add(SectionKind::Disk, name, content)?;
        self.disks.insert(key, index);
        Ok(index)
    }
}

fn read(what: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {what} {}", path.display()))
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
    let read = |path: &Path| read("the kernel", path);
    match kernel {
        Kernel::DebianCloudBzImage => read(&session.tools.kernel(KERNEL_PACKAGE)?),
        Kernel::DebianCloud => {
            let image = session.tools.kernel(KERNEL_PACKAGE)?;
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

/// Makes the kernel and the RAM disk of Linux guests, once: later calls find what was made.
pub fn linux(session: &Session, scenario: &Scenario) -> Result<()> {
    kernel(session, &Kernel::DebianCloud)?;
    let drivers = linux::all_drivers(&scenario.guests);
    linux::workload_ramdisk(session, &drivers)?;
    for guest in &scenario.guests {
        if let Some(disk) = &guest.devices.disk {
            fetch_disk(session, disk).with_context(|| format!("guest `{}`", guest.name))?;
        }
    }
    Ok(())
}

fn fetch_disk(session: &Session, disk: &DiskSpec) -> Result<()> {
    match &disk.image {
        DiskImage::Debian(packages) => debian::disk(session, packages, disk.bytes).map(drop),
        DiskImage::Programs(packages) => programs::disk(session, packages, disk.bytes).map(drop),
        DiskImage::File(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_room;

    #[test]
    fn a_machine_needs_room_for_what_it_boots_from() {
        assert!(check_room(8 << 20, 32).is_ok());
        let message = check_room((120 << 20) + 1, 144).unwrap_err().to_string();
        for part in ["121 MiB", "144 MiB", "memory = \"145M\""] {
            assert!(message.contains(part), "{message}");
        }
        assert!(check_room((120 << 20) + 1, 145).is_ok());
    }
}
