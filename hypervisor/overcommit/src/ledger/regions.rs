//! Telling the ledger what memory there is, and counting it.

use pleat_types::Hfn;

use super::buddy::at;
use super::error::Bug;
use super::record::{FrameRecord, State};
use super::{Counts, Ledger};

/// What a range of memory is at boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// For use.
    Usable,
    /// The hypervisor itself.
    Image,
    /// The ledger's records, stacks and the like.
    Metadata,
    /// The boot bundle.
    Bundle,
}

impl Ledger<'_> {
    /// Adds `count` frames from `first` on. Usable memory must not have been added before; everything
    /// else may be cut out of usable memory, so the memory map can come first and what lies in it
    /// after. Nothing changes if a frame does not fit.
    pub fn add_region(&mut self, first: Hfn, count: u64, what: Region) -> Result<(), Bug> {
        let end = first.checked_add(count).ok_or(Bug::NotManaged(first))?;
        for frame in first.get()..end.get() {
            self.can_add(Hfn::new(frame), what)?;
        }
        // From the top, so that the free lists start with the lowest block.
        for frame in (first.get()..end.get()).rev() {
            self.add_frame(Hfn::new(frame), what)?;
        }
        Ok(())
    }

    fn can_add(&self, frame: Hfn, what: Region) -> Result<(), Bug> {
        self.index(frame)?;
        match (self.block_of(frame), what) {
            (Some((_, record)), _) if record.is(State::Reserved) => Ok(()),
            (Some((_, record)), Region::Image | Region::Metadata | Region::Bundle)
                if record.is(State::Free) =>
            {
                Ok(())
            }
            _ => Err(Bug::NotThat(frame)),
        }
    }

    fn add_frame(&mut self, frame: Hfn, what: Region) -> Result<(), Bug> {
        let index = self.index(frame)?;
        let (block, record) = self.block_of(frame).ok_or(Bug::NotThat(frame))?;
        if record.is(State::Free) {
            self.buddy.take_exact(self.records, block, index);
            self.uncount(State::Free, 1);
            self.counts.total -= 1;
        }
        let state = match what {
            Region::Usable => State::Free,
            Region::Image => State::Image,
            Region::Metadata => State::Metadata,
            Region::Bundle => State::Bundle,
        };
        if state == State::Free {
            self.buddy.give(self.records, index, 0);
        } else {
            self.records[at(index)] = FrameRecord::single(state, 0);
        }
        self.count(state, 1);
        self.counts.total += 1;
        Ok(())
    }

    pub(super) fn count(&mut self, state: State, frames: u64) {
        if let Some(counter) = self.counts.class(state) {
            *counter += frames;
        }
    }

    /// Wrapping, so that a miscount is found by the audit and not by a panic.
    pub(super) fn uncount(&mut self, state: State, frames: u64) {
        if let Some(counter) = self.counts.class(state) {
            *counter = counter.wrapping_sub(frames);
        }
    }
}

impl Counts {
    /// The counter of a class; memory that was never added has none.
    pub(super) const fn class(&mut self, state: State) -> Option<&mut u64> {
        match state {
            State::Reserved | State::Tail => None,
            State::Free => Some(&mut self.free),
            State::Table => Some(&mut self.tables),
            State::Guest => Some(&mut self.guests),
            State::Vcpu => Some(&mut self.vcpus),
            State::Bundle => Some(&mut self.bundle),
            State::Image => Some(&mut self.image),
            State::Metadata => Some(&mut self.metadata),
            State::Zero => Some(&mut self.zero),
        }
    }
}
