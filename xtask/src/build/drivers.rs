//! The kernel modules that drive a guest's virtio devices, out of Debian's kernel package.
//!
//! Debian signs its modules. Checking a signature costs a guest about 10 M instructions a module and proves
//! nothing about a file that this machine has put there; a module without one is loaded all the same (and
//! taints the kernel, which changes nothing here). So the signatures are cut off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

use crate::guests::DeviceSpec;
use crate::process;

/// What drives a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Driver {
    /// The balloon.
    Balloon,
    /// Memory that is plugged and unplugged.
    Memory,
    /// The console and the port for pressure.
    Console,
    /// The disk.
    Disk,
    /// The source of random numbers.
    Random,
}

impl Driver {
    /// The drivers of a guest's devices.
    pub fn of(devices: &DeviceSpec) -> Vec<Self> {
        let wanted = [
            (devices.disk.is_some(), Self::Disk),
            (devices.balloon.is_some(), Self::Balloon),
            (devices.max_memory_bytes != 0, Self::Memory),
            (devices.has_console, Self::Console),
            (devices.has_random, Self::Random),
        ];
        let wanted = wanted.into_iter().filter(|(is_there, _)| *is_there);
        wanted.map(|(_, driver)| driver).collect()
    }

    /// Its name on the kernel's command line and in the RAM disk.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Balloon => "balloon",
            Self::Memory => "mem",
            Self::Console => "console",
            Self::Disk => "disk",
            Self::Random => "random",
        }
    }

    /// What has to be loaded for it. Nothing depends on `virtio_pci`, and no device is found without it.
    const fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Balloon => &["virtio_pci", "virtio_balloon"],
            Self::Memory => &["virtio_pci", "virtio_mem"],
            Self::Console => &["virtio_pci", "virtio_console"],
            Self::Disk => &["virtio_pci", "virtio_blk", "ext4"],
            Self::Random => &["virtio_pci", "virtio_rng"],
        }
    }
}

/// The modules of one kernel.
#[derive(Debug)]
pub struct Modules {
    files: BTreeMap<String, PathBuf>,
    built_in: String,
}

impl Modules {
    /// Of the kernel package that this image was unpacked from.
    pub fn beside(image: &Path) -> Result<Self> {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let release = name.trim_start_matches("vmlinuz-");
        let root = image.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        // Where /lib is a link to /usr/lib packages carry the latter.
        let places = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place).join(release));
        let Some(directory) = places.iter().find(|place| place.is_dir()) else {
            bail!(
                "the kernel package has no modules for {release} below {}",
                root.display()
            )
        };
        let mut files = BTreeMap::new();
        collect(&directory.join("kernel"), &mut files)?;
        let list = directory.join("modules.builtin");
        let built_in =
            fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        Ok(Self { files, built_in })
    }

    /// The modules of a driver with their names, in the order they are to be loaded in.
    pub fn of(&self, driver: Driver) -> Result<Vec<(String, Vec<u8>)>> {
        let mut loaded = Vec::new();
        for name in driver.modules() {
            self.add(name, &mut loaded)
                .with_context(|| format!("the driver `{}`", driver.word()))?;
        }
        Ok(loaded)
    }

    fn add(&self, name: &str, loaded: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        if loaded.iter().any(|(known, _)| known == name) || self.is_built_in(name) {
            return Ok(());
        }
        let file = self
            .files
            .get(name)
            .with_context(|| format!("the kernel package has no module {name}"))?;
        let module = unsigned(read(file)?);
        for other in needed(&module).with_context(|| format!("the module {name}"))? {
            self.add(&other, loaded)?;
        }
        loaded.push((name.to_owned(), module));
        // Modules come in a handful and need each other in a tree a few levels deep.
        ensure!(loaded.len() < 64, "the modules need each other without end");
        Ok(())
    }

    fn is_built_in(&self, name: &str) -> bool {
        self.built_in
            .lines()
            .any(|line| module_name(Path::new(line)) == name)
    }
}

/// Notes every module below a directory.
fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.insert(module_name(&path), path);
        }
    }
    Ok(())
}

/// A module's name as the kernel has it: `virtio-rng.ko.xz` is `virtio_rng`.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|ending| ending == "xz") {
        return Ok(process::run(Command::new("xz").arg("-dc").arg(file))?.stdout);
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// What a signed module ends with (include/linux/module_signature.h and kernel/module_signature.c).
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// Bytes of `struct module_signature` before it; the last four are the signature's length, big-endian.
const SIGNATURE_RECORD: usize = 12;

/// A module without its signature.
fn unsigned(mut module: Vec<u8>) -> Vec<u8> {
    let end = module
        .strip_suffix(SIGNED)
        .and_then(|rest| rest.split_last_chunk::<4>())
        .and_then(|(rest, length)| {
            let signature = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            (rest.len() + 4).checked_sub(SIGNATURE_RECORD + signature)
        });
    if let Some(end) = end {
        module.truncate(end);
    }
    module
}

/// The modules that have to be there before this one.
fn needed(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("is no ELF file")?;
    let section = file
        .section_by_name(".modinfo")
        .context("says nothing about itself")?;
    let facts = section.data().context("has no readable .modinfo")?;
    let depends = facts
        .split(|byte| *byte == 0)
        .find_map(|fact| fact.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(depends.unwrap_or_default()).into_owned();
    let names = names.split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SIGNED, module_name, unsigned};

    #[test]
    fn signatures_are_cut_off_and_what_has_none_is_left_alone() {
        let record = |length: u32| [&[0_u8; 8][..], &length.to_be_bytes()].concat();
        let signed = |length| [b"code", &b"signature"[..], &record(length), SIGNED].concat();
        assert_eq!(unsigned(signed(9)), b"code");
        for odd in [signed(1000), signed(u32::MAX), b"code".to_vec(), SIGNED.to_vec()] {
            assert_eq!(unsigned(odd.clone()), odd);
        }
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        for (file, name) in [
            ("kernel/drivers/char/hw_random/virtio-rng.ko", "virtio_rng"),
            ("virtio_mem.ko.xz", "virtio_mem"),
        ] {
            assert_eq!(module_name(Path::new(file)), name);
        }
    }
}
