//! Which parts of a guest's memory are to be looked at: a bit for each.
//!
//! A look at a guest's pages is a look at the tables that hold something new, not at all of them. The dirty log,
//! Pleat's own writes, and pages that have not been calm for long enough set the bits; a look takes them.

use pleat_types::{Gfn, LARGE_FRAMES};

const WORDS: usize = 64;
const BITS: u64 = WORDS as u64 * 64;

/// A set of regions. A region is the 2 MiB that one table of 4 KiB pages maps; a guest with more than 8 GiB of
/// addresses has regions of several of those.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    words: [u64; WORDS],
    /// Which words are not zero.
    summary: u64,
    /// A region has 2^this frames.
    shift: u32,
    /// The page after the guest's last one.
    end: Gfn,
}

impl Regions {
    /// None, of a guest whose addresses end at `end`.
    pub(crate) const fn none(end: Gfn) -> Self {
        let mut shift = LARGE_FRAMES.ilog2();
        while end.get() > BITS << shift {
            shift += 1;
        }
        Self {
            words: [0; WORDS],
            summary: 0,
            shift,
            end,
        }
    }

    /// The page after the guest's last one.
    pub(crate) const fn end(&self) -> Gfn {
        self.end
    }

    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// Adds the region that holds this page. A page beyond the end belongs to nobody.
    pub(crate) fn add(&mut self, gfn: Gfn) {
        let bit = gfn.get() >> self.shift;
        if bit < BITS {
            let (word, within) = place(bit);
            self.words[word] |= within;
            self.summary |= 1 << word;
        }
    }

    /// Takes the first region out: its first page and the page after its last one.
    pub(crate) fn take_first(&mut self) -> Option<(Gfn, Gfn)> {
        let number = u64::from(self.summary.trailing_zeros());
        let word = self
            .words
            .get_mut(place(number * 64).0)
            .filter(|_| self.summary != 0)?;
        let bit = number * 64 + u64::from(word.trailing_zeros());
        *word &= *word - 1;
        if *word == 0 {
            self.summary &= self.summary - 1;
        }
        let first = bit << self.shift;
        let end = (first + (1 << self.shift)).min(self.end.get());
        Some((Gfn::new(first), Gfn::new(end)))
    }

    /// Adds what the other set has, and empties that one.
    pub(crate) fn take_all(&mut self, other: &mut Self) {
        for (word, more) in self.words.iter_mut().zip(&mut other.words) {
            *word |= core::mem::take(more);
        }
        self.summary |= core::mem::take(&mut other.summary);
    }
}

/// The word that holds a bit, and the bit in it.
#[allow(clippy::cast_possible_truncation)] // below WORDS
const fn place(bit: u64) -> (usize, u64) {
    ((bit / 64) as usize % WORDS, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::Regions;
    use pleat_types::Gfn;
    use std::vec::Vec;

    fn drain(regions: &mut Regions) -> Vec<(u64, u64)> {
        core::iter::from_fn(|| regions.take_first())
            .map(|(first, end)| (first.get(), end.get()))
            .collect()
    }

    #[test]
    fn regions_come_out_once_and_in_order() {
        let mut regions = Regions::none(Gfn::new(33_000));
        assert!(regions.is_empty());
        for gfn in [32_999, 511, 0, 512, 40_000_000, 513] {
            regions.add(Gfn::new(gfn));
        }
        assert_eq!(drain(&mut regions), [(0, 512), (512, 1024), (32_768, 33_000)]);
        assert!(regions.is_empty());
    }

    #[test]
    fn a_large_guest_has_larger_regions() {
        let mut regions = Regions::none(Gfn::new(1 << 24));
        regions.add(Gfn::new((1 << 24) - 1));
        assert_eq!(drain(&mut regions), [((1 << 24) - 4096, 1 << 24)]);
    }

    #[test]
    fn sets_are_joined() {
        let (mut all, mut more) = (Regions::none(Gfn::new(2048)), Regions::none(Gfn::new(2048)));
        all.add(Gfn::new(0));
        more.add(Gfn::new(1024));
        all.take_all(&mut more);
        assert!(more.is_empty());
        assert_eq!(drain(&mut all), [(0, 512), (1024, 1536)]);
    }
}
