//! What memory there is, from the counters that emulators leave in CMOS.
//!
//! Bochs and QEMU both fill them before reset: 0x31:0x30 is KiB above 1 MiB (ends at 64 MiB),
//! 0x35:0x34 is units of 64 KiB above 16 MiB (below 4 GiB), 0x5D:0x5C:0x5B is units of 64 KiB above
//! 4 GiB. Real machines have other means; they boot through GRUB and not through this ROM.

use pleat_bundle::handover::{
    BOOT_INFO_MAGIC, BUNDLE_BASE, BootInfo, MAX_REGIONS, MemoryRegion, REGION_RAM, REGION_RESERVED,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const CMOS_UNIT: u64 = 64 << 10;

/// Below this address the ROM keeps its tables, its Rust stage, its stack and the handover record. The
/// hypervisor is loaded above.
pub const ROM_MEMORY_END: u64 = MIB;
/// Where conventional memory ends: the last KiB below 640 KiB are a BIOS's on many machines.
const CONVENTIONAL_END: u64 = 0x9_F000;
/// I/O APIC, local APIC and ROM lie from here to 4 GiB.
const CHIPS_BASE: u64 = 0xFEC0_0000;

/// The memory counters of CMOS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmosMemory {
    above_1_mib: u64,
    above_16_mib: u64,
    above_4_gib: u64,
}

impl CmosMemory {
    /// Reads the counters; `read` returns the byte of CMOS with this index.
    pub fn read(mut read: impl FnMut(u8) -> u8) -> Self {
        let mut field = |indices: [u8; 3]| {
            indices.into_iter().fold(0, |sum, index| {
                sum << 8 | u64::from(if index == 0 { 0 } else { read(index) })
            })
        };
        Self {
            above_1_mib: field([0, 0x31, 0x30]) * 1024,
            above_16_mib: field([0, 0x35, 0x34]) * CMOS_UNIT,
            above_4_gib: field([0x5D, 0x5C, 0x5B]) * CMOS_UNIT,
        }
    }

    /// Where the RAM that starts at 1 MiB ends.
    #[must_use]
    pub fn low_end(&self) -> u64 {
        let end = if self.above_16_mib == 0 {
            MIB + self.above_1_mib.min(15 * MIB)
        } else {
            16 * MIB + self.above_16_mib
        };
        end.min(CHIPS_BASE)
    }

    /// All of memory, in ascending order; unused places of the array are zero.
    fn regions(&self) -> ([MemoryRegion; MAX_REGIONS], u64) {
        let ranges = [
            (0, CONVENTIONAL_END, REGION_RAM),
            (CONVENTIONAL_END, MIB, REGION_RESERVED),
            (MIB, self.low_end(), REGION_RAM),
            (CHIPS_BASE, 4 * GIB, REGION_RESERVED),
            (4 * GIB, 4 * GIB + self.above_4_gib, REGION_RAM),
        ];
        let mut regions = [MemoryRegion::default(); MAX_REGIONS];
        let mut used = 0;
        let filled = ranges.into_iter().filter(|(base, end, _)| end > base);
        for (region, (base, end, kind)) in regions.iter_mut().zip(filled) {
            *region = MemoryRegion {
                base,
                bytes: end - base,
                kind,
            };
            used += 1;
        }
        (regions, used)
    }
}

/// The record for the hypervisor.
#[must_use]
pub fn boot_info(memory: &CmosMemory, bundle_bytes: u64, reset_tsc: u64) -> BootInfo {
    let (regions, regions_len) = memory.regions();
    BootInfo {
        magic: BOOT_INFO_MAGIC,
        bundle_base: BUNDLE_BASE,
        bundle_bytes,
        reset_tsc,
        regions_len,
        regions,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn cmos(bytes: u64) -> impl FnMut(u8) -> u8 {
        let low = bytes.min(3 * GIB);
        let above_1 = ((low - MIB) / 1024).min(0xFFFF).to_le_bytes();
        let above_16 = (low.saturating_sub(16 * MIB) / CMOS_UNIT).to_le_bytes();
        let above_4g = ((bytes - low) / CMOS_UNIT).to_le_bytes();
        move |index| match index {
            0x30 => above_1[0],
            0x31 => above_1[1],
            0x34 => above_16[0],
            0x35 => above_16[1],
            0x5B => above_4g[0],
            0x5C => above_4g[1],
            0x5D => above_4g[2],
            other => panic!("CMOS {other:#x} is no memory counter"),
        }
    }

    #[test]
    fn sizes_of_machines() {
        for bytes in [8 * MIB, 16 * MIB, 64 * MIB, 320 * MIB, 2 * GIB] {
            let memory = CmosMemory::read(cmos(bytes));
            assert_eq!(memory.low_end(), bytes);
            let info = boot_info(&memory, 4096, 7);
            let ram: u64 = info
                .regions()
                .iter()
                .filter(|region| region.kind == REGION_RAM)
                .map(|region| region.bytes)
                .sum();
            assert_eq!(ram, bytes - (MIB - CONVENTIONAL_END));
        }
    }

    #[test]
    fn memory_above_4_gib_is_a_region_of_its_own() {
        let memory = CmosMemory::read(cmos(5 * GIB));
        assert_eq!(memory.low_end(), 3 * GIB);
        let info = boot_info(&memory, 4096, 7);
        let last = info.regions().last().copied();
        assert_eq!(
            last,
            Some(MemoryRegion {
                base: 4 * GIB,
                bytes: 2 * GIB,
                kind: REGION_RAM
            })
        );
    }

    proptest! {
        #[test]
        fn any_counters_make_a_record_that_the_hypervisor_accepts(bytes in any::<[u8; 128]>()) {
            let memory = CmosMemory::read(|index| bytes[usize::from(index)]);
            let info = boot_info(&memory, 4096, 7);
            assert_eq!(BootInfo::from_bytes(&info.to_bytes()), Ok(info));
        }
    }
}
