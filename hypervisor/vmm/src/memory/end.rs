//! Giving a guest's memory back, and looking whether all of it is accounted for.

use super::{GuestMemory, Life, MemoryError};
use crate::audit::{Depth, weigh};
use crate::frames::Tables;
use crate::host::Host;
use core::mem;
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{Counters, Held};
use pleat_types::Platform;

/// What a walk over a guest's tables has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Inventory {
    /// What is there.
    pub(crate) counted: Counters,
    /// Frames and tables that the ledger knows as something else.
    pub(crate) disputed: u64,
    /// The sum of its mappings of shared frames.
    pub(crate) weight: u64,
    /// The same of its references to slots.
    pub(crate) slot_weight: u64,
}

impl<P: Platform> Host<P> {
    /// The guest will not run any more: its memory goes back by [`Host::release_some`].
    pub(crate) fn begin_release(&mut self, memory: &mut GuestMemory) {
        memory.life = match mem::replace(&mut memory.life, Life::Gone) {
            Life::Live(stage2) => Life::Dying(stage2.teardown()),
            other => other,
        };
        self.abandon_huge(memory);
    }

    /// Gives the next batch of a dying guest's frames back; false when there is none left.
    pub(crate) fn release_some(&mut self, memory: &mut GuestMemory) -> Result<bool, MemoryError> {
        let Life::Dying(teardown) = &mut memory.life else {
            return Ok(false);
        };
        let mut tables = Tables {
            memory: self.platform.memory(),
            frames: &mut self.frames,
            guest: memory.guest,
            purpose: Purpose::Demand,
        };
        match teardown.step(&mut tables) {
            Ok(Some(pending)) => {
                self.settle(pending);
                Ok(true)
            }
            Ok(None) => {
                memory.life = Life::Gone;
                Ok(false)
            }
            Err(_) => {
                // What the broken tables hold stays lost; the audit says so.
                memory.life = Life::Gone;
                Err(MemoryError::Bug("taking a guest's tables down"))
            }
        }
    }

    /// Counts a guest's pages again by a walk, and compares each frame with the ledger. `None` when it
    /// has no tables.
    pub(crate) fn take_inventory(
        &mut self,
        memory: &GuestMemory,
        depth: Depth,
    ) -> Result<Option<Inventory>, MemoryError> {
        let Some(stage2) = memory.stage2() else {
            return Ok(None);
        };
        let guest = memory.guest;
        let tables = Tables {
            memory: self.platform.memory(),
            frames: &mut self.frames,
            guest,
            purpose: Purpose::Demand,
        };
        let (mut disputed, mut weight, mut slot_weight) = (0, 0_u64, 0_u64);
        let counted = stage2
            .inventory(&tables, |held| {
                disputed += u64::from(!tables.frames.is_on_record(tables.memory, guest, held, depth));
                match held {
                    Held::Share { frame, .. } => weight = weight.wrapping_add(weigh(frame.get())),
                    Held::Slot { slot, .. } => {
                        slot_weight = slot_weight.wrapping_add(weigh(u64::from(slot.get())));
                    }
                    Held::Page { .. } | Held::Table(_) => {}
                }
            })
            .map_err(|_| MemoryError::Bug("a malformed entry"))?;
        Ok(Some(Inventory {
            counted,
            disputed,
            weight,
            slot_weight,
        }))
    }
}
