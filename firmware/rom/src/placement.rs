//! Where the hypervisor may be loaded.

use pleat_bundle::elf::Elf64;

use crate::memory::ROM_MEMORY_END;

/// The bounds that a hypervisor's segments have to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where RAM ends.
    pub ram_end: u64,
    /// Where the bundle starts.
    pub bundle_base: u64,
    /// Where it ends.
    pub bundle_end: u64,
}

/// Checks that every segment to be loaded lies in RAM, above the ROM's own memory and beside the bundle,
/// and that the entry point is in one of them. `true` when all of that holds.
#[must_use]
pub fn check_placement(image: &Elf64<'_>, bounds: &Placement) -> bool {
    let is_placed = image.loads().all(|segment| {
        let (start, end) = (segment.physical_address, segment.physical_end());
        let is_in_ram = start >= ROM_MEMORY_END && end <= bounds.ram_end;
        let is_beside_bundle = end <= bounds.bundle_base || start >= bounds.bundle_end;
        is_in_ram && is_beside_bundle
    });
    let has_entry = image.loads().any(|segment| {
        // The hypervisor is entered under an identity map.
        let range = segment.physical_address..segment.physical_end();
        segment.physical_address == segment.virtual_address && range.contains(&image.entry())
    });
    is_placed && has_entry
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BOUNDS: Placement = Placement {
        ram_end: 64 * MIB,
        bundle_base: 16 * MIB,
        bundle_end: 32 * MIB,
    };

    /// An ELF file with one segment without file bytes.
    fn image(entry: u64, virtual_address: u64, physical_address: u64, bytes: u64) -> [u8; 120] {
        let mut file = [0; 120];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[18] = 62;
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 1;
        file[80..88].copy_from_slice(&virtual_address.to_le_bytes());
        file[88..96].copy_from_slice(&physical_address.to_le_bytes());
        file[104..112].copy_from_slice(&bytes.to_le_bytes());
        file
    }

    fn is_accepted(entry: u64, virtual_address: u64, physical_address: u64, bytes: u64) -> bool {
        let file = image(entry, virtual_address, physical_address, bytes);
        check_placement(&Elf64::parse(&file, 120).expect("a valid image"), &BOUNDS)
    }

    #[test]
    fn ram_beside_the_bundle_is_accepted() {
        assert!(is_accepted(2 * MIB, 2 * MIB, 2 * MIB, 14 * MIB));
        assert!(is_accepted(33 * MIB, 32 * MIB, 32 * MIB, 32 * MIB));
    }

    #[test]
    fn rom_memory_bundle_and_missing_ram_are_refused() {
        assert!(!is_accepted(MIB - 1, MIB - 1, MIB - 1, 2));
        assert!(!is_accepted(2 * MIB, 2 * MIB, 2 * MIB, 14 * MIB + 1));
        assert!(!is_accepted(20 * MIB, 20 * MIB, 20 * MIB, 1));
        assert!(!is_accepted(2 * MIB, 2 * MIB, 2 * MIB, 40 * MIB));
        assert!(!is_accepted(32 * MIB, 32 * MIB, 32 * MIB, 32 * MIB + 1));
        assert!(!is_accepted(u64::MAX - 1, u64::MAX - 1, u64::MAX - 1, 1));
    }

    #[test]
    fn an_entry_outside_of_the_image_is_refused() {
        assert!(!is_accepted(3 * MIB, 2 * MIB, 2 * MIB, MIB));
        assert!(!is_accepted(4 * MIB, 4 * MIB, 2 * MIB, MIB));
    }
}
