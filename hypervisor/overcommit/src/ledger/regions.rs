//! Telling the ledger what memory there is, and counting it.

use pleat_types::Hfn;

use super::Ledger;
use super::buddy::at;
use super::error::Bug;
use super::record::{FrameRecord, MAX_ORDER, State};

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

impl Region {
    const fn state(self) -> State {
        match self {
            Self::Usable => State::Free,
            Self::Image => State::Image,
            Self::Metadata => State::Metadata,
            Self::Bundle => State::Bundle,
        }
    }
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
        if what == Region::Usable {
            return self.add_usable(first, end);
        }
        for frame in first.get()..end.get() {
            self.add_frame(Hfn::new(frame), what.state())?;
        }
        Ok(())
    }

    /// In the largest blocks that fit; from the top, so that the free lists start with the lowest.
    fn add_usable(&mut self, first: Hfn, end: Hfn) -> Result<(), Bug> {
        let (first, mut end) = (number(first)?, number(end)?);
        while end > first {
            let fits = |order: &u8| end.is_multiple_of(1 << order) && end - first >= 1 << order;
            let order = (0..=MAX_ORDER).rev().find(fits).unwrap_or(0);
            let block = end - (1 << order);
            self.records[at(block)..at(end)].fill(FrameRecord::single(State::Tail));
            self.buddy.give(self.records, block, order);
            self.count(State::Free, 1 << order);
            self.counts.total += 1 << order;
            end = block;
        }
        Ok(())
    }

    fn can_add(&self, frame: Hfn, what: Region) -> Result<(), Bug> {
        let (_, record) = self.block_of(frame).ok_or(Bug::NotManaged(frame))?;
        let is_cut = what != Region::Usable && record.is(State::Free);
        if is_cut || record.is(State::Reserved) {
            Ok(())
        } else {
            Err(Bug::NotThat(frame))
        }
    }

    fn add_frame(&mut self, frame: Hfn, state: State) -> Result<(), Bug> {
        let index = self.index(frame)?;
        let (block, record) = self.block_of(frame).ok_or(Bug::NotThat(frame))?;
        if record.is(State::Free) {
            self.buddy.take_exact(self.records, block, index);
            self.uncount(State::Free, 1);
            self.counts.total -= 1;
        }
        self.records[at(index)] = FrameRecord::single(state);
        self.count(state, 1);
        self.counts.total += 1;
        Ok(())
    }
}

/// A frame number, of the end of a range too: that may be one past the last frame.
fn number(frame: Hfn) -> Result<u32, Bug> {
    u32::try_from(frame.get()).map_err(|_| Bug::NotManaged(frame))
}
