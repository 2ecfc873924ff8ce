//! Slots whose content is on the disk and that no page names: they wait for the page that had it to have it again.

use pleat_types::FrameMemory;

use super::record::{Record, Slot};
use super::{DiskPlace, Location, Slots};
use crate::ledger::{Key, Owner};
use crate::swap::error::Bug;
use crate::swap::fingerprint::Fingerprint;

impl Slots {
    /// The only page with a content that is on the disk has it in a frame now: the slot stays, and is nobody's. Its
    /// fingerprint is bound to the page, for which alone it may come back.
    pub fn retire<M: FrameMemory>(&mut self, memory: &mut M, number: u32, page: Owner) -> Result<(), Bug> {
        let (spot, slot) = self.used(memory, number)?;
        let (Location::Disk(place), 1) = (slot.location, slot.references) else {
            return Err(Bug::BadReferences(slot.references));
        };
        let (location, references) = (Location::Clean(place), 0);
        spot.store(
            memory,
            Record::Used(Slot {
                location,
                references,
                fingerprint: slot.fingerprint.bound_to(page),
                ..slot
            }),
        );
        self.counts.subtract(slot.location);
        self.counts.add(location);
        self.counts.references = self.counts.references.saturating_sub(1);
        Ok(())
    }

    /// What a slot that is nobody's must have when it comes back, bound to the page that it was of.
    pub fn clean<M: FrameMemory>(&self, memory: &M, number: u32) -> Result<(DiskPlace, Fingerprint), Bug> {
        match self.any(memory, number)?.1 {
            Slot {
                location: Location::Clean(place),
                fingerprint,
                ..
            } => Ok((place, fingerprint)),
            _ => Err(Bug::NoSlot(number)),
        }
    }

    /// The page that it was of has this content again.
    pub fn revive<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        number: u32,
        key: Key,
        fingerprint: Fingerprint,
    ) -> Result<(), Bug> {
        let (place, _) = self.clean(memory, number)?;
        let (spot, slot) = self.any(memory, number)?;
        let (location, references) = (Location::Disk(place), 1);
        spot.store(
            memory,
            Record::Used(Slot {
                location,
                references,
                key,
                fingerprint,
                ..slot
            }),
        );
        self.counts.subtract(slot.location);
        self.counts.add(location);
        self.counts.references += 1;
        Ok(())
    }

    /// Frees a slot that is nobody's; its block, which has to be freed, too.
    pub fn discard<M: FrameMemory>(&mut self, memory: &mut M, number: u32) -> Result<u32, Bug> {
        let (place, _) = self.clean(memory, number)?;
        let (spot, slot) = self.any(memory, number)?;
        self.vacate(memory, spot, number, slot.location);
        Ok(place.block)
    }
}
