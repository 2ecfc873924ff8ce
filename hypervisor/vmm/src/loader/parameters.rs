//! What a kernel is told at its entry, in the two formats it may want.
//!
//! PVH: `hvm_start_info` version 1 (Xen, `arch-x86/hvm/start_info.h`), with module list and memory
//! map in the same page. Linux: `boot_params` (Linux, Documentation/arch/x86/zero-page.rst and
//! boot.rst), one page.

use super::bzimage::SetupHeader;
use super::layout::{ACPI, COMMAND_LINE, PARAMETERS, Ram};
use pleat_types::FRAME_SIZE;

const PVH_MAGIC: u32 = 0x336e_c578;
const PVH_VERSION: u32 = 1;
const PVH_MODULES_AT: usize = 0x40;
const PVH_MAP_AT: usize = 0x80;

/// Where the initial RAM disk lies in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Initramfs {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// A page of little-endian fields.
struct Page([u8; FRAME_SIZE]);

impl Page {
    fn new() -> Self {
        Self([0; FRAME_SIZE])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// The page at [`PARAMETERS`] for the PVH entry.
pub(crate) fn pvh_page(ram: &Ram, initramfs: Option<Initramfs>) -> [u8; FRAME_SIZE] {
    let mut page = Page::new();
    let at = |offset: usize| PARAMETERS.get() + offset as u64;
    page.put_u32(0, PVH_MAGIC);
    page.put_u32(4, PVH_VERSION);
    page.put_u64(24, COMMAND_LINE.get());
    page.put_u64(32, ACPI.get());
    if let Some(module) = initramfs {
        page.put_u32(12, 1);
        page.put_u64(16, at(PVH_MODULES_AT));
        page.put_u64(PVH_MODULES_AT, module.start);
        page.put_u64(PVH_MODULES_AT + 8, module.bytes);
    }
    let mut entries = 0;
    for range in ram.map() {
        let entry = PVH_MAP_AT + 24 * entries as usize;
        page.put_u64(entry, range.start);
        page.put_u64(entry + 8, range.bytes);
        page.put_u32(entry + 16, range.kind as u32);
        entries += 1;
    }
    page.put_u64(40, at(PVH_MAP_AT));
    page.put_u32(48, entries);
    page.0
}

/// The page at [`PARAMETERS`] for Linux's 32-bit boot protocol.
pub(crate) fn linux_page(header: &SetupHeader, ram: &Ram, initramfs: Option<Initramfs>) -> [u8; FRAME_SIZE] {
    const RSDP_AT: usize = 0x70;
    const E820_COUNT_AT: usize = 0x1e8;
    const E820_AT: usize = 0x2d0;
    const LOADER_TYPE_AT: usize = 0x210;
    const LOADER_TYPE_UNREGISTERED: u8 = 0xff;
    const LOAD_FLAGS_AT: usize = 0x211;
    // Without a random offset of the kernel's memory every boot of the same guest is the same.
    const KASLR_FLAG: u8 = 1 << 1;
    const RAMDISK_AT: usize = 0x218;
    const COMMAND_LINE_AT: usize = 0x228;
    let mut page = Page::new();
    page.put(SetupHeader::OFFSET, header.bytes());
    page.put_u64(RSDP_AT, ACPI.get());
    page.put(LOADER_TYPE_AT, &[LOADER_TYPE_UNREGISTERED]);
    page.0[LOAD_FLAGS_AT] &= !KASLR_FLAG;
    page.put(COMMAND_LINE_AT, &COMMAND_LINE.get().to_le_bytes()[..4]);
    if let Some(Initramfs { start, bytes }) = initramfs {
        // Both lie below the hole, hence below 4 GiB.
        page.put(RAMDISK_AT, &start.to_le_bytes()[..4]);
        page.put(RAMDISK_AT + 4, &bytes.to_le_bytes()[..4]);
    }
    let mut entries = 0u8;
    for range in ram.map() {
        let entry = E820_AT + 20 * usize::from(entries);
        page.put_u64(entry, range.start);
        page.put_u64(entry + 8, range.bytes);
        page.put_u32(entry + 16, range.kind as u32);
        entries += 1;
    }
    page.put(E820_COUNT_AT, &[entries]);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u64_at(page: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(page[at..at + 8].try_into().expect("eight bytes"))
    }

    #[test]
    fn the_pvh_page_points_into_itself() {
        let ram = Ram::new(64 << 20);
        let page = pvh_page(
            &ram,
            Some(Initramfs {
                start: 0x300_0000,
                bytes: 5000,
            }),
        );
        assert_eq!(page[..8], [0x78, 0xc5, 0x6e, 0x33, 1, 0, 0, 0]);
        let module = usize::try_from(u64_at(&page, 16) - PARAMETERS.get()).expect("in the page");
        assert_eq!(
            (u64_at(&page, module), u64_at(&page, module + 8)),
            (0x300_0000, 5000)
        );
        let map = usize::try_from(u64_at(&page, 40) - PARAMETERS.get()).expect("in the page");
        assert_eq!(page[48], 3);
        assert_eq!(
            (u64_at(&page, map + 48), u64_at(&page, map + 56)),
            (0x10_0000, 63 << 20)
        );
        assert_eq!(page[12], 1);
        assert_eq!(pvh_page(&ram, None)[12], 0);
    }
}
