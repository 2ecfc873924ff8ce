//! What leaves for a disk is encrypted: who reads the disk, or gets it after us, reads nothing of a guest's memory.
//!
//! ChaCha12 (D. J. Bernstein, "ChaCha, a variant of Salsa20", 2008; 12 rounds as in J.-P. Aumasson, "Too much
//! crypto", 2019) with a key of the boot and a nonce for each page. The key stream comes from `rand_chacha`, the
//! generator that guests' entropy devices are filled from, too: a generator's stream number is the cipher's nonce.
//! Unlike the crate `chacha20` it asks no CPUID at run time: without its feature `std` it takes what the target
//! always has, SSE2, whose registers an exit saves; AVX2's it does not.
//!
//! Nothing here proves that the bytes which come back are those that went: the fingerprint of the slot does.

use pleat_types::FRAME_SIZE;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// As much of the key stream as the generator makes at once.
const STRIDE: usize = 256;

/// Which key stream a page was encrypted with. Whoever wants to decrypt it must keep that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce(pub u64);

/// The cipher of one boot.
#[derive(Debug)]
pub struct Cipher {
    generator: ChaCha12Rng,
    next: u64,
}

impl Cipher {
    /// From 32 bytes that no guest knows, and that are not used for anything else.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            generator: ChaCha12Rng::from_seed(key),
            next: 0,
        }
    }

    /// Encrypts a page in place. No two pages of a boot have the same nonce: a counter of 64 bits does not end.
    pub fn encrypt(&mut self, page: &mut [u8; FRAME_SIZE]) -> Nonce {
        let nonce = Nonce(self.next);
        self.next += 1;
        self.apply(nonce, page);
        nonce
    }

    /// How many pages were encrypted.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.next
    }

    /// As if so many pages had been encrypted.
    #[cfg(test)]
    pub(super) const fn skip_to(&mut self, used: u64) {
        self.next = used;
    }

    /// Decrypts in place what [`Cipher::encrypt`] made with this nonce.
    pub fn decrypt(&self, nonce: Nonce, page: &mut [u8; FRAME_SIZE]) {
        self.apply(nonce, page);
    }

    fn apply(&self, nonce: Nonce, page: &mut [u8; FRAME_SIZE]) {
        // The original never moves: its stream is at the start, and nothing of it is kept.
        let mut stream = self.generator.clone();
        stream.set_stream(nonce.0);
        let mut mask = [0; STRIDE];
        let (strides, _) = page.as_chunks_mut::<STRIDE>();
        for stride in strides {
            stream.fill_bytes(&mut mask);
            stride.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
}
