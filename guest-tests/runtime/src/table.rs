//! A table of words in memory of the guest: the oracle of kernels whose memory is too large for a static one.

use crate::memory::{Page, WORDS};

/// So many words, all 0 at first.
pub struct Table {
    pages: &'static mut [Page],
}

impl Table {
    /// Pages of a table with so many words.
    #[must_use]
    pub const fn pages(len: usize) -> usize {
        len.div_ceil(WORDS)
    }

    /// A table in these pages.
    #[must_use]
    pub fn new(pages: &'static mut [Page]) -> Self {
        for page in pages.iter_mut() {
            page.fill(0..WORDS, |_| 0);
        }
        Self { pages }
    }

    /// A word.
    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        self.pages[index / WORDS].load(index % WORDS)
    }

    /// Sets a word.
    pub fn set(&mut self, index: usize, value: u64) {
        self.pages[index / WORDS].store(index % WORDS, value);
    }
}
