//! Frames of the swap store: what is compressed in memory, and what is known of what is not in memory.

use pleat_types::{Hfn, OwnedFrame};

use super::buddy::at;
use super::error::{Bug, Error};
use super::record::{FrameRecord, State};
use super::{Ledger, Purpose};

impl Ledger<'_> {
    /// A frame for the swap store. Its bytes are those of its last use.
    pub fn allocate_swap(&mut self, purpose: Purpose) -> Result<Hfn, Error> {
        self.take(FrameRecord::single(State::Swap), State::Swap, 0, purpose)
    }

    /// Makes a frame that a page has just left one of the swap store's: so to store a page never takes memory. It must
    /// not be mapped any more, nor be in the index of contents.
    pub fn donate_to_swap(&mut self, donor: OwnedFrame) -> Result<Hfn, Bug> {
        let frame = self.donor(&donor)?;
        self.records[at(frame)] = FrameRecord::single(State::Swap);
        self.recount(State::Guest, State::Swap, 1);
        Ok(donor.first())
    }

    /// Takes back a frame of the swap store.
    pub fn release_swap(&mut self, frame: Hfn) -> Result<(), Bug> {
        self.give(frame, State::Swap, 0)
    }
}
