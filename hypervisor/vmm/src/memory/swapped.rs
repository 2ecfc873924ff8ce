//! Pages whose content is in the swap store: on the way of a guest's access, and from outside.
//!
//! A page that alone has its content, in memory, comes back on the spot. Where several pages have it they are to share a
//! frame again, which takes a look at other guests; and from a disk it takes time. Then the guest leaves the processor,
//! and the run loop brings the page back ([`crate::reclaim`]).

use super::kinds::FaultKind;
use super::{GuestMemory, MemoryError, Tables};
use crate::host::Host;
use pleat_overcommit::ledger::{Key, Owner, Purpose};
use pleat_overcommit::swap::Location;
use pleat_stage2::{Held, Spot};
use pleat_types::{Access, Gfn, Gpa, OwnedFrame, Platform, SwapSlot};

impl GuestMemory {
    /// A page could not be read from outside for this: if it is away it is wanted.
    pub(super) fn want(&mut self, at: Gpa, error: MemoryError) {
        if error == MemoryError::Away {
            self.wanted = Some(Wanted {
                gfn: at.gfn(),
                access: Access::Read,
            });
        }
    }

    /// Pages that came back from the swap store.
    pub(crate) const fn swapped_in(&self) -> u64 {
        self.faults[FaultKind::SwappedIn as usize]
    }

    /// A page came back that the run loop has brought.
    pub(crate) fn count_swapped_in(&mut self) {
        self.count(FaultKind::SwappedIn);
    }
}

/// A page that a guest waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) gfn: Gfn,
    /// What it is wanted for.
    pub(crate) access: Access,
}

impl<P: Platform> Host<P> {
    /// Of a guest's pages in the swap store, those whose content is on the disk or on the way there: counted by a walk,
    /// as contents move without a word to those that have them.
    pub(crate) fn pages_on_disk(&mut self, memory: &GuestMemory) -> u64 {
        let slots = self.swap.store.slots();
        let Some(stage2) = memory.stage2().filter(|_| slots.disk + slots.staged > 0) else {
            return 0;
        };
        let tables = Tables {
            memory: self.platform.memory(),
            frames: &mut self.frames,
            guest: memory.guest,
            purpose: Purpose::Demand,
        };
        let store = &self.swap.store;
        let mut on_disk = 0;
        let walked = stage2.inventory(&tables, |held| {
            if let Held::Slot { slot, .. } = held
                && let Ok(known) = store.get(tables.memory, slot)
            {
                on_disk += u64::from(matches!(known.location, Location::Disk(_) | Location::Staged(_)));
            }
        });
        // What is malformed the audit tells.
        walked.map_or(0, |_| on_disk)
    }

    /// The guest touches a page whose content a slot has. Apart, so that what it needs of stack and registers is no part of
    /// other faults.
    #[inline(never)]
    pub(super) fn swap_in(
        &mut self,
        memory: &mut GuestMemory,
        spot: &Spot,
        slot: SwapSlot,
        access: Access,
    ) -> Result<(), MemoryError> {
        let known = self.slot(slot)?;
        let gfn = spot.gfn();
        if known.references > 1 && access != Access::Write {
            memory.wanted = Some(Wanted { gfn, access });
            return Err(MemoryError::Away);
        }
        let frame = self.frame_for(memory, gfn)?;
        if let Err(error) = self.fill_from_slot(slot, &frame) {
            self.frames.release(frame);
            if error == MemoryError::Away {
                memory.wanted = Some(Wanted { gfn, access });
            }
            return Err(error);
        }
        let hfn = frame.first();
        self.map_content(memory, spot, frame, access)?;
        if known.key != Key(0) {
            // Pages that are equal find it where it was.
            self.frames.index(hfn, known.key);
        }
        memory.count(FaultKind::SwappedIn);
        Ok(())
    }

    /// A frame that has what the page's slot has becomes the page's own.
    pub(crate) fn map_content(
        &mut self,
        memory: &mut GuestMemory,
        spot: &Spot,
        frame: OwnedFrame,
        access: Access,
    ) -> Result<(), MemoryError> {
        let mapped = self.with_tables(memory, |stage2, tables| stage2.swap_in(tables, spot, frame))?;
        match mapped {
            Ok(reference) => {
                if access == Access::Write {
                    self.release_slot(reference);
                } else {
                    let (guest, gfn) = (memory.guest, spot.gfn());
                    self.release_returned(reference, Owner { guest, gfn });
                }
                Ok(())
            }
            Err((_, frame)) => {
                self.frames.release(frame);
                Err(MemoryError::Bug("bringing a page back"))
            }
        }
    }
}
