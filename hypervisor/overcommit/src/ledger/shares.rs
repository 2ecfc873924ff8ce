//! Frames that equal pages have in common, and how many pages that are.
//!
//! The count in a frame's record is exact: each [`Share`] is one. Which pages they are is in a list beside
//! it (see `sharers.rs`), which breaking a share leaves alone: so it costs a few steps however many pages
//! share the frame.

use pleat_types::{FrameMemory, Hfn, OwnedFrame, PageSize, Share};

use super::Ledger;
use super::buddy::at;
use super::error::{Bug, Error};
use super::list::Page;
use super::record::{FrameRecord, MAX_SHARERS, Owner, State};

/// What has become of a frame when one of its pages left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// Other pages map it still.
    Kept,
    /// It was the last one: the frame is free.
    Freed,
}

/// Who shares a frame.
#[derive(PartialEq, Eq, Debug)]
pub enum Company {
    /// It is no shared frame.
    None,
    /// One page alone.
    Alone,
    /// More than one.
    Several(Several),
}

/// A frame with several sharers.
#[derive(PartialEq, Eq, Debug)]
pub struct Several {
    index: u32,
}

impl Ledger<'_> {
    /// A page's own frame becomes a shared one, with this page as its only sharer: who calls this has made
    /// its mapping read-only and a [`Share`] out of what it owned. The key stays, and so does the frame's
    /// place in the index of contents.
    pub fn share(&mut self, frame: OwnedFrame) -> Result<(), Bug> {
        let hfn = frame.first();
        if frame.size() != PageSize::Small {
            return Err(Bug::BadBlock(hfn));
        }
        let index = self.index(hfn)?;
        let record = self.records[at(index)];
        if !record.is(State::Guest) || record.order() != 0 {
            return Err(Bug::NotThat(hfn));
        }
        Page::new(record.owner())?;
        self.records[at(index)] = record.shared();
        self.shares += 1;
        self.recount(State::Guest, State::Shared, 1);
        Ok(())
    }

    /// A frame that no page maps yet becomes a shared one; the share of the first page that will.
    pub fn share_out(&mut self, frame: OwnedFrame) -> Result<Share, Bug> {
        let hfn = frame.first();
        self.share(frame)?;
        Ok(Share::claim(hfn))
    }

    /// One more page maps a shared frame. [`Ledger::note_sharers`] is to be told which.
    pub fn add_share(&mut self, frame: Hfn) -> Result<Share, Error> {
        let record = self.shared_mut(frame)?;
        let sharers = record.sharers();
        if sharers >= MAX_SHARERS {
            return Err(Error::TooManySharers);
        }
        record.set_sharers(sharers + 1);
        self.shares += 1;
        Ok(Share::claim(frame))
    }

    /// A page does not map its shared frame any more, and no translation to it is left. A frame whose last
    /// page this was is free afterwards; it must not be in the index of contents then.
    pub fn release_share<M: FrameMemory>(&mut self, memory: &mut M, share: Share) -> Result<Released, Bug> {
        let record = self.shared_mut(share.frame())?;
        let sharers = record.sharers();
        if sharers > 1 {
            record.set_sharers(sharers - 1);
            self.shares = self.shares.wrapping_sub(1);
            return Ok(Released::Kept);
        }
        self.release_last(memory, share.frame())?;
        Ok(Released::Freed)
    }

    /// Who shares a frame. The short way of a write to a shared page asks this first, and then [`Ledger::part`].
    #[inline]
    #[must_use]
    pub fn company(&self, frame: Hfn) -> Company {
        let Some(record) = usize::try_from(frame.get())
            .ok()
            .and_then(|at| self.records.get(at))
        else {
            return Company::None;
        };
        match record.sharers() {
            _ if !record.is(State::Shared) => Company::None,
            0 | 1 => Company::Alone,
            // There are no more records than 32 bits count.
            #[allow(clippy::cast_possible_truncation)]
            _ => Company::Several(Several {
                index: frame.get() as u32,
            }),
        }
    }

    /// A page does not map its shared frame any more, others do: nothing must have happened to the frame since
    /// [`Ledger::company`] said so.
    #[inline]
    pub fn part(&mut self, several: Several, share: Share) {
        debug_assert!(share.frame().get() == u64::from(several.index), "{share:?}");
        let record = &mut self.records[at(several.index)];
        record.set_sharers(record.sharers() - 1);
        self.shares = self.shares.wrapping_sub(1);
    }

    /// The only sharer that is left owns the frame from now on, with its content, its key and its place in
    /// the index.
    pub fn own_share<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        share: Share,
        owner: Owner,
    ) -> Result<(), Bug> {
        let frame = share.frame();
        let record = *self.shared_mut(frame)?;
        if record.sharers() != 1 {
            return Err(Bug::NotThat(frame));
        }
        let owned = record.unshared(owner)?;
        self.free_list(memory, &record)?;
        let index = self.index(frame)?;
        self.records[at(index)] = owned;
        self.shares = self.shares.wrapping_sub(1);
        self.recount(State::Shared, State::Guest, 1);
        Ok(())
    }

    /// How many pages share a frame; 0 for a frame that is not shared.
    #[must_use]
    pub fn sharers(&self, frame: Hfn) -> u32 {
        self.shared(frame).map_or(0, FrameRecord::sharers)
    }

    /// How many pages share frames: the sum over all shared frames.
    #[must_use]
    pub const fn shares(&self) -> u64 {
        self.shares
    }

    /// Calls `visit` with every shared frame and the number of pages that map it.
    pub fn for_each_shared(&self, mut visit: impl FnMut(Hfn, u32)) {
        let shared = (0..)
            .zip(self.records.iter())
            .filter(|(_, record)| record.is(State::Shared));
        shared.for_each(|(frame, record)| visit(Hfn::new(frame), record.sharers()));
    }

    #[cold]
    fn release_last<M: FrameMemory>(&mut self, memory: &mut M, frame: Hfn) -> Result<(), Bug> {
        let record = *self.shared(frame)?;
        if record.is_indexed() {
            return Err(Bug::Indexed(frame));
        }
        self.free_list(memory, &record)?;
        let index = self.index(frame)?;
        // Without its list and its count, as a frame of one page.
        self.records[at(index)] = FrameRecord::single(State::Shared);
        self.shares = self.shares.wrapping_sub(1);
        self.give(frame, State::Shared, 0)
    }

    pub(super) fn shared(&self, frame: Hfn) -> Result<&FrameRecord, Bug> {
        let index = self.index(frame)?;
        let record = &self.records[at(index)];
        if record.is(State::Shared) {
            Ok(record)
        } else {
            Err(Bug::NotThat(frame))
        }
    }

    pub(super) fn shared_mut(&mut self, frame: Hfn) -> Result<&mut FrameRecord, Bug> {
        let index = self.index(frame)?;
        let record = &mut self.records[at(index)];
        if record.is(State::Shared) {
            Ok(record)
        } else {
            Err(Bug::NotThat(frame))
        }
    }
}
