//! What the test's memory must hold: contents that follow from a seed, and over them what was written, in order.

use pleat_guest::check;
use pleat_guest::contents::Content;
use pleat_guest::memory::{Page, WORDS};
use pleat_guest::random::mix;

const PAGE: usize = 4096;
const PATCHES_MAX: usize = 400;

/// What a write leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// Bytes that follow from a seed and their place.
    Seed(u64),
    /// These bytes, again and again.
    Bytes([u8; 16]),
    /// What a page holds, from its start.
    Page(Content),
}

impl Source {
    /// The byte `index` of a write, which lies at `place`.
    pub(crate) fn byte(self, index: usize, place: usize) -> u8 {
        match self {
            Self::Seed(seed) => mix(seed ^ place as u64).to_le_bytes()[0],
            Self::Bytes(bytes) => bytes[index % bytes.len()],
            Self::Page(content) => content.word(index / 8).to_le_bytes()[index % 8],
        }
    }
}

/// A write: where (bytes from the start of the test's memory), how much, and what.
#[derive(Clone, Copy, Debug)]
struct Patch {
    start: usize,
    len: usize,
    source: Source,
}

/// What all pages hold before anything is written to them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    /// Each content twice in this guest, and twice in every other guest with the seed.
    Pairs(u64),
    /// All zeros.
    Zero,
    /// One content for all pages of all guests.
    Same(u64),
}

/// The oracle.
pub(crate) struct Model {
    base: Base,
    /// Contents that only this guest has.
    own: u64,
    /// Pages that hold such.
    privates: [u64; 8],
    patches: [Patch; PATCHES_MAX],
    len: usize,
}

impl Model {
    pub(crate) const fn new(base: Base, own: u64) -> Self {
        let patch = Patch {
            start: 0,
            len: 0,
            source: Source::Seed(0),
        };
        Self {
            base,
            own,
            privates: [0; 8],
            patches: [patch; PATCHES_MAX],
            len: 0,
        }
    }

    /// From now on this page holds what no other page does.
    pub(crate) fn set_private(&mut self, page: usize) {
        self.privates[page / 64] |= 1 << (page % 64);
    }

    pub(crate) fn content(&self, page: usize) -> Content {
        if self.privates[page / 64] >> (page % 64) & 1 != 0 {
            return Content::near(self.own, page);
        }
        match self.base {
            Base::Pairs(seed) => Content::common(seed, page as u64 / 2),
            Base::Zero => Content::Zero,
            Base::Same(seed) => Content::common(seed, u64::MAX),
        }
    }

    /// Notes a write.
    pub(crate) fn note(&mut self, start: usize, len: usize, source: Source) {
        check!(self.len < PATCHES_MAX, "the oracle has no room for a write");
        self.patches[self.len] = Patch { start, len, source };
        self.len += 1;
    }

    /// What `len` bytes (at most 16) hold now, as a little-endian number.
    pub(crate) fn value(&self, start: usize, len: usize) -> u128 {
        (0..len).fold(0, |value, index| {
            let place = start + index;
            let content = self.content(place / PAGE).word(place % PAGE / 8);
            let patches = &self.patches[..self.len];
            let covering = |patch: &&Patch| (patch.start..patch.start + patch.len).contains(&place);
            let byte = match patches.iter().rev().find(covering) {
                Some(patch) => patch.source.byte(place - patch.start, place),
                None => content.to_le_bytes()[place % 8],
            };
            value | u128::from(byte) << (8 * index)
        })
    }

    /// Compares every byte of a page.
    pub(crate) fn check_page(&self, page: &Page, number: usize, when: &str) {
        let mut expected: [u64; WORDS] = core::array::from_fn(|index| self.content(number).word(index));
        let range = number * PAGE..(number + 1) * PAGE;
        for patch in &self.patches[..self.len] {
            let end = (patch.start + patch.len).min(range.end);
            for place in patch.start.max(range.start)..end {
                let (word, shift) = (place % PAGE / 8, place % 8 * 8);
                let byte = u64::from(patch.source.byte(place - patch.start, place));
                expected[word] = expected[word] & !(0xff << shift) | byte << shift;
            }
        }
        if let Err(wrong) = page.check(0..WORDS, |index| expected[index]) {
            wrong.fail(when);
        }
    }

    /// All words that were written, by page and index; some come several times.
    pub(crate) fn for_each_written_word(&self, mut restore: impl FnMut(usize, usize)) {
        for patch in &self.patches[..self.len] {
            for word in patch.start / 8..(patch.start + patch.len).div_ceil(8) {
                restore(word / WORDS, word % WORDS);
            }
        }
    }

    /// Forgets all writes: memory holds the first contents again.
    pub(crate) const fn forget_writes(&mut self) {
        self.len = 0;
    }
}
