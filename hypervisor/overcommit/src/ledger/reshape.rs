//! The same frames in blocks of another size, as their mappings were split or collapsed, or came back in parts.

use pleat_types::{Hfn, PageSize};

use super::buddy::at;
use super::error::Bug;
use super::record::{FrameRecord, HUGE_ORDER, MAX_ORDER, State};
use super::{Ledger, order_of};

/// A block has 512 parts, as a table has entries.
const PARTS: u32 = 1 << MAX_ORDER;

impl Ledger<'_> {
    /// The block becomes 512 of the next smaller size, each owned by its own page: its mapping was split.
    /// None of them is in the index of contents. Who splits says which size, so that a block that has become
    /// another one meanwhile is left alone.
    pub fn split(&mut self, first: Hfn, size: PageSize) -> Result<(), Bug> {
        let order = order_of(first, size)?;
        let part = part_of(first, order)?;
        let head = self.index(first)?;
        let owner = self.expect(head, State::Guest, order)?.owner();
        for n in 0..PARTS {
            let (block, owner) = (head + (n << part), owner.nth(n << part)?);
            self.records[at(block)] = FrameRecord::owned(owner, part)?;
        }
        Ok(())
    }

    /// 512 blocks, an aligned row that is owned by pages in order, become one block of this size: their
    /// mappings were collapsed. None of them may be in the index of contents.
    pub fn join(&mut self, first: Hfn, size: PageSize) -> Result<(), Bug> {
        let order = order_of(first, size)?;
        let part = part_of(first, order)?;
        let head = self.index(first)?;
        let owner = self.expect(head, State::Guest, part)?.owner();
        let blocks = (0..PARTS).map(|n| (head + (n << part), n << part));
        for (block, offset) in blocks.clone() {
            let record = self.expect(block, State::Guest, part)?;
            if record.owner() != owner.nth(offset)? {
                return Err(Bug::NotThat(Hfn::new(u64::from(block))));
            }
        }
        for (block, _) in blocks {
            self.records[at(block)] = FrameRecord::single(State::Tail);
        }
        self.records[at(head)] = FrameRecord::owned(owner, order)?;
        Ok(())
    }
}

impl Ledger<'_> {
    /// Takes back a part of a larger block, which is split for that; else `why` it could not be taken back.
    #[cold]
    pub(super) fn release_part(&mut self, first: Hfn, order: u8, why: Bug) -> Result<(), Bug> {
        while let Some((head, record)) = self.block_of(first) {
            let size = match record.order() {
                _ if !record.is(State::Guest) => return Err(why),
                larger if larger <= order => break,
                HUGE_ORDER => PageSize::Huge,
                _ => PageSize::Large,
            };
            self.split(Hfn::new(u64::from(head)), size)?;
        }
        self.give(first, State::Guest, order).map_err(|_| why)
    }
}

/// The order of the parts of a block.
fn part_of(first: Hfn, order: u8) -> Result<u8, Bug> {
    match order {
        HUGE_ORDER => Ok(MAX_ORDER),
        MAX_ORDER => Ok(0),
        _ => Err(Bug::BadBlock(first)),
    }
}
