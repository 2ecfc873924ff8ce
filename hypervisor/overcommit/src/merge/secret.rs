//! The key of a page's content.
//!
//! A key is the low 32 bits of xxh3-64 over all 4,096 bytes, with a secret of the domain. So equal pages of
//! two domains have different keys and never meet in the index, and a guest cannot compute keys: it can
//! neither aim many different pages at one key nor at one part of the index. xxh3 is no cryptographic hash,
//! and nothing here counts on that: keys only propose.
//!
//! The secret is all of xxh3's 192 bytes of key material and not its 64-bit seed, which xxh3 would expand
//! again for each page.

use pleat_types::FRAME_SIZE;
use xxhash_rust::xxh3::xxh3_64_with_secret;

use crate::ledger::Key;

/// Bytes of key material: as many as xxh3's own default has. With that many a page is four blocks of 1 KiB.
const SECRET_SIZE: usize = 192;

/// What the keys of one domain are made with.
#[derive(Clone)]
pub struct Secret {
    bytes: [u8; SECRET_SIZE],
    mask: u32,
}

impl Secret {
    /// The secret of a domain, from a number that no guest knows (or from the seed of a run that is to
    /// repeat).
    #[must_use]
    pub fn derive(entropy: u64, domain: usize) -> Self {
        let mut state = mix(entropy ^ mix(domain as u64));
        let mut bytes = [0; SECRET_SIZE];
        let (words, _) = bytes.as_chunks_mut::<8>();
        for word in words {
            state = state.wrapping_add(GOLDEN);
            *word = mix(state).to_le_bytes();
        }
        Self {
            bytes,
            mask: u32::MAX,
        }
    }

    /// Uses only so many bits of each key: less than 32 makes collisions, for tests.
    #[must_use]
    pub fn with_hash_bits(self, bits: u8) -> Self {
        let mask = u32::MAX.checked_shr(32_u32.saturating_sub(u32::from(bits)));
        Self {
            mask: mask.unwrap_or(0),
            ..self
        }
    }

    /// The key of a page with this content.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // the low half is wanted
    pub fn key(&self, page: &[u8; FRAME_SIZE]) -> Key {
        Key(xxh3_64_with_secret(page, &self.bytes) as u32 & self.mask)
    }
}

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014): each bit of the result depends on all of the input.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
