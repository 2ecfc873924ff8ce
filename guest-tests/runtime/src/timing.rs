//! How long single operations take, in ticks of the TSC.

use crate::cpu;

/// Ticks of one operation, the two reads of the TSC included.
#[inline(always)]
pub fn ticks_of(operation: impl FnOnce()) -> u64 {
    let start = cpu::tsc();
    operation();
    cpu::tsc() - start
}

/// The median; of none, 0. The samples are sorted.
pub fn median(samples: &mut [u64]) -> u64 {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or(0)
}

/// What [`ticks_of`] says about nothing at all.
#[must_use]
pub fn empty() -> u64 {
    median(&mut core::array::from_fn::<u64, 101, _>(|_| ticks_of(|| ())))
}

/// How the first write to a page went, judged by its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// At once: the page was the guest's own.
    Direct,
    /// Through the host: nothing was there, or it was merged.
    ThroughHost,
    /// So late that another guest must have run in between.
    Interrupted,
}

impl Write {
    /// Below this, no exit can have happened: the null hypercall alone takes longer.
    const DIRECT_TICKS: u64 = 100;
    /// No exit takes this long.
    const EXIT_TICKS: u64 = 20_000;

    /// Judges a write.
    #[must_use]
    pub const fn from_ticks(ticks: u64) -> Self {
        match ticks {
            0..Self::DIRECT_TICKS => Self::Direct,
            Self::DIRECT_TICKS..Self::EXIT_TICKS => Self::ThroughHost,
            _ => Self::Interrupted,
        }
    }
}

/// How many writes went in which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Writes {
    /// At once.
    pub direct: u64,
    /// Through the host.
    pub through_host: u64,
    /// Late.
    pub interrupted: u64,
}

impl Writes {
    /// Does a write, judges it and counts it.
    #[inline(always)]
    pub fn time(&mut self, write: impl FnOnce()) {
        match Write::from_ticks(ticks_of(write)) {
            Write::Direct => self.direct += 1,
            Write::ThroughHost => self.through_host += 1,
            Write::Interrupted => self.interrupted += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.direct + self.through_host + self.interrupted
    }
}
