//! Whether a 2 MiB mapping holds enough duplicates to split it.
//!
//! A page in a large mapping cannot be merged as long as the mapping is whole; splitting it costs the guest
//! translations. So a few of its 512 pages are looked at, and the rest is an estimate.
//!
//! **Which pages.** Chosen at random, of two equal pages in two mappings both would hardly ever be looked at.
//! So the content chooses: a few words of a page are folded to a fingerprint, and one in 32 fingerprints is
//! sampled. Equal pages are sampled in each mapping or in none. (ESX samples at random and compares with what
//! is shared already; this finds duplicates of what is in large mappings only, which is all there is when all
//! guests have large mappings.) Pages with nothing but zeros in these words would all be sampled or none; they
//! are mostly zero pages, which need no counterpart, so of these each 32nd is sampled by its place.
//!
//! **What is a duplicate.** A zero page; a page whose key is in the index; and one whose key was seen in a large
//! mapping before. For that there is a filter: one entry for each of 2,048 classes of keys, the newest
//! overwrites. It knows the mapping and the look, because a page that was seen in the same mapping earlier is
//! the same page, but one seen in the same look is another.
//!
//! The estimate may be wrong, then a split does not pay or a duplicate stays. No page is merged because of it.

use pleat_types::{Gfn, GuestId};

use crate::ledger::Key;
use crate::promise::HostState;

/// Where the words of a fingerprint are, as indices of 64-bit words in the page: over all of it, its first and
/// last word among them (headers and ends differ where the middle is filler).
pub const SAMPLE_WORDS: [usize; 8] = [0, 73, 146, 219, 292, 365, 438, 511];
/// One in so many pages is sampled.
const CLASSES: u64 = 32;
/// Entries of the filter: 16 KiB.
const SLOTS: usize = 2048;

/// What is known of a sampled page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// It is all zeros.
    Zero,
    /// It has this key.
    Content(Key),
    /// It has this key, and a frame with it is in the index.
    Indexed(Key),
}

/// Where a key was seen last.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Seen {
    key: u32,
    mapping: u16,
    /// Zero in an entry that is not used.
    look: u16,
}

const _: () = assert!(size_of::<Seen>() * SLOTS <= 16 * 1024);

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Statistics {
    /// Mappings that were looked at.
    pub mappings: u64,
    /// Pages of these that were sampled.
    pub sampled: u64,
    /// Of the sampled pages, those that were duplicates, zero pages among them.
    pub duplicates: u64,
    /// Of the sampled pages, those that were all zeros.
    pub zero: u64,
}

/// What a look at a mapping found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Estimate {
    /// Pages that were sampled.
    pub sampled: u32,
    /// Of these, duplicates.
    pub duplicates: u32,
}

impl Estimate {
    /// Duplicates in a hundred pages; none when none was sampled.
    #[must_use]
    pub fn percent(self) -> u8 {
        let percent = u64::from(self.duplicates) * 100;
        let percent = percent.checked_div(u64::from(self.sampled)).unwrap_or(0);
        u8::try_from(percent).unwrap_or(100)
    }
}

/// What was seen in large mappings.
#[derive(Clone, Debug)]
pub struct Sampler {
    filter: [Seen; SLOTS],
    look: u16,
    statistics: Statistics,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new() -> Self {
        let unused = Seen {
            key: 0,
            mapping: 0,
            look: 0,
        };
        Self {
            filter: [unused; SLOTS],
            look: 0,
            statistics: Statistics {
                mappings: 0,
                sampled: 0,
                duplicates: 0,
                zero: 0,
            },
        }
    }

    /// Begins to look at the 2 MiB mapping of these pages.
    pub fn look(&mut self, guest: GuestId, first: Gfn) -> Look<'_> {
        self.look = self.look.checked_add(1).unwrap_or(1);
        self.statistics.mappings += 1;
        Look {
            mapping: mapping_id(guest, first),
            sampler: self,
            estimate: Estimate::default(),
        }
    }

    /// Counts since the start.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

/// A look at one mapping.
#[derive(Debug)]
pub struct Look<'s> {
    sampler: &'s mut Sampler,
    mapping: u16,
    estimate: Estimate,
}

impl Look<'_> {
    /// Whether to sample the n-th page, by its words at [`SAMPLE_WORDS`].
    #[must_use]
    pub fn wants(n: u64, words: &[u64; SAMPLE_WORDS.len()]) -> bool {
        if words.iter().fold(0, |all, word| all | word) == 0 {
            return n.is_multiple_of(CLASSES);
        }
        // Each product carries what differs upwards, to the bits that choose.
        let fold = |sum: u64, word: &u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        words.iter().fold(0, fold) >> (64 - CLASSES.ilog2()) == 0
    }

    /// Notes what a sampled page is.
    pub fn note(&mut self, sample: Sample) {
        let is_duplicate = match sample {
            Sample::Zero => {
                self.sampler.statistics.zero += 1;
                true
            }
            Sample::Indexed(key) => {
                self.see(key);
                true
            }
            Sample::Content(key) => self.see(key),
        };
        self.estimate.sampled += 1;
        self.sampler.statistics.sampled += 1;
        self.estimate.duplicates += u32::from(is_duplicate);
        self.sampler.statistics.duplicates += u64::from(is_duplicate);
    }

    /// What was found.
    #[must_use]
    pub const fn estimate(&self) -> Estimate {
        self.estimate
    }

    /// Whether another page had this key; from now on this one has.
    fn see(&mut self, key: Key) -> bool {
        let now = Seen {
            key: key.0,
            mapping: self.mapping,
            look: self.sampler.look,
        };
        let slot = &mut self.sampler.filter[key.0 as usize % SLOTS];
        let before = core::mem::replace(slot, now);
        let is_other = before.mapping != now.mapping || before.look == now.look;
        before.look != 0 && before.key == now.key && is_other
    }
}

/// A number for a mapping; that two have the same is rare and costs a duplicate that is not seen.
#[allow(clippy::cast_possible_truncation)] // the top 16 bits are what is wanted
const fn mapping_id(guest: GuestId, first: Gfn) -> u16 {
    let mapping = (first.get() >> 9) | (guest.0 as u64) << 40;
    (mapping.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

/// Whether a mapping with this estimate is to be split: at the operator's threshold while memory is plentiful, at
/// half of it when it gets less, at a quarter when it is short. One without duplicates never is.
#[must_use]
pub const fn should_split(percent: u8, threshold_percent: u8, pressure: HostState) -> bool {
    let threshold = match pressure {
        HostState::High => threshold_percent,
        HostState::Soft => threshold_percent / 2,
        HostState::Hard | HostState::Low => threshold_percent / 4,
    };
    percent > 0 && percent >= threshold
}
