//! Merging equal pages: when to look at which guest, and for how long.
//!
//! ```text
//!   dirty log / A bits / Pleat's own writes
//!        |  regions that are due                                   memory/look.rs
//!        v
//!   look at a guest (an epoch)    D bits read and cleared          stage2 sweep
//!        |  pages that were written and then stayed calm
//!        v
//!   one page: freeze, flush, all zero? key, find, compare, merge   page.rs, join.rs
//!   2 MiB: sample, split where duplicates pay                      large.rs
//! ```
//!
//! Nothing here is looked at twice because time has passed: a guest that writes nothing costs nothing. All work is
//! done between time slices, in small steps, out of a budget ([`pleat_overcommit::merge::Pace`]). Between two steps
//! no page is frozen.

mod join;
mod large;
mod look;
mod page;
mod rejoin;

pub(crate) use look::Progress;

use crate::guest::Guest;
use arrayvec::ArrayVec;
use pleat_bundle::config::{GuestConfig, MAX_GUESTS, Merge, RunConfig};
use pleat_overcommit::merge::{Pace, Sampler, Secret};
use pleat_stage2::{BATCH, Calm};
use pleat_types::{GuestId, Tsc};

/// Guests that trust each other: the number of the first of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Domain(u16);

/// What was done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Work {
    pub(crate) hashed: u64,
    pub(crate) compared: u64,
    pub(crate) collisions: u64,
    pub(crate) merged: u64,
    pub(crate) merged_zero: u64,
    pub(crate) index_full: u64,
    pub(crate) epochs: u64,
    pub(crate) swept: u64,
    pub(crate) sampled: u64,
    pub(crate) split: u64,
    pub(crate) collapsed: u64,
    pub(crate) ticks: u64,
}

impl Work {
    const NONE: Self = Self {
        hashed: 0,
        compared: 0,
        collisions: 0,
        merged: 0,
        merged_zero: 0,
        index_full: 0,
        epochs: 0,
        swept: 0,
        sampled: 0,
        split: 0,
        collapsed: 0,
        ticks: 0,
    };
}

/// The scanner's state.
pub(crate) struct Merger {
    pub(crate) is_on: bool,
    pub(crate) pace: Pace,
    pub(crate) work: Work,
    /// What had been done when the pace was last thought over, and when that was.
    advised: Work,
    advised_at: Tsc,
    /// A guest was woken just now: it is to run first.
    pub(crate) is_in_hurry: bool,
    /// When the last step ended.
    ended: Tsc,
    /// The least time from one look at a guest to the next.
    epoch: Tsc,
    split_percent: u8,
    has_dirty_log: bool,
    sampler: Sampler,
    /// By guest.
    domains: ArrayVec<Domain, MAX_GUESTS>,
    /// By guest: that of its domain.
    secrets: ArrayVec<Secret, MAX_GUESTS>,
    /// The guest that is being looked at.
    current: Option<usize>,
    /// Its pages that were found calm and not considered yet.
    calm: ArrayVec<Calm, BATCH>,
}

impl Merger {
    /// A scanner that rests, without guests. Too large for a stack, and all zero, so that it takes no room in the
    /// image.
    pub(crate) const RESTING: Self = Self {
        is_on: false,
        pace: Pace::STOPPED,
        work: Work::NONE,
        advised: Work::NONE,
        advised_at: Tsc(0),
        is_in_hurry: false,
        ended: Tsc(0),
        epoch: Tsc(0),
        split_percent: 0,
        has_dirty_log: false,
        sampler: Sampler::new(),
        domains: ArrayVec::new_const(),
        secrets: ArrayVec::new_const(),
        current: None,
        calm: ArrayVec::new_const(),
    };

    /// Begins to work for these guests. `epoch` is the least time between two looks at a guest; the domains'
    /// secrets are made from `seed`.
    pub(crate) fn begin(&mut self, config: &RunConfig<'_>, seed: u64, epoch: Tsc, pace: Pace) {
        self.is_on = config.merge.is_on;
        self.pace = pace;
        self.epoch = epoch;
        self.split_percent = config.merge.split_percent;
        let bits = config.merge.hash_bits;
        for guest in &config.guests {
            let domain = domain_of(&config.guests, guest);
            self.domains.push(domain);
            let secret = Secret::derive(seed, usize::from(domain.0));
            self.secrets.push(secret.with_hash_bits(bits));
        }
    }

    /// Says that the processor logs what becomes dirty.
    pub(crate) const fn use_dirty_log(&mut self) {
        self.has_dirty_log = true;
    }

    /// Whether nothing at all is to be done.
    pub(crate) const fn is_resting(&self) -> bool {
        !self.is_on || (self.pace.is_fixed() && self.pace.rate() == 0)
    }

    /// The domain of a guest.
    pub(crate) fn domain(&self, guest: GuestId) -> Option<Domain> {
        self.domains.get(usize::from(guest.0)).copied()
    }

    /// The number of guests in a guest's domain.
    pub(crate) fn guests_in_domain_of(&self, guest: GuestId) -> usize {
        let domain = self.domain(guest);
        self.domains
            .iter()
            .filter(|other| Some(**other) == domain)
            .count()
    }

    /// Nothing is left to consider of a guest that ends, or that starts again.
    pub(crate) fn forget(&mut self, guest: usize) {
        if self.current == Some(guest) {
            self.current = None;
            self.calm.clear();
        }
    }
}

/// Guests that have the same word for their domain are in it.
fn domain_of(guests: &[GuestConfig<'_>], guest: &GuestConfig<'_>) -> Domain {
    let first = guests.iter().position(|other| other.domain == guest.domain);
    // There are fewer guests than a u16 counts.
    Domain(
        first
            .and_then(|index| u16::try_from(index).ok())
            .unwrap_or(u16::MAX),
    )
}

impl Guest {
    /// Whether its pages are looked at.
    pub(crate) fn is_scanned(&self) -> bool {
        self.config.merge == Merge::On && self.is_up()
    }
}
