//! What pages become, and what becomes of bytes that were never a page.

use proptest::collection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::Index;
use std::vec::Vec;

use super::Numbers;
use crate::swap::{Compressor, Content, DEFAULT_BOUND, Damaged, MAX_OBJECT, fill, unpack};
use pleat_types::FRAME_SIZE;

type Page = [u8; FRAME_SIZE];

fn page(bytes: impl IntoIterator<Item = u8>) -> Page {
    let bytes: Vec<u8> = bytes.into_iter().take(FRAME_SIZE).collect();
    bytes.try_into().unwrap()
}

fn random(seed: u64) -> Page {
    page(Numbers(seed).bytes(FRAME_SIZE))
}

fn text(seed: u64) -> Page {
    const WORDS: [&str; 12] = [
        "frame ", "of ", "the ", "host ", "is ", "guest ", "page ", "memory ", "entry ", "table\n", "zero ",
        "=",
    ];
    let mut numbers = Numbers(seed);
    page(core::iter::repeat_with(move || WORDS[numbers.below(WORDS.len())].bytes()).flatten())
}

/// Entries that count up and have the same flags, with holes.
fn page_table(seed: u64) -> Page {
    let mut numbers = Numbers(seed);
    let base = numbers.next() & 0xf_ffff_f000;
    let entry = |n: u64| (base + n * 0x1000) | 0x8000_0000_0000_0063;
    let mut used = move |n| numbers.below(8) > 0 && n < 400;
    page((0..512).flat_map(move |n| if used(n) { entry(n) } else { 0 }.to_le_bytes()))
}

/// Runs of one byte between bytes that are random.
fn runs(seed: u64) -> Page {
    let mut numbers = Numbers(seed);
    page(
        core::iter::repeat_with(move || {
            let (noise, run) = (numbers.below(40), numbers.below(100));
            let byte = numbers.bytes(1)[0];
            let noise = numbers.bytes(noise);
            noise.into_iter().chain(core::iter::repeat_n(byte, run))
        })
        .flatten(),
    )
}

fn any_page() -> impl Strategy<Value = Page> {
    let kinds: [fn(u64) -> Page; 4] = [random, text, page_table, runs];
    prop_oneof![
        4 => (any::<Index>(), any::<u64>()).prop_map(move |(kind, seed)| kind.get(&kinds)(seed)),
        // The seams: whatever comes first or last.
        1 => (any::<u64>(), 0..FRAME_SIZE, any::<u64>()).prop_map(|(word, at, seed)| {
            let mut page = [0; FRAME_SIZE];
            fill(word, &mut page);
            page[at..].iter_mut().zip(random(seed)).take(20).for_each(|(to, from)| *to = from);
            page
        }),
    ]
}

/// Packs and unpacks; how many bytes it was.
fn round_trip(compressor: &mut Compressor, page: &Page) -> Option<usize> {
    let mut out = [0x77; FRAME_SIZE];
    let length = match compressor.pack(page) {
        Content::Filled(word) => {
            fill(word, &mut out);
            0
        }
        Content::Packed(bytes) => {
            assert_eq!(unpack(bytes, &mut out), Ok(()));
            bytes.len()
        }
        Content::Incompressible => return None,
    };
    assert!(out == *page, "another page came back");
    Some(length)
}

#[test]
fn equal_words_are_one_word() {
    let mut compressor = Compressor::new();
    let mut page = [0; FRAME_SIZE];
    for word in [0, 1, u64::MAX, 0x0102_0304_0506_0708] {
        fill(word, &mut page);
        assert_eq!(compressor.pack(&page), Content::Filled(word));
        for at in [0, 7, 8, 2048, FRAME_SIZE - 1] {
            page[at] ^= 0x80;
            assert!(matches!(compressor.pack(&page), Content::Packed(bytes) if bytes.len() < 100));
            page[at] ^= 0x80;
        }
    }
}

#[test]
fn what_saves_too_little_is_left_alone() {
    let mut compressor = Compressor::new();
    assert_eq!(compressor.pack(&random(1)), Content::Incompressible);
    // So many random bytes and one more make so long a block.
    let mut page = random(2);
    page[3000..].fill(0);
    let length = round_trip(&mut compressor, &page).unwrap();
    assert!(length > 3000 && length <= DEFAULT_BOUND);
    compressor.set_bound(length - 1);
    assert_eq!(compressor.pack(&page), Content::Incompressible);
    compressor.set_bound(length);
    assert_eq!(round_trip(&mut compressor, &page), Some(length));
    compressor.set_bound(usize::MAX);
    page = random(2);
    page[MAX_OBJECT - 10..].fill(0);
    assert_eq!(
        compressor.pack(&page),
        Content::Incompressible,
        "no pool would take it"
    );
}

#[test]
fn typical_pages_become_small() {
    let mut compressor = Compressor::new();
    for seed in 0..8 {
        assert!(round_trip(&mut compressor, &text(seed)).unwrap() < FRAME_SIZE / 2);
        assert!(round_trip(&mut compressor, &page_table(seed)).unwrap() < FRAME_SIZE * 3 / 4);
        assert!(round_trip(&mut compressor, &runs(seed)).unwrap() < FRAME_SIZE / 2);
    }
}

#[test]
fn the_wrong_length_is_damage() {
    let mut page = [0; FRAME_SIZE];
    assert_eq!(unpack(&[], &mut page), Err(Damaged));
    // Two literals, and a page with a byte too many or too few.
    assert_eq!(unpack(&[0x20, 1, 2], &mut page), Err(Damaged));
    for length in [FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1] {
        let bytes = std::vec![9; length];
        let mut block = std::vec![0; length * 2];
        let packed = lz4_flex::block::compress_into(&bytes, &mut block).unwrap();
        let expected = if length == FRAME_SIZE {
            Ok(())
        } else {
            Err(Damaged)
        };
        assert_eq!(unpack(&block[..packed], &mut page), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_was_packed_comes_back(pages in collection::vec(any_page(), 1..6)) {
        // One compressor: nothing of a page is left in the next one.
        let mut compressor = Compressor::new();
        for page in pages {
            let length = round_trip(&mut compressor, &page);
            prop_assert!(length.is_none_or(|length| length <= DEFAULT_BOUND));
        }
    }

    #[test]
    fn damaged_bytes_are_a_page_or_an_error(
        page in any_page(),
        damage in collection::vec((any::<Index>(), any::<u8>()), 1..8),
        cut in any::<Index>(),
    ) {
        let mut compressor = Compressor::new();
        let mut out = [0; FRAME_SIZE];
        if let Content::Packed(bytes) = compressor.pack(&page) {
            let mut bytes = bytes.to_vec();
            for (at, byte) in damage {
                *at.get_mut(&mut bytes) = byte;
            }
            let _ = unpack(&bytes, &mut out);
            let _ = unpack(&bytes[..cut.index(bytes.len())], &mut out);
        }
    }

    #[test]
    fn hostile_bytes_are_a_page_or_an_error(bytes in collection::vec(any::<u8>(), 0..FRAME_SIZE)) {
        let mut out = [0; FRAME_SIZE];
        let _ = unpack(&bytes, &mut out);
    }
}
