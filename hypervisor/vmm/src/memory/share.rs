//! Write-protecting a page to look at it, and ending a share when a guest writes.

use super::kinds::FaultKind;
use super::{FixedTables, GuestMemory, Life, MemoryError};
use crate::host::Host;
use pleat_overcommit::ledger::{Company, Owner};
use pleat_stage2::{Frozen, Mapping, Page, Parted, Spot};
use pleat_types::{FrameMemory, Gfn, Hfn, Platform};

impl GuestMemory {
    /// Whether the page maps this frame and does not own it.
    pub(crate) fn shares<M: FrameMemory>(&self, memory: &mut M, gfn: Gfn, frame: Hfn) -> bool {
        let mapping = self
            .stage2()
            .map(|stage2| stage2.lookup(&FixedTables(memory), gfn));
        matches!(mapping, Some(Ok(mapping)) if mapping.page == Page::Shared(frame))
    }
}

impl<P: Platform> Host<P> {
    /// Takes the right to write from a page that owns its frame; on return no processor can write to it.
    pub(crate) fn freeze(&mut self, memory: &mut GuestMemory, spot: &Spot) -> Result<Frozen, MemoryError> {
        let (frozen, pending) =
            self.with_tables(memory, |stage2, tables| stage2.freeze_at(tables, spot))??;
        self.settle(pending);
        Ok(frozen)
    }

    /// A guest writes to a page: if that shares its frame, it gets a copy, or the frame when nobody else has a share any
    /// more. The copy may take a frame of the reserve, which is there for it. Says whether the write can go on: not
    /// where the page is something else, or there is no frame at all.
    ///
    /// All that it does is in this one function, and that in none: so the compiler keeps the exit path's registers
    /// apart from these.
    #[inline(never)]
    pub(super) fn part(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> bool {
        let Life::Live(stage2) = &mut memory.life else {
            return false;
        };
        let (guest, frames) = (memory.guest, &mut self.frames);
        let mut tables = FixedTables(self.platform.memory());
        let mut company = None;
        let parting = stage2.part(&mut tables, gfn, |tables, shared| match frames.company(shared) {
            // A mistake of ours: what is mapped as shared is on record as something else.
            Company::None => None,
            Company::Alone => Some(Parted::Same),
            Company::Several(several) => {
                let copy = frames.allocate_relief(guest, gfn)?;
                tables.0.copy_frame(shared, copy.first());
                company = Some(several);
                Some(Parted::Copy(copy))
            }
        });
        let Some(parting) = parting else {
            return false;
        };
        let share = parting.settle(|eptp| self.platform.flush(eptp));
        if let Some(several) = company {
            self.frames.part(several, share);
            memory.count(FaultKind::Broken);
        } else {
            let owner = Owner { guest, gfn };
            self.frames.own_share(self.platform.memory(), share, owner);
            memory.count(FaultKind::BrokenInPlace);
        }
        true
    }

    /// Whether the frame of a shared page is what it should be.
    pub(super) fn is_on_record_as_shared(&self, mapping: &Mapping) -> bool {
        matches!(mapping.page, Page::Shared(frame) if self.frames.sharers(frame) > 0)
    }

    /// Visits the pages that were noted to share a frame; they may not any more.
    pub(crate) fn for_each_sharer(
        &mut self,
        frame: Hfn,
        visit: impl FnMut(Owner),
    ) -> Result<(), MemoryError> {
        self.frames
            .for_each_sharer(self.platform.memory(), frame, visit)
            .map_err(|_| MemoryError::Bug("the list of a frame's sharers"))
    }

    /// A page that was noted to share a frame; it may not any more, but its domain is that of all.
    pub(crate) fn any_sharer(&mut self, frame: Hfn) -> Option<Owner> {
        self.frames.any_sharer(self.platform.memory(), frame)
    }
}
