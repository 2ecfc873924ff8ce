//! Write-protecting a page to look at it, and ending a share when a guest writes.

use super::{FaultKind, FixedTables, GuestMemory, Life, MemoryError};
use crate::host::Host;
use pleat_overcommit::ledger::Owner;
use pleat_stage2::{Frozen, Page, Parted, Spot};
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
    pub(crate) fn freeze(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<Frozen, MemoryError> {
        let (frozen, pending) = self.with_tables(memory, |stage2, tables| stage2.freeze(tables, gfn))??;
        self.settle(pending);
        Ok(frozen)
    }

    /// A guest writes to a page: if it shares its frame, it gets a copy, if there is a frame for one, or the frame when
    /// nobody else has a share. Says whether that was it. This is the short way of [`Host::fault`].
    #[inline]
    pub(super) fn part(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> bool {
        let Life::Live(stage2) = &mut memory.life else {
            return false;
        };
        let (guest, frames) = (memory.guest, &mut self.frames);
        let mut tables = FixedTables(self.platform.memory());
        let mut kind = FaultKind::Broken;
        let parting = stage2.part(&mut tables, gfn, |tables, shared| {
            if frames.sharers(shared) < 2 {
                kind = FaultKind::BrokenInPlace;
                return Some(Parted::Same);
            }
            let copy = frames.allocate_relief(guest, gfn)?;
            tables.0.copy_frame(shared, copy.first());
            Some(Parted::Copy(copy))
        });
        let Some(parting) = parting else {
            return false;
        };
        let share = parting.settle(|eptp| self.platform.flush(eptp));
        match kind {
            FaultKind::Broken => self.frames.part(share),
            _ => self
                .frames
                .own_share(self.platform.memory(), share, Owner { guest, gfn }),
        }
        memory.count(kind);
        true
    }

    /// A guest writes to a page that shares its frame: the last owner keeps it, others get a copy. A copy may take
    /// a frame of the reserve, which is there for it.
    pub(super) fn break_share(&mut self, memory: &mut GuestMemory, spot: Spot) -> Result<(), MemoryError> {
        let Page::Shared(shared) = spot.mapping().page else {
            return Err(MemoryError::Bug("breaking what is not shared"));
        };
        if self.frames.sharers(shared) == 1 {
            return self.take_share(memory, spot);
        }
        let copy = self.frames.allocate_relief(memory.guest(), spot.gfn());
        let copy = copy.ok_or(MemoryError::HostShort)?;
        self.platform.memory().copy_frame(shared, copy.first());
        match self.with_tables(memory, |stage2, tables| stage2.break_share_at(tables, spot, copy))? {
            Ok(pending) => {
                self.settle(pending);
                memory.count(FaultKind::Broken);
                Ok(())
            }
            Err(refused) => {
                self.frames.release(refused.frame);
                Err(refused.error.into())
            }
        }
    }

    /// The last page that shares a frame keeps it.
    fn take_share(&mut self, memory: &mut GuestMemory, spot: Spot) -> Result<(), MemoryError> {
        let share = self.with_tables(memory, |stage2, tables| stage2.take_share_at(tables, spot))??;
        let owner = Owner {
            guest: memory.guest(),
            gfn: spot.gfn(),
        };
        self.frames.own_share(self.platform.memory(), share, owner);
        memory.count(FaultKind::BrokenInPlace);
        Ok(())
    }

    /// The page that was first noted to share a frame; it may not any more, but its domain is that of all.
    pub(crate) fn any_sharer(&mut self, frame: Hfn) -> Option<Owner> {
        self.frames.any_sharer(self.platform.memory(), frame)
    }
}
