//! The information of a Multiboot 2 loader (specification 3.6), turned into a [`BootInfo`].

use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};
use pleat_bundle::handover::{
    BOOT_INFO_MAGIC, BootInfo, MAX_REGIONS, MemoryRegion, REGION_RAM, REGION_RESERVED,
};

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
    let areas = memory.memory_areas();
    if areas.len() > MAX_REGIONS {
        return Err("the loader's memory map has too many ranges");
    }
    for (region, area) in info.regions.iter_mut().zip(areas) {
        let is_ram = area.typ() == MemoryAreaType::Available;
        let kind = if is_ram { REGION_RAM } else { REGION_RESERVED };
        *region = MemoryRegion {
            base: area.start_address(),
            bytes: area.size(),
            kind,
        };
        info.regions_len += 1;
    }
    Ok(info)
}
