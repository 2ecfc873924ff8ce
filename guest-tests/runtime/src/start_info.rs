//! What the loader tells: memory map and command line (PVH `hvm_start_info`, Xen `start_info.h`).

use core::slice;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::parameters::Parameters;
use crate::regions::{MAX_REGIONS, Region, RegionList};

const MAGIC: u32 = 0x336e_c578;
const E820_RAM: u32 = 1;
const COMMAND_LINE_MAX: usize = 4096;

#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules_len: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_len: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct MapEntry {
    base: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Module {
    base: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

static ADDRESS: AtomicUsize = AtomicUsize::new(0);

/// Remembers where the loader put its record.
pub(crate) fn set_address(address: u64) {
    ADDRESS.store(usize::try_from(address).unwrap_or_default(), Ordering::Relaxed);
}

/// Reads a record that the loader left in memory.
fn read<T: Copy>(address: u64) -> T {
    let address = usize::try_from(address).unwrap_or_default();
    assert!(address != 0, "the loader gave no address");
    // SAFETY: only used for the loader's plain-number records; all of memory below 4 GiB is mapped.
    unsafe { core::ptr::with_exposed_provenance::<T>(address).read_unaligned() }
}

fn info() -> StartInfo {
    let info: StartInfo = read(ADDRESS.load(Ordering::Relaxed) as u64);
    assert!(info.magic == MAGIC, "hvm_start_info has magic {:#x}", info.magic);
    assert!(info.version >= 1, "hvm_start_info version 0 has no memory map");
    info
}

fn command_line_bytes(address: u64) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance::<u8>(usize::try_from(address).unwrap_or_default());
    // SAFETY: the loader ended the line with a zero byte; the length is bounded in any case.
    let len = (0..COMMAND_LINE_MAX)
        .find(|&index| unsafe { start.add(index).read() } == 0)
        .unwrap_or(0);
    // SAFETY: those bytes were just read, and `ram` never hands them out as free memory.
    unsafe { slice::from_raw_parts(start, len) }
}

/// The kernel's command line.
#[must_use]
pub fn command_line() -> &'static str {
    match info().command_line {
        0 => "",
        address => core::str::from_utf8(command_line_bytes(address)).unwrap_or(""),
    }
}

/// The parameters on the command line.
#[must_use]
pub fn parameters() -> Parameters<'static> {
    Parameters::new(command_line())
}

/// The memory that the map calls RAM.
#[must_use]
pub fn ram() -> RegionList {
    let info = info();
    let mut list = RegionList::default();
    for index in 0..u64::from(info.memory_map_len) {
        let entry: MapEntry = read(info.memory_map + index * size_of::<MapEntry>() as u64);
        if entry.kind == E820_RAM {
            list.add(Region::new(entry.base, entry.bytes));
        }
    }
    list
}

/// What lies in RAM already: the loader's records, the command line, the modules.
#[must_use]
pub fn loader_regions() -> RegionList {
    let info = info();
    let mut list = RegionList::default();
    list.add(Region::new(
        ADDRESS.load(Ordering::Relaxed) as u64,
        size_of::<StartInfo>() as u64,
    ));
    list.add(Region::new(
        info.memory_map,
        u64::from(info.memory_map_len) * size_of::<MapEntry>() as u64,
    ));
    if info.command_line != 0 {
        list.add(Region::new(info.command_line, command_line().len() as u64 + 1));
    }
    if info.rsdp != 0 {
        list.add(Region::new(info.rsdp, 36));
    }
    if info.modules_len != 0 {
        list.add(Region::new(
            info.modules,
            u64::from(info.modules_len) * size_of::<Module>() as u64,
        ));
    }
    for index in 0..u64::from(info.modules_len).min(MAX_REGIONS as u64 / 2) {
        let module: Module = read(info.modules + index * size_of::<Module>() as u64);
        list.add(Region::new(module.base, module.bytes));
    }
    list
}
