//! Single frames that come back one after another and lie side by side.
//!
//! The allocator would put each on a list and take it off again for its neighbour. What is known to lie in a row goes
//! back in blocks as large as they can be.

use pleat_types::{Hfn, OwnedFrame, PageSize};

use super::Ledger;
use super::buddy::at;
use super::error::Bug;
use super::record::{FrameRecord, MAX_ORDER, State};

/// Frames that pages of guests owned, side by side.
///
/// Dropping one that is not empty loses its frames; the audit shows that.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "frames that are dropped are lost"]
pub struct Row {
    first: u64,
    count: u64,
}

impl Row {
    /// No frame.
    pub const EMPTY: Self = Self { first: 0, count: 0 };

    /// Adds a frame at one of the ends. One that does not lie there, or is a block, comes back.
    #[inline]
    pub fn push(&mut self, frame: OwnedFrame) -> Result<(), OwnedFrame> {
        let number = frame.first().get();
        if frame.size() != PageSize::Small {
            return Err(frame);
        }
        if self.count == 0 || number.checked_add(1) == Some(self.first) {
            self.first = number;
        } else if self.first.checked_add(self.count) != Some(number) {
            return Err(frame);
        }
        self.count += 1;
        Ok(())
    }

    /// How many frames there are.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.count
    }
}

impl Ledger<'_> {
    /// Takes back a row of frames, as [`Ledger::release`] does each. If one of them cannot be taken back, the others
    /// are, and the first that cannot is named.
    #[inline]
    pub fn release_row(&mut self, row: Row) -> Result<(), Bug> {
        match row.count {
            0 => Ok(()),
            1 => self.release(OwnedFrame::claim(Hfn::new(row.first), PageSize::Small)),
            _ => self.release_longer(row),
        }
    }

    #[inline(never)]
    fn release_longer(&mut self, row: Row) -> Result<(), Bug> {
        let Row { first, count } = row;
        let head = self.index(Hfn::new(first))?;
        let end = self.index(Hfn::new(first + (count - 1)))? + 1;
        // The parts of larger blocks are rare.
        if !self.records[at(head)..at(end)]
            .iter()
            .all(|record| record.is_block(State::Guest, 0))
        {
            return self.release_each(head, end);
        }
        self.records[at(head)..at(end)].fill(FrameRecord::single(State::Tail));
        let mut block = head;
        while block < end {
            let order = largest_order(block, end);
            self.buddy.give(self.records, block, order);
            block += 1 << order;
        }
        self.recount(State::Guest, State::Free, count);
        Ok(())
    }

    #[cold]
    fn release_each(&mut self, head: u32, end: u32) -> Result<(), Bug> {
        let mut outcome = Ok(());
        for frame in head..end {
            let frame = OwnedFrame::claim(Hfn::new(u64::from(frame)), PageSize::Small);
            outcome = outcome.and(self.release(frame));
        }
        outcome
    }
}

/// The order of the largest block that starts here and ends no later than there.
fn largest_order(block: u32, end: u32) -> u8 {
    let aligned = block.trailing_zeros().min(u32::from(MAX_ORDER));
    let fits = (end - block).ilog2();
    u8::try_from(aligned.min(fits)).unwrap_or(0)
}
