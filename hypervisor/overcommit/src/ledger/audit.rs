//! The audit: every record, every free list, every count.

use pleat_types::{GuestId, Hfn};

use super::buddy::at;
use super::error::Corruption;
use super::list_audit::SlabTally;
use super::record::{FrameRecord, HUGE_ORDER, MAX_ORDER, NONE, State};
use super::{Counts, Ledger};

/// What an audit has seen so far.
#[derive(Default)]
struct Tally {
    counts: Counts,
    free_blocks: [u32; MAX_ORDER as usize + 1],
    slabs: SlabTally,
}

impl Ledger<'_> {
    /// Checks that every record is one that the ledger writes, that blocks are whole, that each free
    /// list holds just the free blocks of its order, that each slab frame with room is on its list and has
    /// as many chunks in use as lists are in it, and that the counts are right and add up. The work is a
    /// few steps for each record. [`Ledger::audit_lists`] looks into the slab frames too.
    pub fn audit(&self) -> Result<(), Corruption> {
        let mut tally = Tally::default();
        let mut frame = 0;
        while let Some(record) = self.records.get(at(frame)) {
            frame += self.audit_block(frame, record, &mut tally)?;
        }
        for order in 0..=MAX_ORDER {
            if self.list_length(order) != Some(tally.free_blocks[usize::from(order)]) {
                return Err(Corruption::BrokenList(order));
            }
        }
        self.audit_slabs(&tally.slabs)?;
        tally.counts.total = tally.counts.sum();
        if tally.counts == self.counts && tally.slabs.shares() == self.shares {
            Ok(())
        } else {
            Err(Corruption::Miscounted)
        }
    }

    /// How many frames are charged to a guest, in whatever class: zero once it is gone for good.
    #[must_use]
    pub fn charged_to(&self, guest: GuestId) -> u64 {
        let mut charged = 0;
        self.for_each_charge(|other, frames| charged += if other == guest { frames } else { 0 });
        charged
    }

    /// Visits all that is charged to guests: who, and how many frames.
    pub fn for_each_charge(&self, mut visit: impl FnMut(GuestId, u64)) {
        let is_charged = |record: &&FrameRecord| {
            record.is(State::Guest) || record.is(State::Table) || record.is(State::Vcpu)
        };
        for record in self.records.iter().filter(is_charged) {
            visit(record.guest(), 1 << record.order());
        }
    }

    /// Checks the block that starts at `frame`, counts it, and says how many frames it has.
    fn audit_block(&self, frame: u32, record: &FrameRecord, tally: &mut Tally) -> Result<u32, Corruption> {
        let hfn = Hfn::new(u64::from(frame));
        let order = record.order();
        let state = record.state().ok_or(Corruption::BadRecord(hfn))?;
        let is_possible = match state {
            State::Free => order <= MAX_ORDER,
            State::Guest => order == 0 || order == MAX_ORDER || order == HUGE_ORDER,
            // The tails of a block are passed over with it: one that is met here has no block.
            State::Tail => false,
            _ => order == 0,
        };
        if !is_possible || !record.is_regular() {
            return Err(Corruption::BadRecord(hfn));
        }
        let (frames, tail) = (1_u32 << order, FrameRecord::single(State::Tail));
        let tails = frame
            .checked_add(frames)
            .and_then(|end| self.records.get(at(frame) + 1..at(end)));
        let is_whole = tails.is_some_and(|tails| tails.iter().all(|other| *other == tail));
        if !frame.is_multiple_of(frames) || !is_whole {
            return Err(Corruption::BrokenBlock(hfn));
        }
        if state == State::Free {
            tally.free_blocks[usize::from(order)] += 1;
            self.audit_buddy(frame, order)?;
        }
        self.tally_slabs(frame, record, &mut tally.slabs)?;
        if let Some(counter) = tally.counts.class(state) {
            *counter += u64::from(frames);
        }
        Ok(frames)
    }

    fn audit_buddy(&self, frame: u32, order: u8) -> Result<(), Corruption> {
        let buddy = self.records.get(at(frame ^ (1 << order)));
        let is_apart = buddy.is_some_and(|buddy| buddy.is(State::Free) && buddy.order() == order);
        if is_apart && order < MAX_ORDER {
            return Err(Corruption::Unmerged(Hfn::new(u64::from(frame))));
        }
        Ok(())
    }

    /// The length of a free list, if all that is on it belongs there and points back. No list can be
    /// longer than its count, or it is a circle.
    fn list_length(&self, order: u8) -> Option<u32> {
        let (mut frame, mut before, mut length) = (self.buddy.head(order), NONE, 0);
        while frame != NONE {
            let record = self.records.get(at(frame))?;
            let belongs = record.is(State::Free) && record.order() == order && record.previous() == before;
            if !belongs || length == self.buddy.blocks(order) {
                return None;
            }
            (before, frame, length) = (frame, record.next(), length + 1);
        }
        let is_last = order < MAX_ORDER || before == self.buddy.last();
        (length == self.buddy.blocks(order) && is_last).then_some(length)
    }
}
