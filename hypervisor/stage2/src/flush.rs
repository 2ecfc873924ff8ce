//! A flush that is due, as a value.
//!
//! After a mapping has been taken out or changed, processors may go on using the old translation
//! until it is flushed (SDM 29.4.3): with combined mappings even the processor that took the EPT
//! violation keeps those of other linear addresses. So what an operation takes out is not returned: it
//! goes into a [`PendingFlush`], and the only way to get it from there is to flush.
//!
//! ```text
//!   let pending = stage2.unmap(..)?;
//!   for retired in pending.settle(|eptp| platform.flush(eptp)) { ledger takes it }
//! ```

use arrayvec::{ArrayVec, Drain};
use core::mem;
use pleat_types::{Hfn, OwnedFrame, Share, SlotReference};

use crate::parts::Parts;

/// How many frames one step of a long operation takes out before it wants a flush.
pub const BATCH: usize = 64;

/// A set of processors, by number (0 to 63).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessorSet(u64);

impl ProcessorSet {
    /// No processor.
    pub const EMPTY: Self = Self(0);

    /// One processor. Numbers above 63 do not exist in Pleat.
    #[must_use]
    pub const fn one(processor: u8) -> Self {
        Self(1 << (processor % 64))
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the processors of the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is no processor in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this processor is in it.
    #[must_use]
    pub const fn contains(self, processor: u8) -> bool {
        self.0 & Self::one(processor).0 != 0
    }
}

/// What can be used again after a flush.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "it has to go back to the ledger"]
pub enum Retired {
    /// A frame, or block of frames, that a page of the guest owned.
    Frame(OwnedFrame),
    /// The share that a page of the guest had in a frame.
    Share(Share),
    /// The reference that a page had to a slot of the swap store. Nothing was cached for it; it comes out with the rest.
    Slot(SlotReference),
    /// A frame that was a table.
    Table(Hfn),
    /// A table and what its 512 pages had.
    Parts(Parts),
}

/// Translations that processors may still use, and the frames behind them.
///
/// Dropping one loses its frames and leaves stale translations behind; debug builds panic.
#[derive(Debug)]
#[must_use = "stale translations stay until this is settled"]
pub struct PendingFlush<const N: usize = 1> {
    eptp: u64,
    waiting: ProcessorSet,
    retired: ArrayVec<Retired, N>,
}

impl<const N: usize> PendingFlush<N> {
    /// Nothing was cached, so nothing is due.
    pub(crate) fn nothing(eptp: u64) -> Self {
        Self {
            eptp,
            waiting: ProcessorSet::EMPTY,
            retired: ArrayVec::new(),
        }
    }

    /// These processors may use old translations.
    pub(crate) fn on(eptp: u64, waiting: ProcessorSet) -> Self {
        Self {
            eptp,
            waiting,
            retired: ArrayVec::new(),
        }
    }

    /// Keeps something until the flush is done.
    pub(crate) fn retire(&mut self, retired: Retired) {
        self.retired.push(retired);
    }

    pub(crate) fn room(&self) -> usize {
        self.retired.remaining_capacity()
    }

    pub(crate) fn require(&mut self, processors: ProcessorSet) {
        self.waiting = self.waiting.union(processors);
    }

    /// Lets go without a flush, because a bug was found and nothing can be trusted any more: the frames
    /// stay lost, which is safe, and the audit shows it.
    pub(crate) fn abandon(mut self) {
        self.waiting = ProcessorSet::EMPTY;
        mem::take(&mut self.retired).into_iter().for_each(drop);
    }

    /// The EPT pointer whose translations are stale.
    #[must_use]
    pub const fn eptp(&self) -> u64 {
        self.eptp
    }

    /// The processors that have to flush before they run this guest again.
    #[must_use]
    pub const fn waiting(&self) -> ProcessorSet {
        self.waiting
    }

    /// Notes that these processors have flushed (a shootdown was acknowledged).
    pub fn acknowledge(&mut self, processors: ProcessorSet) {
        self.waiting = self.waiting.without(processors);
    }

    /// What may be used again, if every processor has flushed; else this value again.
    pub fn finish(mut self) -> Result<ArrayVec<Retired, N>, Self> {
        if self.waiting.is_empty() {
            Ok(mem::take(&mut self.retired))
        } else {
            Err(self)
        }
    }

    /// [`PendingFlush::settle`] where what is retired stays where it is until it is used again: a large one is
    /// not to be copied.
    pub fn settle_in_place(&mut self, flush: impl FnOnce(u64)) -> Drain<'_, Retired, N> {
        if !self.waiting.is_empty() {
            flush(self.eptp);
            self.waiting = ProcessorSet::EMPTY;
        }
        self.retired.drain(..)
    }

    /// Flushes on all processors, if any has to, and gives out what may be used again. `flush` must not
    /// return before every processor that may run the guest has dropped its translations (INVEPT, SDM
    /// 29.4.3.4).
    pub fn settle(mut self, flush: impl FnOnce(u64)) -> ArrayVec<Retired, N> {
        if !self.waiting.is_empty() {
            flush(self.eptp);
            self.waiting = ProcessorSet::EMPTY;
        }
        mem::take(&mut self.retired)
    }
}

impl<const N: usize> Drop for PendingFlush<N> {
    fn drop(&mut self) {
        debug_assert!(
            self.waiting.is_empty() && self.retired.is_empty(),
            "a flush was forgotten: {self:?}"
        );
    }
}
