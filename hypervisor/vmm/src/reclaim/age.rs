//! The end of generations: the accessed bits of all guests' pages, read and cleared.
//!
//! A pass over a guest's tables costs a few instructions for each page. So that it never costs much beside what guests
//! do, the next one begins no sooner than [`AGE_PART`] times what this one took.

use crate::boot::Slot;
use crate::memory::MemoryError;
use crate::merge::Progress;
use crate::run::Hypervisor;
use pleat_types::{Gfn, Platform, Tsc};

/// Entries that one step looks at.
const ENTRIES_IN_A_STEP: usize = 1024;
/// Of the processor's time at most this part goes into ageing, while nobody waits for memory.
const AGE_PART: u64 = 256;

impl<P: Platform> Hypervisor<P> {
    /// When the generation of some guest is to end, or goes on ending.
    pub(super) fn next_generation(&self) -> Tsc {
        if !self.reclaimer.is_on {
            return Tsc::NEVER;
        }
        if self.reclaimer.aging.is_some() {
            return Tsc(0);
        }
        let due = self.slots.iter().map(|slot| self.generation_due(slot)).min();
        due.unwrap_or(Tsc::NEVER)
    }

    /// When a guest's generation is to end.
    fn generation_due(&self, slot: &Slot<P::Vcpu>) -> Tsc {
        let guest = &slot.guest;
        if guest.has_ended() || guest.memory.is_dying() || guest.memory.stage2().is_none() {
            return Tsc::NEVER;
        }
        let ages = guest.memory.ages();
        match ages.began {
            _ if ages.is_hurried => Tsc(0),
            None => Tsc(0),
            Some(began) => {
                let pause = self.reclaimer.generation.0;
                began.after(Tsc(pause.max(ages.cost.0.saturating_mul(AGE_PART))))
            }
        }
    }

    /// One step of a generation's end, if one is due.
    pub(super) fn age_some(&mut self, now: Tsc) -> Progress {
        let Some(index) = self.reclaimer.aging.or_else(|| self.begin_generation(now)) else {
            return Progress::Idle;
        };
        if let Err(error) = self.age_step(index) {
            let name = self.slots[index].guest.config.name;
            self.host.fail(format_args!("ageing guest `{name}`: {error:?}"));
            self.reclaimer.aging = None;
            self.reclaimer.is_on = false;
        }
        let used = self.host.platform.now().since(now);
        let ages = self.slots[index].guest.memory.ages_mut();
        ages.cost = ages.cost.after(used);
        self.reclaimer.work.age_ticks += used.0;
        Progress::Worked
    }

    /// The guest whose generation has lasted longest beyond its end.
    fn begin_generation(&mut self, now: Tsc) -> Option<usize> {
        let due = self.slots.iter().enumerate();
        let due = due.map(|(index, slot)| (self.generation_due(slot), index));
        let (_, index) = due.min().filter(|(at, _)| *at <= now)?;
        let ages = self.slots[index].guest.memory.ages_mut();
        ages.began = Some(now);
        ages.cost = Tsc(0);
        ages.is_hurried = false;
        ages.at = Some(Gfn::new(0));
        self.reclaimer.aging = Some(index);
        Some(index)
    }

    fn age_step(&mut self, index: usize) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let from = memory.ages().at.unwrap_or(Gfn::new(0));
        let mut counting = memory.ages().counting;
        let aged = self.host.with_fixed_tables(memory, |stage2, tables| {
            stage2.age(tables, from, ENTRIES_IN_A_STEP, &mut counting)
        })??;
        self.host.settle(aged.pending);
        let ages = memory.ages_mut();
        ages.counting = counting;
        ages.at = aged.next;
        if aged.next.is_none() {
            ages.end_generation();
            self.reclaimer.aging = None;
        }
        Ok(())
    }

    /// Whether generations that are to end at once have yet to do so.
    pub(super) fn is_hurrying(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|slot| slot.guest.memory.ages().is_hurried && self.generation_due(slot) != Tsc::NEVER)
    }

    /// All guests' generations end at once: somebody waits, and no page is old enough.
    pub(super) fn hurry_generations(&mut self) {
        for slot in self.slots.iter_mut() {
            slot.guest.memory.ages_mut().is_hurried = true;
        }
    }
}
