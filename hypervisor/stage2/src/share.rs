//! Frames that pages share: write-protecting a page to compare it, joining, and parting on a write.
//!
//! ```text
//!           freeze              share (the frame becomes the shared one)
//!   Unique --------> Frozen --------------------------------------------> Shared
//!     ^ ^ ^  thaw      | |       merge_into (another frame; its own is retired)  ^
//!     | | +------------+ +------------------------------------------------------+
//!     | |              +--- merge_into_zero (its own frame is retired) ---> Zero  |
//!     | +------ part (the last one keeps the frame) ----------------------------+
//!     +-------- part (gets a copy) ----------------------------------------------+
//! ```
//!
//! Freeze, flush, compare, commit: between the flush and the commit nobody can write to the frame, so what
//! was equal still is when the entry is stored. A [`Frozen`] says that its page is write-protected; there is
//! one for each such page, and every way on takes it.
//!
//! Parting is the one page fault that a guest pays for what merging has saved. So it is done in one go: it walks
//! once, asks for nothing twice and builds nothing that it does not need.

use pleat_types::{FrozenFrame, Gfn, Hfn, OwnedFrame, PageSize, Share};

use crate::codec::{self, Backing, Entry, GFN_LIMIT, Leaf, Level};
use crate::error::{Bug, Error};
use crate::find::{Slot, Spot};
use crate::flush::{PendingFlush, ProcessorSet, Retired};
use crate::map::small_leaf;
use crate::memory::TableMemory;
use crate::table::{Page, Place, Stage2, rewrite};

/// A page that is write-protected while its bytes are looked at. Dropping one leaves it so for ever.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the page stays write-protected"]
pub struct Frozen {
    gfn: Gfn,
    frame: Hfn,
    /// Where its entry was, as long as no table has been taken out since.
    slot: Slot,
    unlinked: u64,
}

impl Frozen {
    /// The page.
    #[must_use]
    pub const fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// Its frame.
    #[must_use]
    pub const fn frame(&self) -> Hfn {
        self.frame
    }

    /// Says that nobody writes to the frame. Only true once the flush that came with this value is done.
    #[must_use]
    pub const fn vouch(&self) -> FrozenFrame {
        FrozenFrame::claim(self.frame)
    }
}

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
    /// Unique to Frozen: takes the right to write away. After the flush no processor writes to the frame.
    pub fn freeze<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
    ) -> Result<(Frozen, PendingFlush), Error> {
        let spot = self.find(memory, gfn)?;
        self.freeze_at(memory, &spot)
    }

    /// [`Stage2::freeze`] for a page that was found already.
    pub fn freeze_at<M: TableMemory>(
        &mut self,
        memory: &mut M,
        spot: &Spot,
    ) -> Result<(Frozen, PendingFlush), Error> {
        let (gfn, slot) = (spot.gfn(), spot.slot);
        let frame = match spot.mapping().page {
            Page::Unique(frame) if slot.level == Level::One => frame,
            Page::Unique(_) => return Err(Bug::WrongSize(gfn).into()),
            _ => return Err(Bug::WrongState(gfn).into()),
        };
        self.recheck(memory, spot)?;
        rewrite(memory, slot.place()?, |leaf| with_backing(leaf, Backing::Frozen))?;
        let frozen = Frozen {
            gfn,
            frame,
            slot,
            unlinked: self.unlinked(),
        };
        Ok((frozen, self.flush_due()))
    }

    /// Frozen back to Unique, with all that was known of the page. A processor that still takes it for
    /// read-only faults and finds that it may write: no flush is due.
    pub fn thaw<M: TableMemory>(&mut self, memory: &mut M, frozen: Frozen) -> Result<(), Bug> {
        let place = self.frozen_place(memory, &frozen)?;
        rewrite(memory, place, |leaf| with_backing(leaf, Backing::Owned))?;
        Ok(())
    }

    /// Frozen to Shared on the same frame, which is to be the one for all pages that are equal. What comes
    /// out is for the ledger, which makes a shared frame of it; this page has the first share. Read-only
    /// before and after: no flush is due.
    pub fn share<M: TableMemory>(&mut self, memory: &mut M, frozen: Frozen) -> Result<OwnedFrame, Bug> {
        let place = self.frozen_place(memory, &frozen)?;
        rewrite(memory, place, |leaf| shared_leaf(leaf, frozen.frame))?;
        self.counters.remove(Page::Frozen(frozen.frame), Level::One, 1);
        self.counters.add(Page::Shared(frozen.frame), Level::One, 1);
        Ok(OwnedFrame::claim(frozen.frame, PageSize::Small))
    }

    /// Frozen to Shared on another frame, which was found to hold the same bytes. The page's own frame
    /// comes out of the flush: until then a processor may read either, and they are equal.
    pub fn merge_into<M: TableMemory>(
        &mut self,
        memory: &mut M,
        frozen: Frozen,
        share: Share,
    ) -> Result<PendingFlush, Bug> {
        if share.frame() == frozen.frame || share.frame() == self.zero_frame() {
            return Err(Bug::WrongState(frozen.gfn));
        }
        self.replace_frozen(memory, frozen, Page::Shared(share.frame()), share.frame())
    }

    /// Frozen to Zero: all its bytes were found to be zero. The page's own frame comes out of the flush.
    pub fn merge_into_zero<M: TableMemory>(
        &mut self,
        memory: &mut M,
        frozen: Frozen,
    ) -> Result<PendingFlush, Bug> {
        self.replace_frozen(memory, frozen, Page::Zero, self.zero_frame())
    }

    /// Shared to Unique, if the page is shared, with what `part` has for it when it is told the shared frame; else
    /// `None`, and nothing has changed.
    ///
    /// The new mapping is not dirty, and that of a copy not accessed: the write that asked for it sets both when it is
    /// tried again. In place no flush is due: a processor that still takes the page for read-only faults and finds that
    /// it may write.
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
        let (raw, waiting) = match part(memory, shared)? {
            Parted::Same => (codec::owned_in_place(slot.raw), ProcessorSet::EMPTY),
            Parted::Copy(copy) if self.is_fit_for_copy(&copy, shared) => {
                (codec::owned_copy(copy.first()), self.processors())
            }
            // A bug of who copies: the frame stays lost, which the audit shows, rather than being written by two.
            Parted::Copy(_) => return None,
        };
        memory.store(slot.table, slot.index, raw);
        self.counters.remove(Page::Shared(shared), Level::One, 1);
        self.counters.add(Page::Unique(shared), Level::One, 1);
        Some(Parting {
            eptp: self.eptp(),
            waiting,
            share: Share::claim(shared),
        })
    }

    /// Where a page is mapped by 4 KiB.
    fn small_place<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Result<Place, Bug> {
        let place = self.walk(memory, gfn, Level::One)?;
        match place.entry {
            Entry::Leaf(_) if place.level != Level::One => Err(Bug::WrongSize(gfn)),
            _ => Ok(place),
        }
    }

    pub(crate) fn frozen_place<M: TableMemory>(&self, memory: &M, frozen: &Frozen) -> Result<Place, Bug> {
        let place = if frozen.unlinked == self.unlinked() {
            frozen.slot.reload(memory).place()?
        } else {
            self.small_place(memory, frozen.gfn)?
        };
        if self.page(place.entry, place.level)? == Page::Frozen(frozen.frame) {
            Ok(place)
        } else {
            Err(Bug::WrongState(frozen.gfn))
        }
    }

    fn replace_frozen<M: TableMemory>(
        &mut self,
        memory: &mut M,
        frozen: Frozen,
        page: Page,
        frame: Hfn,
    ) -> Result<PendingFlush, Bug> {
        let place = self.frozen_place(memory, &frozen)?;
        rewrite(memory, place, |leaf| shared_leaf(leaf, frame))?;
        self.counters.remove(Page::Frozen(frozen.frame), Level::One, 1);
        self.counters.add(page, Level::One, 1);
        let mut pending = self.flush_due();
        pending.retire(Retired::Frame(OwnedFrame::claim(frozen.frame, PageSize::Small)));
        Ok(pending)
    }

    #[inline]
    fn is_fit_for_copy(&self, frame: &OwnedFrame, shared: Hfn) -> bool {
        frame.size() == PageSize::Small && frame.first() != shared && frame.first() != self.zero_frame()
    }
}

fn with_backing(leaf: Leaf, backing: Backing) -> Leaf {
    Leaf { backing, ..leaf }
}

/// Merged: how much it is used is worth knowing still; what was written to the old mapping was compared.
fn shared_leaf(leaf: Leaf, frame: Hfn) -> Leaf {
    Leaf {
        accessed: leaf.accessed,
        age: leaf.age,
        ..small_leaf(frame, Backing::Shared)
    }
}
