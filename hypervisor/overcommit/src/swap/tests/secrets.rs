//! The fingerprint and the cipher, against other implementations, published vectors and themselves.

use std::vec::Vec;

use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use proptest::collection;
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};
use proptest::sample::select;

use super::Numbers;
use crate::swap::{Cipher, Fingerprint, Fingerprinter, Nonce};
use pleat_types::FRAME_SIZE;

fn page(seed: u64) -> [u8; FRAME_SIZE] {
    Numbers(seed).bytes(FRAME_SIZE).try_into().unwrap()
}

/// By another implementation: words of 32 bits, or AVX2.
fn poly1305(key: [u8; 32], page: &[u8; FRAME_SIZE]) -> Fingerprint {
    let tag = Poly1305::new(&key.into()).compute_unpadded(page);
    Fingerprint(tag.into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_fingerprint_is_poly1305(key in any::<[u8; 32]>(), seed in any::<u64>()) {
        prop_assert_eq!(Fingerprinter::new(key).of(&page(seed)), poly1305(key, &page(seed)));
    }

    /// Few words and few of their bits: where carries run through, and sums are next to the prime.
    #[test]
    fn the_fingerprint_is_poly1305_at_the_edges(
        words in collection::vec(select(&EDGES[..]), 512),
        key in collection::vec(select(&EDGES[..]), 4),
        is_point_small in any::<bool>(),
    ) {
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        let mut key: [u8; 32] = bytes(&key).try_into().unwrap();
        if is_point_small {
            key[1..16].fill(0);
        }
        let page = bytes(&words).try_into().unwrap();
        prop_assert_eq!(Fingerprinter::new(key).of(&page), poly1305(key, &page));
    }
}

/// Words whose sums and products carry, or just do not.
const EDGES: [u64; 9] = [
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    u64::MAX - 4,
    u64::MAX - 5,
    1 << 63,
    0x0fff_fffc_0fff_ffff,
];

#[test]
fn sums_next_to_the_prime_are_reduced() {
    // With the point 1 the result is the sum of the blocks, each with 2^128 more. 256 times that is 64 times 2^130,
    // and so 320. Three blocks of ones, and one with a few less, come to 2^130 and a few less.
    let mut key = [0; 32];
    key[0] = 1;
    let mut page = [0; FRAME_SIZE];
    page[..48].fill(0xff);
    let mut is_less = Vec::new();
    for less in 0..1000_u128 {
        page[48..64].copy_from_slice(&(u128::MAX - less).to_le_bytes());
        let fingerprint = Fingerprinter::new(key).of(&page);
        assert_eq!(fingerprint, poly1305(key, &page), "{less}");
        is_less.push(fingerprint.0[15] == 0);
    }
    // 2^130 - 4 + 320 - less is the prime or more up to here.
    assert_eq!(is_less.iter().position(|is_less| !is_less), Some(322));
}

#[test]
fn another_bit_or_another_key_is_another_fingerprint() {
    let fingerprinter = Fingerprinter::new([7; 32]);
    let mut page = page(1);
    let mut seen: Vec<Fingerprint> = std::vec![fingerprinter.of(&page)];
    for bit in (0..FRAME_SIZE * 8).step_by(97) {
        page[bit / 8] ^= 1 << (bit % 8);
        seen.push(fingerprinter.of(&page));
        page[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(
        fingerprinter.of(&page),
        seen[0],
        "nothing is left of the pages before"
    );
    seen.push(Fingerprinter::new([8; 32]).of(&page));
    let count = seen.len();
    seen.sort_unstable_by_key(|fingerprint| fingerprint.0);
    seen.dedup();
    assert_eq!(seen.len(), count);
    assert!(!std::format!("{fingerprinter:?}").contains('7'));
}

#[test]
fn the_cipher_is_chacha12() {
    // Draft "Test Vectors for the Stream Cipher ChaCha" (J. Strombergson, 2013), TC1: 12 rounds, a key and an
    // initialisation vector of zeros.
    const TC1: [u8; 16] = [
        0x9b, 0xf4, 0x9a, 0x6a, 0x07, 0x55, 0xf9, 0x53, 0x81, 0x1f, 0xce, 0x12, 0x5f, 0x26, 0x83, 0xd5,
    ];
    let mut page = [0; FRAME_SIZE];
    assert_eq!(Cipher::new([0; 32]).encrypt(&mut page), Nonce(0));
    assert_eq!(page[..16], TC1);
}

#[test]
fn what_was_encrypted_comes_back() {
    let mut cipher = Cipher::new([3; 32]);
    let mut pages: Vec<_> = (0..6).map(|seed| page(seed / 2)).collect();
    let nonces: Vec<_> = pages.iter_mut().map(|page| cipher.encrypt(page)).collect();
    assert_eq!(nonces, (0..6).map(Nonce).collect::<Vec<_>>());
    // Equal pages do not look equal, and no part of the stream is there twice.
    for (n, encrypted) in pages.iter().enumerate() {
        assert!(*encrypted != page(n as u64 / 2));
        assert!(pages[..n].iter().all(|other| other != encrypted));
    }
    for (n, nonce) in nonces.iter().enumerate().rev() {
        cipher.decrypt(*nonce, &mut pages[n]);
        assert!(pages[n] == page(n as u64 / 2));
    }
    let mut wrong = pages[0];
    let nonce = cipher.encrypt(&mut wrong);
    cipher.decrypt(Nonce(nonce.0 + 1), &mut wrong);
    assert!(wrong != pages[0]);
}

#[test]
fn no_part_of_the_key_stream_repeats() {
    let mut cipher = Cipher::new([9; 32]);
    let mut blocks = Vec::new();
    for _ in 0..16 {
        let mut page = [0; FRAME_SIZE];
        cipher.encrypt(&mut page);
        blocks.extend(page.as_chunks::<16>().0.to_vec());
    }
    let count = blocks.len();
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), count);
}
