//! Pages whose content leaves for a slot of the swap store, and comes back.
//!
//! ```text
//!             freeze           swap_out (its own frame is retired)
//!   Unique --------> Frozen ---------------------------------------> Swapped
//!     ^                                                              |  ^  |
//!     +----------- swap_in (a frame that was filled) ----------------+  |  |
//!   Shared --------- swap_out_share (its share is retired) -------------+  |
//!     ^                                                                    |
//!     +----------- swap_in_share (a share in a frame with that content) ---+
//! ```
//!
//! A page leaves when its content is safe in a slot, in one store; until the flush is done a processor may read the
//! frame, and nobody can write to it. Nothing is cached of a page that is not present (SDM 29.4.2), so coming back
//! needs no flush.

use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share, SlotReference, SwapSlot};

use crate::codec::{Backing, Entry, Leaf, Level};
use crate::error::Bug;
use crate::find::Spot;
use crate::flush::{PendingFlush, Retired};
use crate::map::small_leaf;
use crate::memory::TableMemory;
use crate::share::Frozen;
use crate::table::{Page, Place, Stage2};

impl Stage2 {
    /// Frozen to Swapped: the slot has what the frame has. The frame comes out of the flush.
    pub fn swap_out<M: TableMemory>(
        &mut self,
        memory: &mut M,
        frozen: Frozen,
        reference: SlotReference,
    ) -> Result<PendingFlush, Bug> {
        let place = self.frozen_place(memory, &frozen)?;
        let frame = OwnedFrame::claim(frozen.frame(), PageSize::Small);
        self.leave_for(memory, place, Page::Frozen(frozen.frame()), &reference);
        let mut pending = self.flush_due();
        pending.retire(Retired::Frame(frame));
        Ok(pending)
    }

    /// Shared to Swapped, if the page shares this frame, whose content the slot has. The share comes out of the flush.
    /// If the page does not share it (any more) the reference comes back, and nothing has changed.
    pub fn swap_out_share<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: Hfn,
        reference: SlotReference,
    ) -> Result<PendingFlush, SlotReference> {
        let shared = Page::Shared(frame);
        let place = match self.walk(memory, gfn, Level::One) {
            Ok(place) if self.page(place.entry, place.level) == Ok(shared) => place,
            _ => return Err(reference),
        };
        self.leave_for(memory, place, shared, &reference);
        let mut pending = self.flush_due();
        pending.retire(Retired::Share(Share::claim(frame)));
        Ok(pending)
    }

    /// Swapped to Unique: `frame` has been filled with what the slot has. The reference to the slot comes out.
    pub fn swap_in<M: TableMemory>(
        &mut self,
        memory: &mut M,
        spot: &Spot,
        frame: OwnedFrame,
    ) -> Result<SlotReference, (Bug, OwnedFrame)> {
        let is_fit = frame.size() == PageSize::Small && frame.first() != self.zero_frame();
        let found = match self.swapped_at(memory, spot) {
            Ok(_) if !is_fit => Err(Bug::WrongSize(spot.gfn())),
            found => found,
        };
        match found {
            Ok(slot) => Ok(self.come_back(memory, spot, slot, frame.first(), Backing::Owned)),
            Err(bug) => Err((bug, frame)),
        }
    }

    /// Swapped to Shared: the frame has what the slot has, and others map it, too. The reference to the slot comes out.
    pub fn swap_in_share<M: TableMemory>(
        &mut self,
        memory: &mut M,
        spot: &Spot,
        share: Share,
    ) -> Result<SlotReference, (Bug, Share)> {
        let found = match self.swapped_at(memory, spot) {
            Ok(_) if share.frame() == self.zero_frame() => Err(Bug::WrongState(spot.gfn())),
            found => found,
        };
        match found {
            Ok(slot) => Ok(self.come_back(memory, spot, slot, share.frame(), Backing::Shared)),
            Err(bug) => Err((bug, share)),
        }
    }

    fn leave_for<M: TableMemory>(
        &mut self,
        memory: &mut M,
        place: Place,
        was: Page,
        reference: &SlotReference,
    ) {
        let slot = reference.slot();
        memory.store(place.table, place.index, Entry::Swapped(slot).encode());
        self.counters.remove(was, Level::One, 1);
        self.counters.add(Page::Swapped(slot), Level::One, 1);
    }

    /// The slot that the page's entry names, if the entry is still what was found.
    fn swapped_at<M: TableMemory>(&self, memory: &M, spot: &Spot) -> Result<SwapSlot, Bug> {
        self.recheck(memory, spot)?;
        match spot.mapping().page {
            Page::Swapped(slot) => Ok(slot),
            _ => Err(Bug::WrongState(spot.gfn())),
        }
    }

    fn come_back<M: TableMemory>(
        &mut self,
        memory: &mut M,
        spot: &Spot,
        slot: SwapSlot,
        frame: Hfn,
        backing: Backing,
    ) -> SlotReference {
        // It comes back to be used: until that is done it is not to be taken again.
        let leaf = Entry::Leaf(Leaf {
            accessed: true,
            ..small_leaf(frame, backing)
        });
        memory.store(spot.slot.table, spot.slot.index, leaf.encode());
        let page = match backing {
            Backing::Shared => Page::Shared(frame),
            Backing::Owned | Backing::Frozen => Page::Unique(frame),
        };
        self.counters.remove(Page::Swapped(slot), Level::One, 1);
        self.counters.add(page, Level::One, 1);
        SlotReference::claim(slot)
    }
}
