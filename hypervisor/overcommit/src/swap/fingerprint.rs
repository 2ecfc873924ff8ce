//! Is the content that comes back the one that went.
//!
//! A fingerprint is Poly1305 (D. J. Bernstein, "The Poly1305-AES message-authentication code", FSE 2005; RFC 8439,
//! 2.5) over all 4,096 bytes, with a key that is made anew at each boot. As a message-authentication code it would
//! need another key for each message, because who sees two tags of one key can compute it. Nobody outside sees a
//! fingerprint: they lie in slots, and neither guests nor disks ever get one. What remains is a universal hash: two
//! pages that were chosen without knowing the key have equal fingerprints with a chance of at most
//! 8 · 256 / 2^106 = 2^-95 (theorem 3.3 there), whatever is in them. xxh3, whose keys propose merges, promises
//! nothing of that kind.
//!
//! It is written out here, in words of 64 bits as in OpenSSL's portable code, and the crate `poly1305` is what tests
//! compare it with. That crate asks CPUID for AVX2 and would use it in an exit, where the YMM registers are still a
//! guest's; and its portable code is made for words of 32 bits, which on the way of a guest's access takes longer
//! than unpacking the page.

use crate::ledger::Owner;
use pleat_types::FRAME_SIZE;

/// The bits of r that a key may have: no product needs more than 128 bits then, and r's upper word is a multiple of 4.
const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;

/// The fingerprint of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// The same of this page alone: no other page's is equal, whatever both have. For one content that is exact, since
    /// different numbers are added; for two it is the theorem above, which says of every difference how unlikely it is,
    /// not of 0 only.
    #[must_use]
    pub fn bound_to(self, page: Owner) -> Self {
        let number = u128::from(page.guest.0) << 64 | u128::from(page.gfn.get());
        Self(u128::from_le_bytes(self.0).wrapping_add(number).to_le_bytes())
    }
}

/// What makes the fingerprints of one boot.
pub struct Fingerprinter {
    /// The point at which the page, as a polynomial, is evaluated.
    point: [u64; 2],
    /// What is added to the result.
    mask: u128,
}

impl Fingerprinter {
    /// From 32 bytes that no guest knows: they must come from a generator for keys.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        let [r, mask] = [0, 1].map(|half| {
            let (halves, _) = key.as_chunks::<16>();
            u128::from_le_bytes(halves[half])
        });
        Self {
            point: [low(r & CLAMP), high(r & CLAMP)],
            mask,
        }
    }

    /// The fingerprint of a page.
    #[must_use]
    pub fn of(&self, page: &[u8; FRAME_SIZE]) -> Fingerprint {
        let (blocks, _) = page.as_chunks::<16>();
        let sum = blocks.iter().fold(Sum::default(), |sum, block| {
            sum.plus_block(u128::from_le_bytes(*block)).times(self.point)
        });
        Fingerprint(sum.reduced().wrapping_add(self.mask).to_le_bytes())
    }
}

impl core::fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fingerprinter") // not its key
    }
}

/// A number modulo 2^130 - 5, the lowest word first. Between two steps the last word is at most 4.
#[derive(Clone, Copy, Default)]
struct Sum([u64; 3]);

impl Sum {
    /// Adds 16 bytes, as a number with one more bit above them.
    const fn plus_block(self, block: u128) -> Self {
        let [a, b, c] = self.0;
        let (sum, carry) = joined(b, a).overflowing_add(block);
        Self([low(sum), high(sum), c + carry as u64 + 1])
    }

    /// Multiplies. What the upper word of the point carries over 2^128 comes back at the bottom times 5/4, since
    /// 2^130 is 5, and so does all from 2^130 on.
    const fn times(self, point: [u64; 2]) -> Self {
        let ([a, b, c], [r, s]) = (self.0, point);
        let back = s + (s >> 2);
        let first = product(a, r) + product(b, back);
        let second = product(a, s) + product(b, r) + (c * back) as u128 + high(first) as u128;
        let third = c * r + high(second);
        let over = (third >> 2) + (third & !3);
        let (sum, carry) = joined(low(second), low(first)).overflowing_add(over as u128);
        Self([low(sum), high(sum), (third & 3) + carry as u64])
    }

    /// The lower 128 bits of the number below 2^130 - 5 that this is equal to.
    const fn reduced(self) -> u128 {
        let [a, b, c] = self.0;
        let sum = joined(b, a);
        // It is the prime or more, if with 5 more it reaches 2^130.
        let (less, carry) = sum.overflowing_add(5);
        if c + carry as u64 >= 4 { less } else { sum }
    }
}

const fn product(a: u64, b: u64) -> u128 {
    a as u128 * b as u128
}

const fn joined(high: u64, low: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

const fn high(both: u128) -> u64 {
    low(both >> 64)
}

#[allow(clippy::cast_possible_truncation)] // half of it is meant
const fn low(both: u128) -> u64 {
    both as u64
}
