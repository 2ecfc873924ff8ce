//! The bundle: what was written is read again, damage is found, and no bytes make the reader panic.

use pleat_bundle::header::{MAX_SECTION_NAME, MAX_SECTIONS};
use pleat_bundle::write::{BundleWriter, WriteError};
use pleat_bundle::{Bundle, BundleError, Header, PAGE_SIZE, SectionCheck, SectionKind};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

const KINDS: [SectionKind; 5] = [
    SectionKind::Hypervisor,
    SectionKind::Kernel,
    SectionKind::Initramfs,
    SectionKind::Config,
    SectionKind::Symbols,
];

fn sample() -> Vec<u8> {
    let mut writer = BundleWriter::new();
    assert_eq!(writer.add(SectionKind::Kernel, "kernel", vec![1; 5000]), Ok(0));
    assert_eq!(writer.add(SectionKind::Initramfs, "empty", []), Ok(1));
    assert_eq!(
        writer.add(SectionKind::Hypervisor, "pleat", vec![2; PAGE_SIZE]),
        Ok(2)
    );
    writer.finish()
}

/// The header page with a checksum that is right again after a change.
fn with_checksum(mut file: Vec<u8>) -> Vec<u8> {
    file[24..32].fill(0);
    let checksum = xxh3_64(&file[..PAGE_SIZE]);
    file[24..32].copy_from_slice(&checksum.to_le_bytes());
    file
}

fn error_after(change: impl FnOnce(&mut Vec<u8>)) -> Option<BundleError> {
    let mut file = sample();
    change(&mut file);
    Bundle::parse(&with_checksum(file)).err()
}

#[test]
fn places_are_pages_and_padding_is_zero() {
    let file = sample();
    assert_eq!(file.len(), 4 * PAGE_SIZE);
    let bundle = Bundle::parse(&file).expect("a valid bundle");
    let places: Vec<_> = bundle
        .header()
        .sections()
        .iter()
        .map(|s| (s.offset, s.bytes))
        .collect();
    assert_eq!(places, [(4096, 5000), (3 * 4096, 0), (3 * 4096, 4096)]);
    assert_eq!(
        bundle
            .header()
            .find(SectionKind::Hypervisor)
            .map(|(index, _)| index),
        Some(2)
    );
    assert_eq!(bundle.header().find(SectionKind::Symbols), None);
    assert_eq!(bundle.section(3), Err(BundleError::NoSection { section: 3 }));
}

#[test]
fn damage_is_found_where_it_is() {
    let file = sample();
    let verdict = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 0x10;
        Bundle::parse(&file).and_then(|bundle| bundle.verify(0).and_then(|()| bundle.verify(2)))
    };
    assert_eq!(verdict(3), Err(BundleError::NoBundle));
    assert_eq!(verdict(PAGE_SIZE - 1), Err(BundleError::HeaderChecksum));
    assert_eq!(verdict(PAGE_SIZE), Err(BundleError::SectionChecksum));
    assert_eq!(verdict(PAGE_SIZE + 4999), Err(BundleError::SectionChecksum));
    assert_eq!(verdict(PAGE_SIZE + 5000), Err(BundleError::SectionPadding));
    assert_eq!(verdict(4 * PAGE_SIZE - 1), Err(BundleError::SectionChecksum));
    assert_eq!(
        Bundle::parse(&file[..file.len() - 1]).err(),
        Some(BundleError::Truncated)
    );
    assert_eq!(
        Bundle::parse(&file[..PAGE_SIZE - 1]).err(),
        Some(BundleError::Truncated)
    );
}

#[test]
fn a_header_that_lies_is_refused() {
    // Offsets: firmware/README.md, "The boot bundle".
    let place = |section| Some(BundleError::SectionPlace { section });
    assert_eq!(
        error_after(|file| file[8] = 2),
        Some(BundleError::Version { found: 2 })
    );
    assert_eq!(
        error_after(|file| file[12] = 33),
        Some(BundleError::SectionCount { found: 33 })
    );
    assert_eq!(
        error_after(|file| file[12..16].fill(0xFF)),
        Some(BundleError::SectionCount { found: !0 })
    );
    assert_eq!(error_after(|file| file[16] = 1), Some(BundleError::Size));
    assert_eq!(error_after(|file| file[16..24].fill(0)), Some(BundleError::Size));
    assert_eq!(error_after(|file| file[23] = 0x80), Some(BundleError::Size));
    assert_eq!(
        error_after(|file| file[64] = 9),
        Some(BundleError::SectionKind { section: 0, found: 9 })
    );
    assert_eq!(
        error_after(|file| file[68] = 65),
        Some(BundleError::SectionName { section: 0 })
    );
    assert_eq!(
        error_after(|file| file[96] = 0xFF),
        Some(BundleError::SectionName { section: 0 })
    );
    assert_eq!(error_after(|file| file[73] = 0), place(0), "over the header");
    assert_eq!(error_after(|file| file[72] = 1), place(0), "not on a page");
    assert_eq!(
        error_after(|file| file[80..88].fill(0xFF)),
        place(0),
        "longer than an address"
    );
    assert_eq!(
        error_after(|file| file[72..80].fill(0xFF)),
        place(0),
        "behind everything"
    );
    assert_eq!(
        error_after(|file| file[64 + 2 * 96 + 9] = 0x20),
        place(2),
        "over its predecessor"
    );
    assert_eq!(
        error_after(|file| file[64 + 2 * 96 + 16] = 1),
        place(2),
        "out of the bundle"
    );
}

#[test]
fn a_check_without_all_bytes_fails() {
    let file = sample();
    let bundle = Bundle::parse(&file).expect("a valid bundle");
    let section = bundle.header().section(0).expect("three sections");
    let mut check = SectionCheck::new(section);
    check.update(&file[PAGE_SIZE..PAGE_SIZE + 5000]);
    assert_eq!(check.finish(), Err(BundleError::Truncated));
}

#[test]
fn the_writer_keeps_the_header_s_bounds() {
    let mut writer = BundleWriter::new();
    let long = "x".repeat(MAX_SECTION_NAME + 1);
    assert_eq!(
        writer.add(SectionKind::Config, &long, []),
        Err(WriteError::NameTooLong)
    );
    for _ in 0..MAX_SECTIONS {
        writer
            .add(SectionKind::Config, &long[1..], [7])
            .expect("room for it");
    }
    assert_eq!(
        writer.add(SectionKind::Config, "", []),
        Err(WriteError::TooManySections)
    );
    let file = writer.finish();
    let bundle = Bundle::parse(&file).expect("a valid bundle");
    assert!((0..32).all(|index| bundle.verify(index).is_ok()));
}

fn content() -> impl Strategy<Value = (usize, String, Vec<u8>)> {
    (
        0..KINDS.len(),
        "\\PC{0,16}",
        prop::collection::vec(any::<u8>(), 0..9000),
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read_again(
        contents in prop::collection::vec(content(), 0..8),
        piece in 1_usize..9000,
    ) {
        let mut writer = BundleWriter::new();
        for (kind, name, bytes) in &contents {
            writer.add(KINDS[*kind], name, bytes).expect("room for it");
        }
        let mut file = writer.finish();
        file.extend_from_slice(b"what else is in memory");
        let bundle = Bundle::parse(&file).expect("a valid bundle");
        for (index, (kind, name, bytes)) in (0_u16..).zip(&contents) {
            let section = bundle.header().section(index).expect("as many sections");
            prop_assert_eq!((section.kind, section.name.as_str()), (KINDS[*kind], name.as_str()));
            prop_assert_eq!(bundle.section(index), Ok(&bytes[..]));
            prop_assert_eq!(bundle.verify(index), Ok(()));
            let mut check = SectionCheck::new(section);
            let start = usize::try_from(section.offset).expect("a small file");
            // The last piece may go beyond the section: that is not its own.
            file[start..].chunks(piece).for_each(|piece| check.update(piece));
            prop_assert_eq!(check.finish(), Ok(()));
        }
    }

    #[test]
    fn any_table_is_refused_or_safe_to_use(
        changes in prop::collection::vec((0_usize..700, any::<u8>()), 0..40),
        cut in 0_usize..6 * PAGE_SIZE,
    ) {
        let mut file = sample();
        for (at, byte) in changes {
            file[at] = byte;
        }
        file = with_checksum(file);
        file.truncate(cut.max(PAGE_SIZE));
        if let Ok(bundle) = Bundle::parse(&file) {
            for index in 0..40 {
                let length = bundle.section(index).map(<[u8]>::len).ok();
                let promised = bundle.header().section(index).map(|section| section.bytes);
                prop_assert_eq!(length.map(|length| length as u64), promised);
                let _ = bundle.verify(index);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2 * PAGE_SIZE)) {
        prop_assert!(Bundle::parse(&bytes).is_err());
        if let Some(page) = bytes.first_chunk() {
            prop_assert!(Header::parse(page).is_err());
        }
    }
}
