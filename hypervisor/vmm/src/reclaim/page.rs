//! One cold page, or the mapping that it is in: is it still cold, and can its content be kept?
//!
//! The order is what makes it safe: the page is write-protected and flushed before its bytes are looked at, the content
//! is in the store before the entry changes, and the frame goes back after one more flush.

use super::Taking;
use super::take::Taken;
use crate::memory::MemoryError;
use crate::run::Hypervisor;
use arrayvec::ArrayVec;
use pleat_overcommit::ledger::Owner;
use pleat_overcommit::merge::content;
use pleat_overcommit::swap::NotKept;
use pleat_stage2::{Error, Level, Page};
use pleat_types::{FrameMemory, FrozenFrame, Gfn, Hfn, PageSize, Platform};

/// A frame that more pages share stays: it is one frame, and all of them would have to come back.
const SHARERS_MAX: usize = 128;

impl<P: Platform> Hypervisor<P> {
    /// A page that owns its frame.
    pub(super) fn take_owned(&mut self, index: usize, gfn: Gfn) -> Result<Taken, MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let spot = self.host.find(memory, gfn)?;
        let mapping = spot.mapping();
        if !matches!(mapping.page, Page::Unique(_)) || mapping.level != Level::One || mapping.accessed {
            return Ok(Taken::Passed);
        }
        let page = self.host.freeze(memory, &spot)?;
        let vouched = page.vouch();
        if content::is_zero(self.host.platform.memory().frozen(&vouched)) {
            let merged = self
                .host
                .with_tables(memory, |stage2, tables| stage2.merge_into_zero(tables, page))??;
            self.host.settle(merged);
            self.reclaimer.work.zero += 1;
            return Ok(Taken::Frame);
        }
        let owner = Owner {
            guest: memory.guest(),
            gfn,
        };
        match self.host.keep_content(&vouched, Some(owner)) {
            Ok(reference) => {
                let pending = self
                    .host
                    .with_tables(memory, |stage2, tables| stage2.swap_out(tables, page, reference))??;
                self.host.settle_swapped(pending);
                Ok(Taken::Frame)
            }
            Err(why) => {
                self.host
                    .with_tables(memory, |stage2, tables| stage2.thaw(tables, page))??;
                self.passed_over(index, gfn, why)
            }
        }
    }

    /// What is to be done where a content was not kept.
    fn passed_over(&mut self, index: usize, gfn: Gfn, why: NotKept) -> Result<Taken, MemoryError> {
        match why {
            NotKept::Incompressible | NotKept::TooMany => {
                // Not again before it has grown old once more.
                let memory = &self.slots[index].guest.memory;
                self.host
                    .with_fixed_tables(memory, |stage2, tables| stage2.make_young(tables, gfn))??;
                Ok(Taken::Passed)
            }
            NotKept::PoolFull => Ok(Taken::Full),
            NotKept::Later => {
                self.reclaimer.is_stalled = true;
                Ok(Taken::Stalled)
            }
            NotKept::NoFrames => Ok(Taken::NoFrames),
            NotKept::Bug(_) => Err(MemoryError::Bug("the swap store")),
        }
    }

    /// A page that shares its frame: all that share it must be cold, and all leave it for the same slot.
    pub(super) fn take_shared(&mut self, taking: Taking, gfn: Gfn) -> Result<Taken, MemoryError> {
        let mapping = self.host.lookup(&self.slots[taking.guest].guest.memory, gfn)?;
        let Page::Shared(frame) = mapping.page else {
            return Ok(Taken::Passed);
        };
        let page = Owner {
            guest: self.slots[taking.guest].guest.id,
            gfn,
        };
        if !self.speaks_for(page, frame) {
            return Ok(Taken::Passed);
        }
        let Some(pages) = self.cold_sharers(frame, taking.least_age)? else {
            // This page speaks for all that share the frame: they are not looked at again before it has grown old once more.
            let memory = &self.slots[taking.guest].guest.memory;
            self.host
                .with_fixed_tables(memory, |stage2, tables| stage2.make_young(tables, gfn))??;
            return Ok(Taken::Passed);
        };
        let first = match self.host.keep_content(&FrozenFrame::claim(frame), None) {
            Ok(reference) => reference,
            Err(why) => return self.passed_over(taking.guest, gfn, why),
        };
        let slot = first.slot();
        let mut reference = Some(first);
        for page in pages {
            let next = match reference.take() {
                Some(first) => first,
                None => match self
                    .host
                    .swap
                    .store
                    .add_reference(self.host.platform.memory(), slot)
                {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            let memory = &mut self.slots[usize::from(page.guest.0)].guest.memory;
            let left = self.host.with_tables(memory, |stage2, tables| {
                stage2.swap_out_share(tables, page.gfn, frame, next)
            })?;
            match left {
                Ok(pending) => self.host.settle(pending),
                Err(next) => self.host.release_slot(next),
            }
        }
        self.reclaimer.work.shared += 1;
        Ok(Taken::Frame)
    }

    /// Of all pages that share a frame one is asked, so that they are not all looked at for each of them: the first that
    /// was noted, as long as it still does.
    fn speaks_for(&mut self, page: Owner, frame: Hfn) -> bool {
        let Some(first) = self.host.any_sharer(frame).filter(|first| *first != page) else {
            return true;
        };
        let memory = self.host.platform.memory();
        let slot = self.slots.get(usize::from(first.guest.0));
        !slot.is_some_and(|slot| slot.guest.memory.shares(memory, first.gfn, frame))
    }

    /// All pages that share a frame, each once, if there are few and all of them are cold.
    fn cold_sharers(
        &mut self,
        frame: Hfn,
        least_age: u8,
    ) -> Result<Option<ArrayVec<Owner, SHARERS_MAX>>, MemoryError> {
        let count = self.host.frames.sharers(frame) as usize;
        if count == 0 || count > SHARERS_MAX {
            return Ok(None);
        }
        let mut noted = ArrayVec::<Owner, { 2 * SHARERS_MAX }>::new();
        let mut is_all = true;
        self.host.for_each_sharer(frame, |page| {
            is_all &= noted.try_push(page).is_ok();
        })?;
        let mut cold = ArrayVec::new();
        noted.sort_unstable();
        for (n, page) in noted.iter().enumerate() {
            let Some(slot) = self.slots.get(usize::from(page.guest.0)) else {
                continue;
            };
            if (n > 0 && noted[n - 1] == *page) || slot.guest.memory.is_dying() || slot.guest.has_ended() {
                continue;
            }
            let mapping = self.host.lookup(&slot.guest.memory, page.gfn)?;
            if mapping.page != Page::Shared(frame) {
                continue;
            }
            if mapping.accessed || mapping.age < least_age || !slot.guest.can_be_taken_from() {
                return Ok(None);
            }
            is_all &= cold.try_push(*page).is_ok();
        }
        Ok(Some(cold).filter(|cold| is_all && cold.len() == count))
    }

    /// A large mapping that is cold as a whole: its pages are found one by one when the hand comes to them.
    pub(super) fn split_cold(&mut self, index: usize, gfn: Gfn) -> Result<Taken, MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let mapping = self.host.lookup(memory, gfn)?;
        let (Page::Unique(first), Level::Two, false) = (mapping.page, mapping.level, mapping.accessed) else {
            return Ok(Taken::Passed);
        };
        // The table takes a frame, and where all that guests have is large, nothing can be taken before.
        self.host.swap.lend(&mut self.host.frames);
        match self
            .host
            .with_relief_tables(memory, |stage2, tables| stage2.split(tables, gfn))?
        {
            Ok(pending) => self.host.settle(pending),
            Err(Error::HostShort) => return Ok(Taken::Passed),
            Err(error) => return Err(error.into()),
        }
        self.host.frames.split(
            Hfn::new(first.get() - gfn.get() % PageSize::Large.frames()),
            PageSize::Large,
        );
        memory.look_mut().due.add(gfn);
        let ages = memory.ages_mut();
        ages.hand = ages.hand.min(gfn);
        self.reclaimer.work.split += 1;
        Ok(Taken::Passed)
    }
}
