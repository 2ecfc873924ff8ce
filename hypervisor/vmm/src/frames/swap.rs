//! Frames of the swap store.

use super::FramePool;
use pleat_overcommit::ledger::Purpose;
use pleat_types::{Hfn, OwnedFrame};

impl FramePool {
    /// A frame for the swap store; its content is old.
    pub(crate) fn allocate_swap(&mut self, purpose: Purpose) -> Option<Hfn> {
        self.ledger.allocate_swap(purpose).ok()
    }

    /// Makes a frame that a page has left one of the swap store's.
    pub(crate) fn donate_to_swap(&mut self, frame: OwnedFrame) -> Option<Hfn> {
        self.unindex(frame.first());
        let donated = self.ledger.donate_to_swap(frame);
        self.note(donated.is_ok());
        donated.ok()
    }

    /// Takes back a frame of the swap store.
    pub(crate) fn release_swap(&mut self, frame: Hfn) {
        let done = self.ledger.release_swap(frame).is_ok();
        self.note(done);
    }

    /// Another part has found a mistake: the audit says so.
    pub(crate) const fn note_refused(&mut self) {
        self.refused += 1;
    }
}
