//! One calm page: is there another like it?
//!
//! The order is what makes it safe (rule 4): the page is write-protected and flushed before its bytes are
//! looked at, its partner too, all 4,096 bytes are compared, and only then one mapping is changed.

use super::{Domain, look::Scanner};
use crate::memory::MemoryError;
use arrayvec::ArrayVec;
use pleat_overcommit::ledger::{FrameState, Key, Owner};
use pleat_overcommit::merge::calm::{self, Content};
use pleat_overcommit::merge::{EQUAL_KEYS_MAX, Inserted, content};
use pleat_overcommit::promise::HostState;
use pleat_stage2::{Calm, Frozen, Level, Page};
use pleat_types::{FrameMemory, FrozenFrame, Gfn, GuestId, Hfn, PageSize, Platform};

/// A page that is frozen while it is considered.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) guest: usize,
    pub(super) domain: Domain,
    pub(super) page: Frozen,
}

impl Candidate {
    pub(super) fn owner(&self) -> Owner {
        owner(self.guest, self.page.gfn())
    }
}

/// What came of comparing a candidate with one frame.
pub(super) enum Match {
    /// They are one now.
    Merged,
    /// They are not; the candidate is as it was.
    Different(Candidate),
}

pub(super) fn owner(guest: usize, gfn: Gfn) -> Owner {
    Owner {
        guest: GuestId(u16::try_from(guest).unwrap_or(u16::MAX)),
        gfn,
    }
}

impl<P: Platform> Scanner<'_, P> {
    /// Does with a page that was found calm what can be done.
    pub(super) fn consider(&mut self, index: usize, calm: Calm, state: HostState) -> Result<(), MemoryError> {
        match calm.size {
            PageSize::Small => self.consider_page(index, calm.gfn),
            PageSize::Large => self.consider_large(index, calm.gfn, state),
            // Its operator asked for 1 GiB and no memory saved.
            PageSize::Huge => Ok(()),
        }
    }

    fn consider_page(&mut self, index: usize, gfn: Gfn) -> Result<(), MemoryError> {
        let Some(candidate) = self.freeze_candidate(index, gfn)? else {
            return Ok(());
        };
        let vouched = candidate.page.vouch();
        let bytes = self.host.platform.memory().frozen(&vouched);
        if content::is_zero(bytes) {
            return self.merge_into_zero(candidate);
        }
        let key = self.merger.secrets[index].key(bytes);
        self.merger.work.hashed += 1;
        self.note_change(vouched.frame(), key);
        self.find_partner(candidate, key)
    }

    /// The page, frozen; `None` when it has been written since it was found calm, or is no page to merge any more.
    fn freeze_candidate(&mut self, index: usize, gfn: Gfn) -> Result<Option<Candidate>, MemoryError> {
        let slot = &mut self.slots[index];
        let Some(domain) = self.merger.domain(slot.guest.id) else {
            return Ok(None);
        };
        let spot = self.host.find(&slot.guest.memory, gfn)?;
        let mapping = spot.mapping();
        if !matches!(mapping.page, Page::Unique(_)) || mapping.dirty || mapping.level != Level::One {
            return Ok(None);
        }
        let page = self.host.freeze(&mut slot.guest.memory, &spot)?;
        Ok(Some(Candidate {
            guest: index,
            domain,
            page,
        }))
    }

    /// Learns whether the content was another one when it was looked at last: pages that keep changing owe more
    /// calm next time.
    fn note_change(&mut self, frame: Hfn, key: Key) {
        let frames = &mut self.host.frames;
        let content = match frames.last_key(frame) {
            None | Some(Key(0)) => Content::New,
            Some(last) if last == key => Content::Same,
            Some(_) => Content::Changed,
        };
        frames.set_changes(frame, calm::next_changes(frames.changes(frame), content));
    }

    /// Merges the candidate with the first frame that holds the same; else puts it into the index.
    fn find_partner(&mut self, candidate: Candidate, key: Key) -> Result<(), MemoryError> {
        let own = candidate.page.frame();
        let others: ArrayVec<Hfn, EQUAL_KEYS_MAX> = self
            .host
            .frames
            .with_key(key)
            .filter(|frame| *frame != own)
            .take(EQUAL_KEYS_MAX)
            .collect();
        let mut candidate = candidate;
        for frame in others {
            let outcome = match self.host.frames.state(frame) {
                FrameState::Shared { .. } => self.try_shared(candidate, frame)?,
                FrameState::Guest(owner, PageSize::Small) => self.try_owned(candidate, owner, frame)?,
                _ => Match::Different(candidate),
            };
            match outcome {
                Match::Merged => return Ok(()),
                Match::Different(back) => candidate = back,
            }
        }
        let inserted = self.host.frames.index(own, key);
        if matches!(inserted, Inserted::Full | Inserted::Crowded) {
            self.merger.work.index_full += 1;
        }
        if inserted == Inserted::Full {
            let gfn = candidate.page.gfn();
            self.slots[candidate.guest]
                .guest
                .memory
                .look_mut()
                .missed
                .add(gfn);
        }
        self.thaw(candidate.guest, candidate.page)
    }

    /// Compares with a frame that others share already.
    fn try_shared(&mut self, candidate: Candidate, frame: Hfn) -> Result<Match, MemoryError> {
        let sharer = self.host.any_sharer(frame);
        let is_ours = sharer.and_then(|page| self.merger.domain(page.guest)) == Some(candidate.domain);
        if !is_ours || !self.are_equal(&candidate.page.vouch(), &FrozenFrame::claim(frame)) {
            return Ok(Match::Different(candidate));
        }
        self.join(candidate, frame, &[])
    }

    /// Compares with a frame that another page owns: that page is frozen, too, and is the first to share its frame.
    /// What cannot be frozen now stands in nobody's way: the candidate goes on to the next frame.
    fn try_owned(&mut self, candidate: Candidate, partner: Owner, frame: Hfn) -> Result<Match, MemoryError> {
        let index = usize::from(partner.guest.0);
        let Some(slot) = self.slots.get_mut(index) else {
            return Ok(Match::Different(candidate));
        };
        if self.merger.domain(partner.guest) != Some(candidate.domain) || !slot.guest.is_scanned() {
            return Ok(Match::Different(candidate));
        }
        let spot = self.host.find(&slot.guest.memory, partner.gfn)?;
        let mapping = spot.mapping();
        if mapping.page != Page::Unique(frame) || mapping.level != Level::One {
            return Ok(Match::Different(candidate));
        }
        let page = self.host.freeze(&mut slot.guest.memory, &spot)?;
        let is_stale = mapping.dirty || mapping.calm_owed > 0;
        if self.are_equal(&candidate.page.vouch(), &page.vouch()) {
            self.share(index, page)?;
            return self.join(candidate, frame, &[partner]);
        }
        if is_stale {
            self.merger.work.collisions -= 1;
            // It was written since it got its key. It will get another one when it is calm.
            self.host.frames.unindex(frame);
        }
        self.thaw(index, page)?;
        Ok(Match::Different(candidate))
    }

    fn are_equal(&mut self, left: &FrozenFrame, right: &FrozenFrame) -> bool {
        self.merger.work.compared += 1;
        let memory = self.host.platform.memory();
        let is_equal = content::are_equal(memory.frozen(left), memory.frozen(right));
        self.merger.work.collisions += u64::from(!is_equal);
        is_equal
    }
}
