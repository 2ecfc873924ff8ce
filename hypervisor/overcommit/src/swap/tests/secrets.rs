//! The fingerprint and the cipher, against published vectors and against themselves.

use std::vec::Vec;

use super::Numbers;
use crate::swap::{Cipher, Fingerprint, Fingerprinter, Nonce};
use pleat_types::FRAME_SIZE;

fn page(seed: u64) -> [u8; FRAME_SIZE] {
    Numbers(seed).bytes(FRAME_SIZE).try_into().unwrap()
}

/// Poly1305 as it is defined, with numbers of 130 bits as two halves of 65: slow, and nothing to get wrong.
fn defined(key: &[u8; 32], page: &[u8; FRAME_SIZE]) -> [u8; 16] {
    let half = |bytes: &[u8]| u128::from_le_bytes(bytes.try_into().unwrap());
    let r = half(&key[..16]) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
    let mut sum = Wide { high: 0, low: 0 };
    for block in page.chunks_exact(16) {
        sum = sum.plus(Wide {
            high: 1,
            low: half(block),
        });
        sum = (0..128).rev().fold(Wide { high: 0, low: 0 }, |product, bit| {
            let doubled = product.plus(product);
            if r >> bit & 1 == 1 {
                doubled.plus(sum)
            } else {
                doubled
            }
        });
    }
    sum.low.wrapping_add(half(&key[16..])).to_le_bytes()
}

/// A number below 2^130 - 5.
#[derive(Clone, Copy)]
struct Wide {
    high: u128,
    low: u128,
}

impl Wide {
    fn plus(self, other: Self) -> Self {
        const PRIME: Wide = Wide {
            high: 3,
            low: u128::MAX - 4,
        };
        let (low, carry) = self.low.overflowing_add(other.low);
        let high = self.high + other.high + u128::from(carry);
        if (high, low) < (PRIME.high, PRIME.low) {
            return Self { high, low };
        }
        let (low, borrow) = low.overflowing_sub(PRIME.low);
        Self {
            high: high - PRIME.high - u128::from(borrow),
            low,
        }
    }
}

#[test]
fn the_fingerprint_is_poly1305() {
    for seed in 0..4 {
        let key: [u8; 32] = Numbers(seed + 100).bytes(32).try_into().unwrap();
        let fingerprint = Fingerprinter::new(key).of(&page(seed));
        assert_eq!(fingerprint.0, defined(&key, &page(seed)));
    }
    let key = [0xff; 32];
    let ones = [0xff; FRAME_SIZE];
    assert_eq!(Fingerprinter::new(key).of(&ones).0, defined(&key, &ones));
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
