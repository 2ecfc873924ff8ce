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
//! The crate asks CPUID for AVX2, and would use it in an exit, where the YMM registers are a guest's: the image
//! saves XMM only. So the portable code is chosen when it is built (`.cargo/config.toml`), and below it is
//! checked that it was.

use pleat_types::FRAME_SIZE;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use poly1305::{Block, Key, Poly1305};

#[cfg(not(any(poly1305_backend = "soft", fuzzing, doc, doctest)))]
compile_error!("Poly1305 must not use AVX2: build with --cfg=poly1305_backend=\"soft\"");

/// The fingerprint of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fingerprint(pub [u8; 16]);

/// What makes the fingerprints of one boot.
#[derive(Clone)]
pub struct Fingerprinter(Poly1305);

impl Fingerprinter {
    /// From 32 bytes that no guest knows: they must come from a generator for keys.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Poly1305::new(&Key::from(key)))
    }

    /// The fingerprint of a page.
    #[must_use]
    pub fn of(&self, page: &[u8; FRAME_SIZE]) -> Fingerprint {
        let mut state = self.0.clone();
        let (blocks, _) = Block::slice_as_chunks(page);
        state.update(blocks);
        Fingerprint(state.finalize().into())
    }
}

impl core::fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fingerprinter") // not its key
    }
}
