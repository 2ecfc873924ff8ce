//! Frames that pages share: write-protecting a page to compare it, joining, and parting on a write.
//!
//! ```text
//!           freeze              share (the frame becomes the shared one)
//!   Unique --------> Frozen --------------------------------------------> Shared
//!     ^ ^ ^  thaw      | |       merge_into (another frame; its own is retired)  ^
//!     | | +------------+ +------------------------------------------------------+
//!     | |              +--- merge_into_zero (its own frame is retired) ---> Zero  |
//!     | +------ take_share (the last one keeps the frame) ----------------------+
//!     +-------- break_share (gets a copy; its share is retired) ----------------+
//! ```
//!
//! Freeze, flush, compare, commit: between the flush and the commit nobody can write to the frame, so what
//! was equal still is when the entry is stored. A [`Frozen`] says that its page is write-protected; there is
//! one for each such page, and every way on takes it.

use pleat_types::{FrozenFrame, Gfn, Hfn, OwnedFrame, PageSize, Share};

use crate::codec::{Backing, Entry, Leaf, Level};
use crate::error::{Bug, Error, Refused};
use crate::find::Spot;
use crate::flush::{PendingFlush, Retired};
use crate::map::small_leaf;
use crate::memory::TableMemory;
use crate::table::{Page, Place, Stage2, rewrite};

/// A page that is write-protected while its bytes are looked at. Dropping one leaves it so for ever.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the page stays write-protected"]
pub struct Frozen {
    gfn: Gfn,
    frame: Hfn,
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

impl Stage2 {
    /// Unique to Frozen: takes the right to write away. After the flush no processor writes to the frame.
    pub fn freeze<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
    ) -> Result<(Frozen, PendingFlush), Error> {
        let place = self.small_place(memory, gfn)?;
        let Page::Unique(frame) = self.page(place.entry, place.level)? else {
            return Err(Bug::WrongState(gfn).into());
        };
        rewrite(memory, place, |leaf| with_backing(leaf, Backing::Frozen))?;
        Ok((Frozen { gfn, frame }, self.flush_due()))
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

    /// Shared to Unique: the frame must hold a copy of the shared one. The page's share comes out of the
    /// flush, which is due even on the processor that took the fault, as for
    /// [`map_unique`](Self::map_unique).
    pub fn break_share<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: OwnedFrame,
    ) -> Result<PendingFlush, Refused> {
        match self.find(memory, gfn) {
            Ok(spot) => self.break_share_at(memory, spot, frame),
            Err(bug) => Err(Refused {
                error: bug.into(),
                frame,
            }),
        }
    }

    /// [`Stage2::break_share`] for a page that was found already.
    ///
    /// The new mapping is neither accessed nor dirty: the write that asked for it sets both when it is
    /// tried again.
    pub fn break_share_at<M: TableMemory>(
        &mut self,
        memory: &mut M,
        spot: Spot,
        frame: OwnedFrame,
    ) -> Result<PendingFlush, Refused> {
        match self.shared_at(memory, &spot) {
            Ok(shared) if self.is_fit_for_copy(&frame, shared) => {
                let leaf = small_leaf(frame.first(), Backing::Owned);
                memory.store(spot.slot.table, spot.slot.index, Entry::Leaf(leaf).encode());
                self.count_parted(shared);
                let mut pending = self.flush_due();
                pending.retire(Retired::Share(Share::claim(shared)));
                Ok(pending)
            }
            Ok(_) => Err(Refused {
                error: Bug::WrongState(spot.gfn()).into(),
                frame,
            }),
            Err(bug) => Err(Refused {
                error: bug.into(),
                frame,
            }),
        }
    }

    /// Shared to Unique in place, for the page that has the last share in its frame; it is for the ledger.
    /// A processor that still takes the page for read-only faults and finds that it may write: no flush is
    /// due.
    pub fn take_share<M: TableMemory>(&mut self, memory: &mut M, gfn: Gfn) -> Result<Share, Error> {
        let spot = self.find(memory, gfn)?;
        self.take_share_at(memory, spot)
    }

    /// [`Stage2::take_share`] for a page that was found already.
    pub fn take_share_at<M: TableMemory>(&mut self, memory: &mut M, spot: Spot) -> Result<Share, Error> {
        let shared = self.shared_at(memory, &spot)?;
        rewrite(memory, spot.slot.place()?, |leaf| {
            with_backing(leaf, Backing::Owned)
        })?;
        self.count_parted(shared);
        Ok(Share::claim(shared))
    }

    /// Where a page is mapped by 4 KiB.
    fn small_place<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Result<Place, Bug> {
        let place = self.walk(memory, gfn, Level::One)?;
        match place.entry {
            Entry::Leaf(_) if place.level != Level::One => Err(Bug::WrongSize(gfn)),
            _ => Ok(place),
        }
    }

    fn frozen_place<M: TableMemory>(&self, memory: &M, frozen: &Frozen) -> Result<Place, Bug> {
        let place = self.small_place(memory, frozen.gfn)?;
        if self.page(place.entry, place.level)? == Page::Frozen(frozen.frame) {
            Ok(place)
        } else {
            Err(Bug::WrongState(frozen.gfn))
        }
    }

    #[inline]
    fn shared_at<M: TableMemory>(&self, memory: &M, spot: &Spot) -> Result<Hfn, Bug> {
        match spot.mapping().page {
            Page::Shared(frame) => self.recheck(memory, spot).map(|()| frame),
            _ => Err(Bug::WrongState(spot.gfn())),
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
    pub(crate) fn is_fit_for_copy(&self, frame: &OwnedFrame, shared: Hfn) -> bool {
        frame.size() == PageSize::Small && frame.first() != shared && frame.first() != self.zero_frame()
    }

    #[inline]
    fn count_parted(&mut self, shared: Hfn) {
        self.counters.remove(Page::Shared(shared), Level::One, 1);
        self.counters.add(Page::Unique(shared), Level::One, 1);
    }
}

fn with_backing(leaf: Leaf, backing: Backing) -> Leaf {
    Leaf { backing, ..leaf }
}

/// Merged: whether it is used is worth knowing still; what was written to the old mapping was compared.
fn shared_leaf(leaf: Leaf, frame: Hfn) -> Leaf {
    Leaf {
        accessed: leaf.accessed,
        ..small_leaf(frame, Backing::Shared)
    }
}
