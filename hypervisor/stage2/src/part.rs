//! A write to a shared page, in one go: found, copied, mapped.
//!
//! Of all page faults this is the one that a guest pays for what merging has saved, so it walks once, asks for
//! nothing twice and builds nothing that it does not need. What it does is what `find` and `break_share_at` do.

use pleat_types::{Gfn, Hfn, OwnedFrame, Share};

use crate::codec::{self, Backing, Entry, GFN_LIMIT, Level};
use crate::flush::ProcessorSet;
use crate::map::small_leaf;
use crate::memory::TableMemory;
use crate::table::{Page, Stage2};

/// What a page gets that shared its frame and is written.
#[derive(PartialEq, Eq, Debug)]
pub enum Parted {
    /// A copy of it.
    Copy(OwnedFrame),
    /// The frame itself: nobody else has a share in it.
    Same,
}

/// A page's share in a frame, when the page has parted from the others. Where it got a copy processors may use the
/// old translation until they have flushed.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "stale translations stay, and the share, until this is settled"]
pub struct Parting {
    eptp: u64,
    waiting: ProcessorSet,
    share: Share,
}

impl Parting {
    /// Flushes, and gives out the share. As [`crate::PendingFlush::settle`].
    #[inline]
    pub fn settle(self, flush: impl FnOnce(u64)) -> Share {
        if !self.waiting.is_empty() {
            flush(self.eptp);
        }
        self.share
    }
}

impl Stage2 {
    /// Shared to Unique, if the page is shared, with what `part` has for it when it is told the shared frame; else
    /// `None`, and nothing has changed.
    ///
    /// The new mapping is neither accessed nor dirty: the write that asked for it sets both when it is tried again. In
    /// place no flush is due: a processor that still takes the page for read-only faults and finds that it may write.
    #[inline(always)]
    pub fn part<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        part: impl FnOnce(&mut M, Hfn) -> Option<Parted>,
    ) -> Option<Parting> {
        if gfn.get() >= GFN_LIMIT {
            return None;
        }
        let slot = self.descend(memory, gfn);
        let shared = codec::shared_frame_of(slot.raw)?;
        if slot.level != Level::One || shared == self.zero_frame() {
            return None;
        }
        let (frame, waiting) = match part(memory, shared)? {
            Parted::Same => (shared, ProcessorSet::EMPTY),
            // Else a bug of who copies: the frame stays lost, which the audit shows, rather than being written by two.
            Parted::Copy(copy) if self.is_fit_for_copy(&copy, shared) => (copy.first(), self.processors()),
            Parted::Copy(_) => return None,
        };
        let leaf = Entry::Leaf(small_leaf(frame, Backing::Owned));
        memory.store(slot.table, slot.index, leaf.encode());
        self.counters.remove(Page::Shared(shared), Level::One, 1);
        self.counters.add(Page::Unique(shared), Level::One, 1);
        Some(Parting {
            eptp: self.eptp(),
            waiting,
            share: Share::claim(shared),
        })
    }
}
