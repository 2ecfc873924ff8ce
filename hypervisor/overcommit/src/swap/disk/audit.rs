//! The audit of the disk tier: who has which block, buffer and clean copy.

use pleat_types::FrameMemory;

use super::Disk;
use super::blocks::weigh;
use crate::swap::error::Corruption;
use crate::swap::slots::{Location, Slot, Slots};

/// Blocks that somebody has: how many, and a sum over them.
#[derive(Default)]
struct Blocks {
    count: u32,
    weight: u64,
}

impl Blocks {
    fn add(&mut self, block: u32) {
        self.count += 1;
        self.weight = self.weight.wrapping_add(weigh(block));
    }
}

impl Disk {
    /// Checks that each block in use is a slot's, in flight, or bad; that staged slots and buffers name each other; and
    /// that each clean copy has one entry.
    pub(in crate::swap) fn audit<M: FrameMemory>(&self, memory: &M, slots: &Slots) -> Result<(), Corruption> {
        let mut blocks = Blocks::default();
        let mut result = Ok(());
        slots.for_each(memory, |number, slot| {
            result = result.and(self.audit_slot(number, slot, &mut blocks));
        })?;
        result?;
        self.audit_staging(slots, &mut blocks)?;
        blocks.count += self.blocks.bad_count();
        blocks.weight = blocks.weight.wrapping_add(self.blocks.bad_weight());
        if self.blocks.audit(memory)? != (blocks.count, blocks.weight) {
            return Err(Corruption::BrokenBlocks);
        }
        self.audit_clean(memory, slots)?;
        self.audit_reads(memory, slots)
    }

    fn audit_slot(&self, number: u32, slot: &Slot, blocks: &mut Blocks) -> Result<(), Corruption> {
        match slot.location {
            Location::Disk(place) | Location::Clean(place) => blocks.add(place.block),
            Location::Staged(place) => {
                let held = self.staging.get(place.buffer);
                let is_it = held.is_some_and(|held| held.slot() == Some(number) && held.write == place.write);
                return if is_it {
                    Ok(())
                } else {
                    Err(Corruption::BrokenBuffer(number))
                };
            }
            Location::Filled(_) | Location::Packed(_) => {}
        }
        Ok(())
    }

    /// As many buffers are some slot's as slots have one; and each of those slots names another one.
    fn audit_staging(&self, slots: &Slots, blocks: &mut Blocks) -> Result<(), Corruption> {
        let mut staged = 0;
        for (_, held) in self.staging.iter() {
            staged += u64::from(held.slot().is_some());
            held.block().into_iter().for_each(|block| blocks.add(block));
        }
        if staged == slots.counts().staged && self.staging.is_sound() {
            Ok(())
        } else {
            Err(Corruption::Miscounted)
        }
    }

    fn audit_clean<M: FrameMemory>(&self, memory: &M, slots: &Slots) -> Result<(), Corruption> {
        let mut count = 0;
        for slot in self.clean.iter(memory) {
            slots.clean(memory, slot).map_err(|_| Corruption::BrokenClean)?;
            count += 1;
        }
        if count == slots.counts().clean {
            Ok(())
        } else {
            Err(Corruption::BrokenClean)
        }
    }

    fn audit_reads<M: FrameMemory>(&self, memory: &M, slots: &Slots) -> Result<(), Corruption> {
        for read in self.reads.iter() {
            let known = slots.get(memory, read.slot).map(|slot| slot.location);
            if known != Ok(Location::Disk(read.place)) {
                return Err(Corruption::BrokenBuffer(read.slot));
            }
        }
        Ok(())
    }
}
