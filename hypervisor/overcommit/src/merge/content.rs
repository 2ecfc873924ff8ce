//! Is a page all zeros; are two pages equal.
//!
//! The image's `memcmp` is a loop over bytes, and the compiler calls it for `==` on arrays. So the loops are
//! written out, over blocks: within a block there is no branch, which lets the compiler use the 16-byte
//! registers that all x86-64 processors have, and after each block there is a way out, because most pages that
//! differ do so early. A frame is aligned; saying so lets an instruction take its operand from memory. The
//! argument's type does not say it, so there is a way for other places too.

use pleat_types::FRAME_SIZE;
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Bytes between two ways out.
const BLOCK: usize = 256;

/// As much as one register holds.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C, align(16))]
struct Lane([u64; 2]);

type Lanes = [[Lane; BLOCK / 16]; FRAME_SIZE / BLOCK];

/// A hash of a page that is the same in every domain: for whoever wants to know from outside what could be merged.
/// 0 for a page of zeros.
#[must_use]
pub fn hash(page: &[u8; FRAME_SIZE]) -> u64 {
    if is_zero(page) { 0 } else { xxh3_64(page) }
}

/// Whether all bytes are zero.
#[must_use]
pub fn is_zero(page: &[u8; FRAME_SIZE]) -> bool {
    match Lanes::ref_from_bytes(page) {
        Ok(blocks) => blocks.iter().all(|block| {
            let bits = |bits, lane: &Lane| bits | lane.0[0] | lane.0[1];
            block.iter().fold(0, bits) == 0
        }),
        Err(_) => words(page).all(|block| block.fold(0, |bits, word| bits | word) == 0),
    }
}

/// Whether all bytes are the same.
#[must_use]
pub fn are_equal(a: &[u8; FRAME_SIZE], b: &[u8; FRAME_SIZE]) -> bool {
    match (Lanes::ref_from_bytes(a), Lanes::ref_from_bytes(b)) {
        (Ok(a), Ok(b)) => a.iter().zip(b).all(|(a, b)| {
            let differing = |bits, (a, b): (&Lane, &Lane)| bits | (a.0[0] ^ b.0[0]) | (a.0[1] ^ b.0[1]);
            a.iter().zip(b).fold(0, differing) == 0
        }),
        _ => words(a).zip(words(b)).all(|(a, b)| {
            let differing = |bits, (a, b)| bits | (a ^ b);
            a.zip(b).fold(0, differing) == 0
        }),
    }
}

/// The words of a page that may lie anywhere, by blocks.
fn words(page: &[u8; FRAME_SIZE]) -> impl Iterator<Item = impl Iterator<Item = u64>> {
    let (blocks, _) = page.as_chunks::<BLOCK>();
    blocks.iter().map(|block| {
        let (words, _) = block.as_chunks::<8>();
        words.iter().map(|word| u64::from_ne_bytes(*word))
    })
}
