//! What the ROM hands to the hypervisor, and the fixed places both know.
//!
//! The hypervisor's ELF entry point is entered in 64-bit mode: the first 4 GiB are identity mapped by
//! the ROM's temporary tables below 640 KiB, interrupts are off, CR4.OSFXSR and CR4.OSXMMEXCPT are
//! set, RDI is the physical address of a [`BootInfo`] below 640 KiB. Everything else (stack, GDT,
//! IDT) is the hypervisor's to make.

use crate::bytes::u64_at;

/// First field of a [`BootInfo`]: "PLEATBI1".
pub const BOOT_INFO_MAGIC: u64 = u64::from_le_bytes(*b"PLEATBI1");
/// The most memory regions of a [`BootInfo`].
pub const MAX_REGIONS: usize = 32;
/// The kind of a region that is usable RAM; every other value is reserved.
pub const REGION_RAM: u64 = 1;
/// The kind that the ROM gives to reserved regions.
pub const REGION_RESERVED: u64 = 2;

/// Where the bundle lies when our ROM boots: 16 MiB.
pub const BUNDLE_BASE: u64 = 0x100_0000;

/// Where a byte appears on the emulator's standard output: `port_e9_hack` of Bochs, `-debugcon` of QEMU.
pub const DEBUG_PORT: u16 = 0xE9;
/// The first serial port.
pub const COM1_PORT: u16 = 0x3F8;
/// The second serial port.
pub const COM2_PORT: u16 = 0x2F8;
/// Bochs ends when [`BOCHS_POWER_OFF_BYTES`] are written here one by one.
pub const BOCHS_POWER_OFF_PORT: u16 = 0x8900;
/// See [`BOCHS_POWER_OFF_PORT`].
pub const BOCHS_POWER_OFF_BYTES: [u8; 8] = *b"Shutdown";
/// QEMU with `-device isa-debug-exit,iobase=0xf4,iosize=0x04` ends with status `2 * value + 1`.
pub const QEMU_EXIT_PORT: u16 = 0xF4;
/// Everything went well.
pub const EXIT_OK: u8 = 0;
/// The run failed.
pub const EXIT_FAILED: u8 = 1;
/// The hypervisor crashed.
pub const EXIT_CRASH: u8 = 2;
/// The processor lacks something Pleat needs.
pub const EXIT_CANNOT_RUN: u8 = 3;
/// The ROM found nothing it could boot.
pub const EXIT_FIRMWARE: u8 = 4;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryRegion {
    /// Its first address.
    pub base: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// [`REGION_RAM`], else it is reserved.
    pub kind: u64,
}

/// The record that RDI points to. Its layout is that of `repr(C)`, all fields little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_INFO_MAGIC`].
    pub magic: u64,
    /// Physical address of the bundle.
    pub bundle_base: u64,
    /// Size of the bundle, as its header says.
    pub bundle_bytes: u64,
    /// The time-stamp counter as early after reset as software can read it.
    pub reset_tsc: u64,
    /// How many of `regions` are used.
    pub regions_len: u64,
    /// What physical memory there is, in ascending order and without overlaps.
    pub regions: [MemoryRegion; MAX_REGIONS],
}

/// What is wrong with a [`BootInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverError {
    /// It does not start with [`BOOT_INFO_MAGIC`].
    Magic,
    /// It names more regions than it has room for.
    RegionCount,
    /// This region leaves the address space, or does not lie above its predecessor.
    Region(usize),
    /// The bundle leaves the address space.
    Bundle,
}

impl BootInfo {
    /// Its size in bytes.
    pub const BYTES: usize = 5 * 8 + MAX_REGIONS * 24;

    /// Reads a copy of the record and checks it: afterwards every sum of a base and its size fits,
    /// and the regions ascend without overlaps.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, HandoverError> {
        // The offsets below are inside the array by its type.
        let word = |index: usize| u64_at(bytes, index * 8).unwrap_or_default();
        if word(0) != BOOT_INFO_MAGIC {
            return Err(HandoverError::Magic);
        }
        let regions = core::array::from_fn(|index| {
            let first = 5 + index * 3;
            MemoryRegion {
                base: word(first),
                bytes: word(first + 1),
                kind: word(first + 2),
            }
        });
        let info = Self {
            magic: word(0),
            bundle_base: word(1),
            bundle_bytes: word(2),
            reset_tsc: word(3),
            regions_len: word(4),
            regions,
        };
        info.check()?;
        Ok(info)
    }

    /// The record's bytes, as [`BootInfo::from_bytes`] reads them.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let head = [
            self.magic,
            self.bundle_base,
            self.bundle_bytes,
            self.reset_tsc,
            self.regions_len,
        ];
        let regions = self
            .regions
            .iter()
            .flat_map(|region| [region.base, region.bytes, region.kind]);
        let mut bytes = [0; Self::BYTES];
        for (field, value) in bytes
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(head.into_iter().chain(regions))
        {
            *field = value.to_le_bytes();
        }
        bytes
    }

    /// The regions that are used.
    #[must_use]
    pub fn regions(&self) -> &[MemoryRegion] {
        usize::try_from(self.regions_len)
            .ok()
            .and_then(|length| self.regions.get(..length))
            .unwrap_or(&self.regions)
    }

    fn check(&self) -> Result<(), HandoverError> {
        if self.regions_len > MAX_REGIONS as u64 {
            return Err(HandoverError::RegionCount);
        }
        self.bundle_base
            .checked_add(self.bundle_bytes)
            .ok_or(HandoverError::Bundle)?;
        let mut free_from = 0;
        for (index, region) in self.regions().iter().enumerate() {
            if region.base < free_from {
                return Err(HandoverError::Region(index));
            }
            free_from = region
                .base
                .checked_add(region.bytes)
                .ok_or(HandoverError::Region(index))?;
        }
        Ok(())
    }
}
