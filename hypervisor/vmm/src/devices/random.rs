//! Random numbers for guests: a stream cipher keyed by the processor's entropy.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The generator of the host.
#[derive(Debug)]
pub(crate) struct Random(ChaCha12Rng);

impl Random {
    /// A generator with this key: 256 bits.
    pub(crate) fn new(key: [u64; 4]) -> Self {
        let mut seed = [0; 32];
        for (place, word) in seed.chunks_exact_mut(8).zip(key) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// Fills this with random bytes.
    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}
