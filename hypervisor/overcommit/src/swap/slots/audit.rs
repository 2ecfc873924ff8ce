//! The audit of the table of slots, and a walk over it for the host's.

use pleat_types::FrameMemory;

use super::record::Record;
use super::{Slot, SlotCounts, Slots};
use crate::swap::error::Corruption;

impl Slots {
    /// Visits all slots that are in use, with their numbers.
    pub fn for_each<M: FrameMemory>(
        &self,
        memory: &M,
        mut visit: impl FnMut(u32, &Slot),
    ) -> Result<(), Corruption> {
        for number in 0..self.fresh {
            if let Record::Used(slot) = self.record(memory, number)? {
                visit(number, &slot);
            }
        }
        Ok(())
    }

    /// Checks every record, the list of free slots and all counts.
    pub fn audit<M: FrameMemory>(&self, memory: &M) -> Result<(), Corruption> {
        let mut counts = SlotCounts::default();
        self.for_each(memory, |_, slot| {
            counts.add(slot.location);
            counts.references += u64::from(slot.references);
        })?;
        if counts != self.counts {
            return Err(Corruption::Miscounted);
        }
        let free = u64::from(self.fresh) - counts.slots();
        self.audit_free_list(memory, free)
    }

    /// A list that ends after as many slots as are free, all of them free, has each of them once: one that comes to
    /// a slot again never ends.
    fn audit_free_list<M: FrameMemory>(&self, memory: &M, free: u64) -> Result<(), Corruption> {
        let mut next = self.free;
        for _ in 0..free {
            let number = next.checked_sub(1).filter(|number| *number < self.fresh);
            next = match self.record(memory, number.ok_or(Corruption::BrokenFreeList)?)? {
                Record::Free(next) => next,
                Record::Used(_) => return Err(Corruption::BrokenFreeList),
            };
        }
        if next == 0 {
            Ok(())
        } else {
            Err(Corruption::BrokenFreeList)
        }
    }

    fn record<M: FrameMemory>(&self, memory: &M, number: u32) -> Result<Record, Corruption> {
        let spot = self.directory.find(memory, number);
        let record = spot.and_then(|spot| spot.load(memory));
        record.ok_or(Corruption::BrokenSlot(number))
    }
}
