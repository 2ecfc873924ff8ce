//! ELF headers, the PVH note, and the ROM file.

use pleat_bundle::elf::{Elf64, ElfError, SegmentKind, is_elf, pvh_entry};
use pleat_bundle::write::rom_image;
use proptest::prelude::*;

const LOAD: u32 = 1;
const NOTE: u32 = 4;

struct ProgramHeader {
    kind: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

fn file(headers: &[ProgramHeader], bytes: usize) -> Vec<u8> {
    let mut file = vec![0_u8; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[18] = 62;
    file[24..32].copy_from_slice(&0x20_1000_u64.to_le_bytes());
    file[32] = 64;
    file[54] = 56;
    file[56] = u8::try_from(headers.len()).expect("few headers");
    for header in headers {
        file.extend_from_slice(&u64::from(header.kind).to_le_bytes());
        let words = [
            header.offset,
            header.address,
            header.address,
            header.file_bytes,
            header.memory_bytes,
            0x1000,
        ];
        words
            .iter()
            .for_each(|word| file.extend_from_slice(&word.to_le_bytes()));
    }
    file.resize(bytes, 0xAB);
    file
}

fn parse_error(header: ProgramHeader) -> Option<ElfError> {
    let file = file(&[header], 4096);
    Elf64::parse(&file, 4096).err()
}

fn note(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_le_bytes();
    let mut note = [length(name), length(value), kind.to_le_bytes()].concat();
    note.extend_from_slice(name);
    note.resize(note.len().next_multiple_of(4), 0);
    note.extend_from_slice(value);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

#[test]
fn segments_are_told_apart() {
    let file = file(
        &[
            ProgramHeader {
                kind: LOAD,
                offset: 512,
                address: 0x20_0000,
                file_bytes: 100,
                memory_bytes: 300,
            },
            ProgramHeader {
                kind: LOAD,
                offset: 0,
                address: 0,
                file_bytes: 0,
                memory_bytes: 0,
            },
            ProgramHeader {
                kind: NOTE,
                offset: 600,
                address: 0,
                file_bytes: 20,
                memory_bytes: 0,
            },
            // Not loaded, so nothing it says matters.
            ProgramHeader {
                kind: 0x6474_E551,
                offset: !0,
                address: !0,
                file_bytes: !0,
                memory_bytes: !0,
            },
        ],
        4096,
    );
    assert!(is_elf(&file));
    let image = Elf64::parse(&file[..512], 4096).expect("a valid image");
    assert_eq!(image.entry(), 0x20_1000);
    assert_eq!(image.segments().count(), 4);
    let loads: Vec<_> = image
        .loads()
        .map(|load| (load.physical_address, load.physical_end()))
        .collect();
    assert_eq!(loads, [(0x20_0000, 0x20_012C)]);
    assert_eq!(
        image.notes().map(|note| note.file_offset).collect::<Vec<_>>(),
        [600]
    );
    assert_eq!(
        image.segments().last().map(|last| last.kind),
        Some(SegmentKind::Other(0x6474_E551))
    );
}

#[test]
fn headers_that_lie_are_refused() {
    let load = |offset, address, file_bytes, memory_bytes| {
        parse_error(ProgramHeader {
            kind: LOAD,
            offset,
            address,
            file_bytes,
            memory_bytes,
        })
    };
    let refused = Some(ElfError::Segment(0));
    assert_eq!(load(0, 0, 4096, 4096), None);
    assert_eq!(load(0, 0, 4097, 4097), refused, "beyond the file");
    assert_eq!(load(1, 0, 4096, 4096), refused, "beyond the file");
    assert_eq!(load(!0, 0, 2, 2), refused, "the sum overflows");
    assert_eq!(load(0, !0, 2, 2), refused, "out of the address space");
    assert_eq!(load(0, 0, 2, 1), refused, "more in the file than in memory");
    let note = ProgramHeader {
        kind: NOTE,
        offset: 4000,
        address: 0,
        file_bytes: 97,
        memory_bytes: 0,
    };
    assert_eq!(parse_error(note), refused);
}

#[test]
fn other_files_are_refused() {
    let error = |at: usize, byte: u8| {
        let mut file = file(&[], 64);
        file[at] = byte;
        Elf64::parse(&file, 64).err()
    };
    assert_eq!(error(0, 0x7F), None);
    assert_eq!(error(0, 0), Some(ElfError::NotElf));
    assert_eq!(error(4, 1), Some(ElfError::NotX86_64), "32 bits");
    assert_eq!(error(5, 2), Some(ElfError::NotX86_64), "big-endian");
    assert_eq!(error(18, 183), Some(ElfError::NotX86_64), "for AArch64");
    assert_eq!(
        error(56, 1),
        Some(ElfError::ProgramHeaders),
        "a table behind the end"
    );
    let mut far = file(&[], 64);
    far[32..40].fill(0xFF);
    assert_eq!(Elf64::parse(&far, 64).err(), Some(ElfError::ProgramHeaders));
    assert_eq!(Elf64::parse(&far[..63], 63).err(), Some(ElfError::ProgramHeaders));
}

#[test]
fn the_pvh_note_is_found_among_others() {
    let other = note(b"GNU\0", 18, &[1; 20]);
    let wide = note(b"Xen\0", 18, &0x100_0000_u64.to_le_bytes());
    let narrow = note(b"Xen\0", 18, &0x10_0020_u32.to_le_bytes());
    let odd = note(b"Linux", 257, &[0; 3]);
    assert_eq!(
        pvh_entry(&[other.clone(), odd.clone(), wide.clone()].concat()),
        Some(0x100_0000)
    );
    assert_eq!(pvh_entry(&[odd, narrow].concat()), Some(0x10_0020));
    assert_eq!(pvh_entry(&other), None);
    assert_eq!(pvh_entry(&wide[..wide.len() - 1]), None, "cut off");
    assert_eq!(
        pvh_entry(&note(b"Xen\0", 18, &(1_u64 << 32).to_le_bytes())),
        None,
        "above 4 GiB"
    );
    assert_eq!(pvh_entry(&note(b"Xen\0", 18, &[0; 5])), None);
}

#[test]
fn the_rom_file_has_each_segment_at_its_place() {
    let header = |address, file_bytes| ProgramHeader {
        kind: LOAD,
        offset: 200,
        address,
        file_bytes,
        memory_bytes: file_bytes + 1000,
    };
    let rom = rom_image(&file(&[header(0xFFFF_0000, 3), header(0xFFFF_FFF0, 16)], 4096)).expect("fits");
    assert_eq!(rom.len(), 65_536);
    assert_eq!(rom.iter().filter(|&&byte| byte == 0xAB).count(), 19);
    assert_eq!(
        (&rom[..4], &rom[65_520..]),
        (&[0xAB, 0xAB, 0xAB, 0][..], &[0xAB; 16][..])
    );
    assert_eq!(
        rom_image(&file(&[header(0xFFFF_FFF0, 17)], 4096)),
        None,
        "beyond 4 GiB"
    );
    assert_eq!(
        rom_image(&file(&[header(0xFFFE_FFFF, 3)], 4096)),
        None,
        "below the ROM"
    );
    assert_eq!(rom_image(&file(&[], 4096)), None, "nothing to load");
}

proptest! {
    #[test]
    fn any_program_headers_are_refused_or_safe(
        table in prop::collection::vec(any::<u8>(), 56 * 4),
        kinds in prop::collection::vec(0_u8..8, 4),
        is_small in any::<bool>(),
    ) {
        let mut bytes = file(&[], 64);
        bytes[56] = 4;
        bytes.extend_from_slice(&table);
        for (index, kind) in kinds.into_iter().enumerate() {
            let at = 64 + index * 56;
            bytes[at..at + 8].copy_from_slice(&u64::from(kind).to_le_bytes());
            if is_small {
                // Keep 20 bits of each field, so that some tables are accepted.
                bytes[at + 8..at + 48].as_chunks_mut::<8>().0.iter_mut().for_each(|field| field[2..].fill(0));
            }
        }
        let total = 1 << 17;
        if let Ok(image) = Elf64::parse(&bytes, total) {
            for load in image.loads() {
                prop_assert!(load.file_offset + load.file_bytes <= total);
                prop_assert!(load.file_bytes <= load.memory_bytes);
                prop_assert!(load.physical_end() >= load.physical_address);
            }
            for note in image.notes() {
                prop_assert!(note.file_offset + note.file_bytes <= total);
            }
        }
    }

    #[test]
    fn any_bytes_are_no_reason_to_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), size in any::<u64>()) {
        let _ = Elf64::parse(&bytes, size).map(|image| image.segments().count());
        let _ = pvh_entry(&bytes);
        let known = b"\x7fELF\x02\x01\x01";
        if bytes.len() >= 64 {
            bytes[..7].copy_from_slice(known);
            bytes[18..20].copy_from_slice(&[62, 0]);
            let count = bytes[56] % 8;
            bytes[54..58].copy_from_slice(&[56, 0, count, 0]);
            let _ = Elf64::parse(&bytes, size).map(|image| image.segments().count());
        }
    }

    #[test]
    fn any_lengths_in_notes_end(words in prop::collection::vec(0_u32..24, 0..200)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let _ = pvh_entry(&bytes);
    }
}
