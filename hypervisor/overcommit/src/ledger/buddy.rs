//! The buddy allocator: free blocks of 2^order frames, linked through their own records.
//!
//! Blocks start at multiples of their size, so the only block that one can merge with is its buddy:
//! the other half of the next larger block. A request takes the smallest block that is large enough
//! and its lower half each time that it is split, so that a run repeats exactly and low memory
//! fills first.

use super::record::{FrameRecord, MAX_ORDER, NONE, State};

const ORDERS: usize = MAX_ORDER as usize + 1;

/// The free lists.
#[derive(Debug)]
pub(super) struct Buddy {
    heads: [u32; ORDERS],
    /// The last block of the list of largest blocks.
    last: u32,
    blocks: [u32; ORDERS],
}

impl Buddy {
    pub(super) const fn new() -> Self {
        Self {
            heads: [NONE; ORDERS],
            last: NONE,
            blocks: [0; ORDERS],
        }
    }

    pub(super) fn head(&self, order: u8) -> u32 {
        self.heads[usize::from(order)]
    }

    /// The last block of the largest order.
    pub(super) const fn last(&self) -> u32 {
        self.last
    }

    /// How many free blocks of this order there are.
    pub(super) fn blocks(&self, order: u8) -> u32 {
        self.blocks[usize::from(order)]
    }

    /// Takes a block out, for the caller to fill in its first record; the others are all Tail.
    #[inline]
    pub(super) fn take(&mut self, records: &mut [FrameRecord], order: u8) -> Option<u32> {
        let block = self.head(order);
        match records.get(at(block)) {
            Some(first) => self.remove_first(records, first.next(), order),
            None => return self.take_larger(records, order),
        }
        Some(block)
    }

    /// Takes a block out of one of a larger order.
    #[inline(never)]
    fn take_larger(&mut self, records: &mut [FrameRecord], order: u8) -> Option<u32> {
        let larger = (order + 1..=MAX_ORDER).find(|order| self.head(*order) != NONE)?;
        let block = self.head(larger);
        self.remove(records, block, larger);
        self.trim(records, block, larger, block, order);
        Some(block)
    }

    /// Takes an aligned run of largest blocks that makes a block of `order`, the lowest one; all its
    /// records are Tail afterwards.
    pub(super) fn take_run(&mut self, records: &mut [FrameRecord], order: u8) -> Option<u32> {
        let parts = 1_u32 << (order - MAX_ORDER);
        if self.blocks(MAX_ORDER) < parts {
            return None;
        }
        let part = |first: u32, n: u32| first + (n << MAX_ORDER);
        let is_free = |block: u32| {
            let record = records.get(at(block));
            record.is_some_and(|record| record.is_block(State::Free, MAX_ORDER))
        };
        let runs = u32::try_from(records.len() >> order).unwrap_or(0);
        let first = (0..runs)
            .map(|run| run << order)
            .find(|first| (0..parts).all(|n| is_free(part(*first, n))))?;
        for n in 0..parts {
            self.remove(records, part(first, n), MAX_ORDER);
            records[at(part(first, n))] = FrameRecord::single(State::Tail);
        }
        Some(first)
    }

    /// Puts a run back that [`Buddy::take_run`] could find again: behind all other blocks, so that these
    /// are used before it is broken up.
    pub(super) fn give_run(&mut self, records: &mut [FrameRecord], first: u32, order: u8) {
        for n in 0..1 << (order - MAX_ORDER) {
            let (block, previous) = (first + (n << MAX_ORDER), self.last);
            records[at(block)] = FrameRecord::free(MAX_ORDER, NONE, previous);
            match records.get_mut(at(previous)) {
                Some(record) => record.set_next(block),
                None => self.heads[usize::from(MAX_ORDER)] = block,
            }
            self.last = block;
            self.blocks[usize::from(MAX_ORDER)] += 1;
        }
    }

    /// Takes the one frame out of the free block that starts at `block`.
    pub(super) fn take_exact(&mut self, records: &mut [FrameRecord], block: u32, frame: u32) {
        let order = records[at(block)].order();
        self.remove(records, block, order);
        self.trim(records, block, order, frame, 0);
    }

    /// Puts a block back and merges it with its buddy as far as that goes. Its records but the first are
    /// all Tail.
    #[inline]
    pub(super) fn give(&mut self, records: &mut [FrameRecord], block: u32, order: u8) {
        if is_buddy_free(records, block, order) {
            self.merge(records, block, order);
        } else {
            self.insert(records, block, order);
        }
    }

    #[inline(never)]
    fn merge(&mut self, records: &mut [FrameRecord], mut block: u32, mut order: u8) {
        while is_buddy_free(records, block, order) {
            let buddy = block ^ (1 << order);
            self.remove(records, buddy, order);
            records[at(block | buddy)] = FrameRecord::single(State::Tail);
            block &= buddy;
            order += 1;
        }
        self.insert(records, block, order);
    }

    /// Gives back the halves of a block, which is on no list, that do not hold `wanted`, down to a block
    /// of `order` that does.
    fn trim(&mut self, records: &mut [FrameRecord], mut block: u32, mut size: u8, wanted: u32, order: u8) {
        while size > order {
            size -= 1;
            let upper = block + (1 << size);
            let (kept, spare) = if wanted < upper {
                (block, upper)
            } else {
                (upper, block)
            };
            self.insert(records, spare, size);
            block = kept;
        }
    }

    #[inline]
    fn insert(&mut self, records: &mut [FrameRecord], block: u32, order: u8) {
        let next = self.head(order);
        if let Some(record) = records.get_mut(at(next)) {
            record.set_previous(block);
        }
        records[at(block)] = FrameRecord::free(order, next, NONE);
        self.heads[usize::from(order)] = block;
        if order == MAX_ORDER && next == NONE {
            self.last = block;
        }
        self.blocks[usize::from(order)] += 1;
    }

    /// Takes a block off its list; its record stays, for the caller to write.
    fn remove(&mut self, records: &mut [FrameRecord], block: u32, order: u8) {
        let (next, previous) = (records[at(block)].next(), records[at(block)].previous());
        let Some(before) = records.get_mut(at(previous)) else {
            return self.remove_first(records, next, order);
        };
        before.set_next(next);
        match records.get_mut(at(next)) {
            Some(record) => record.set_previous(previous),
            None if order == MAX_ORDER => self.last = previous,
            None => {}
        }
        self.blocks[usize::from(order)] -= 1;
    }

    /// Takes the first block off its list.
    #[inline]
    fn remove_first(&mut self, records: &mut [FrameRecord], next: u32, order: u8) {
        match records.get_mut(at(next)) {
            Some(record) => record.set_previous(NONE),
            None if order == MAX_ORDER => self.last = NONE,
            None => {}
        }
        self.heads[usize::from(order)] = next;
        self.blocks[usize::from(order)] -= 1;
    }
}

/// Whether the other half of the next larger block is free as a whole.
#[inline]
fn is_buddy_free(records: &[FrameRecord], block: u32, order: u8) -> bool {
    let buddy = records.get(at(block ^ (1 << order)));
    order < MAX_ORDER && buddy.is_some_and(|record| record.is_block(State::Free, order))
}

/// A frame number as an index; [`NONE`] is past the end of any ledger.
pub(super) const fn at(frame: u32) -> usize {
    frame as usize
}
