//! The information of a Multiboot 2 loader (specification 3.6), turned into a [`BootInfo`].

use arrayvec::ArrayVec;
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType, MemoryMapTag};
use pleat_bundle::handover::{BOOT_INFO_MAGIC, BootInfo, MAX_REGIONS, MemoryRegion, REGION_RAM};

/// Reads the loader's tags; the first module is the boot bundle.
pub fn boot_info(address: u64, magic: u32) -> Result<BootInfo, &'static str> {
    if magic != multiboot2::MAGIC {
        return Err("it was started by something that is neither its ROM nor a Multiboot 2 loader");
    }
    // SAFETY: the magic number says that the loader passed the address of its information.
    let information = unsafe { BootInformation::load(address as *const BootInformationHeader) }
        .map_err(|_| "the Multiboot 2 information is damaged")?;
    let module = information
        .module_tags()
        .next()
        .ok_or("the loader gave no boot bundle: add a line `module2 /boot/bundle.pleat` to its menu")?;
    let mut info = BootInfo {
        magic: BOOT_INFO_MAGIC,
        bundle_base: module.start_address().into(),
        bundle_bytes: u64::from(module.end_address() - module.start_address()),
        reset_tsc: 0,
        regions_len: 0,
        regions: [MemoryRegion::default(); MAX_REGIONS],
    };
    let memory = information
        .memory_map_tag()
        .ok_or("the loader gave no memory map")?;
    let mut regions = ram(memory)?;
    regions.sort_unstable_by_key(|region| region.base);
    for (slot, region) in info.regions.iter_mut().zip(&regions) {
        *slot = *region;
    }
    info.regions_len = regions.len() as u64;
    // The same check that the ROM's record passes: no overlaps, no sums that overflow.
    BootInfo::from_bytes(&info.to_bytes()).map_err(|_| "the loader's memory map contradicts itself")
}

/// The ranges of RAM; a large board names many of other kinds.
fn ram(memory: &MemoryMapTag) -> Result<ArrayVec<MemoryRegion, MAX_REGIONS>, &'static str> {
    let mut regions = ArrayVec::new();
    let areas = memory.memory_areas().iter();
    for area in areas.filter(|area| area.typ() == MemoryAreaType::Available) {
        let region = MemoryRegion {
            base: area.start_address(),
            bytes: area.size(),
            kind: REGION_RAM,
        };
        regions
            .try_push(region)
            .map_err(|_| "the loader's memory map has too many ranges")?;
    }
    Ok(regions)
}
