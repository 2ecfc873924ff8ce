//! How long a guest's pages have not been used, and what was taken of them.

use core::mem;
use pleat_stage2::Ages as Histogram;
use pleat_types::{Gfn, Tsc};

/// Why a page was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// It was cold, and that was enough.
    Cold,
    /// Memory was getting short.
    Ahead,
    /// Somebody waited for memory.
    Now,
}

impl Cause {
    /// All, in the order of [`Ages::taken`].
    pub(crate) const ALL: [Self; 3] = [Self::Cold, Self::Ahead, Self::Now];

    /// The name at the console and in records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Ahead => "ahead",
            Self::Now => "now",
        }
    }
}

/// One generation after another of a guest's pages.
#[derive(Debug)]
pub(crate) struct Ages {
    /// When the last generation ended, or is ending.
    pub(crate) began: Option<Tsc>,
    /// Where the pass that ends a generation goes on, while there is one.
    pub(crate) at: Option<Gfn>,
    /// What that pass has cost.
    pub(crate) cost: Tsc,
    /// Pages by age, as far as that pass has come.
    pub(crate) counting: Histogram,
    /// Pages by age when the last generation ended.
    pub(crate) last: Histogram,
    /// Generations that have ended.
    pub(crate) generations: u64,
    /// The next generation is to end at once.
    pub(crate) is_hurried: bool,
    /// Where cold pages are looked for next.
    pub(crate) hand: Gfn,
    /// The hand has gone round, and nothing was found.
    pub(crate) is_exhausted: bool,
    /// Frames that were taken, by [`Cause`].
    pub(crate) taken: [u64; Cause::ALL.len()],
    /// When something was taken last, and why.
    pub(crate) taken_last: Option<(Tsc, Cause)>,
}

impl Ages {
    /// Nothing is known yet.
    pub(crate) const NEW: Self = Self {
        began: None,
        at: None,
        cost: Tsc(0),
        counting: [0; 32],
        last: [0; 32],
        generations: 0,
        is_hurried: false,
        hand: Gfn::new(0),
        is_exhausted: false,
        taken: [0; Cause::ALL.len()],
        taken_last: None,
    };

    /// The pass is over: a generation has ended.
    pub(crate) fn end_generation(&mut self) {
        self.last = mem::take(&mut self.counting);
        self.at = None;
        self.generations += 1;
        self.is_exhausted = false;
    }

    /// Frames were taken.
    pub(crate) fn note_taken(&mut self, now: Tsc, cause: Cause, frames: u64) {
        self.taken[cause as usize] += frames;
        self.taken_last = Some((now, cause));
    }
}
