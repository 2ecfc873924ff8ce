//! What changes when pages become one: mappings, records, and the list of sharers.

use super::look::Scanner;
use super::page::{Candidate, Match};
use crate::memory::MemoryError;
use pleat_overcommit::ledger::{Error, Owner};
use pleat_stage2::{Frozen, Retired};
use pleat_types::{Hfn, OwnedFrame, Platform};

impl<P: Platform> Scanner<'_, P> {
    /// The candidate is all zeros: it maps the zero frame, and its own goes back.
    pub(super) fn merge_into_zero(&mut self, candidate: Candidate) -> Result<(), MemoryError> {
        let memory = &mut self.slots[candidate.guest].guest.memory;
        let pending = self.host.with_tables(memory, |stage2, tables| {
            stage2.merge_into_zero(tables, candidate.page)
        })??;
        self.host.settle(pending);
        self.merger.work.merged += 1;
        self.merger.work.merged_zero += 1;
        Ok(())
    }

    /// The frozen page keeps its frame but does not own it any more: others may share it.
    pub(super) fn share(&mut self, guest: usize, page: Frozen) -> Result<(), MemoryError> {
        let memory = &mut self.slots[guest].guest.memory;
        let owned = self
            .host
            .with_tables(memory, |stage2, tables| stage2.share(tables, page))??;
        self.host.frames.share(owned);
        Ok(())
    }

    /// The candidate, whose content is that of `frame`, maps it; its own frame goes back. `first` is the page that
    /// shared the frame so far, if nobody has noted it yet.
    pub(super) fn join(
        &mut self,
        candidate: Candidate,
        frame: Hfn,
        first: &[Owner],
    ) -> Result<Match, MemoryError> {
        let share = match self.host.frames.add_share(frame) {
            Ok(share) => share,
            // It has as many sharers as a record can count: this content gets another frame, and this one must not
            // stand where that one could be found.
            Err(Error::TooManySharers) => {
                self.host.frames.unindex(frame);
                return Ok(Match::Different(candidate));
            }
            Err(_) => return Err(MemoryError::Bug("adding a share")),
        };
        let owner = candidate.owner();
        let memory = &mut self.slots[candidate.guest].guest.memory;
        let pending = self.host.with_tables(memory, |stage2, tables| {
            stage2.merge_into(tables, candidate.page, share)
        })??;
        let mut retired = pending.settle(|eptp| self.host.platform.flush(eptp)).into_iter();
        let Some(Retired::Frame(own)) = retired.next() else {
            return Err(MemoryError::Bug("a merge that frees nothing"));
        };
        match first.first() {
            Some(first) => self.note_sharers(frame, &[*first, owner], Some(own))?,
            None => self.note_sharers(frame, &[owner], Some(own))?,
        }
        self.merger.work.merged += 1;
        Ok(Match::Merged)
    }

    /// Writes down who shares a frame. The frame that the merge has freed is there if that takes memory; without one it
    /// is said that some is needed.
    pub(super) fn note_sharers(
        &mut self,
        frame: Hfn,
        pages: &[Owner],
        freed: Option<OwnedFrame>,
    ) -> Result<(), MemoryError> {
        let slots = &*self.slots;
        let is_live = |memory: &mut P::Memory, page: Owner| {
            let slot = slots.get(usize::from(page.guest.0));
            slot.is_some_and(|slot| slot.guest.memory.shares(memory, page.gfn, frame))
        };
        let memory = self.host.platform.memory();
        let noted = self
            .host
            .frames
            .note_sharers(memory, frame, pages, freed, is_live);
        noted.map_err(|error| match error {
            Error::HostShort => MemoryError::HostShort,
            _ => MemoryError::Bug("the list of a frame's sharers"),
        })
    }

    /// The page can be written again, as if it had never been frozen.
    pub(super) fn thaw(&mut self, guest: usize, page: Frozen) -> Result<(), MemoryError> {
        let memory = &mut self.slots[guest].guest.memory;
        Ok(self
            .host
            .with_tables(memory, |stage2, tables| stage2.thaw(tables, page))??)
    }
}
