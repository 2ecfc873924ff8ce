//! 512 pages that lie anywhere become one mapping of a block that holds copies of them.

use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize};

use crate::codec::{Backing, ENTRIES, Entry, Leaf, Level};
use crate::error::{Bug, Error, Refused};
use crate::flush::{PendingFlush, Retired};
use crate::map::small_leaf;
use crate::memory::TableMemory;
use crate::parts::Parts;
use crate::table::{Page, Place, Stage2};

impl Stage2 {
    /// Calls `visit` with the frames of the 512 pages from `first` on, in order, if all of them are 4 KiB mappings
    /// that own their frames; else it says so and has visited some or none.
    pub fn gather<M: TableMemory>(
        &self,
        memory: &mut M,
        first: Gfn,
        mut visit: impl FnMut(&mut M, Hfn),
    ) -> Result<bool, Bug> {
        let Some((_, table)) = self.full_table(memory, first)? else {
            return Ok(false);
        };
        for index in 0..ENTRIES {
            let leaf = owned_leaf(memory, table, index)?;
            visit(memory, leaf.frame);
        }
        Ok(true)
    }

    /// Whether all 512 pages from `first` on are 4 KiB mappings that own their frames.
    pub fn is_gatherable<M: TableMemory>(&self, memory: &M, first: Gfn) -> Result<bool, Bug> {
        Ok(self.full_table(memory, first)?.is_some())
    }

    /// Maps `block`, which holds copies of the 512 pages from `first` on, in their place. They and their table come
    /// out of the flush. Counts as written when one of them does.
    ///
    /// No processor may run the guest from before the first copy until the flush is done: what it wrote meanwhile
    /// would be lost.
    pub fn replace_by_block<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        block: OwnedFrame,
    ) -> Result<PendingFlush, Refused> {
        let refuse = |error: Error, frame| Err(Refused { error, frame });
        if block.size() != PageSize::Large {
            return refuse(Bug::WrongSize(first).into(), block);
        }
        let (place, table) = match self.full_table(memory, first) {
            Ok(Some(found)) => found,
            Ok(None) => return refuse(Bug::WrongState(first).into(), block),
            Err(bug) => return refuse(bug.into(), block),
        };
        let whole = match self.whole_on(memory, table, &block, first) {
            Ok(whole) => whole,
            Err(bug) => return refuse(bug.into(), block),
        };
        memory.store(place.table, place.index, Entry::Leaf(whole).encode());
        self.counters
            .remove(Page::Unique(whole.frame), Level::One, ENTRIES as u64);
        self.counters.add(Page::Unique(whole.frame), Level::Two, 1);
        self.count_unlinked(Level::One);
        let mut pending = self.flush_due();
        pending.retire(Retired::Parts(Parts::of(table)));
        Ok(pending)
    }

    /// The table below the 2 MiB from `first` on and the entry that links to it, if all its pages own frames.
    fn full_table<M: TableMemory>(&self, memory: &M, first: Gfn) -> Result<Option<(Place, Hfn)>, Bug> {
        if first.large_base() != first {
            return Err(Bug::Misaligned(first));
        }
        let place = self.walk(memory, first, Level::Two)?;
        let Entry::Table(table) = place.entry else {
            return Ok(None);
        };
        if place.level != Level::Two {
            return Ok(None);
        }
        for index in 0..ENTRIES {
            match Entry::decode(memory.load(table, index), Level::One)? {
                Entry::Leaf(leaf) if leaf.backing == Backing::Owned => {}
                _ => return Ok(None),
            }
        }
        Ok(Some((place, table)))
    }

    /// One leaf on `block` with what the 512 leaves of a table say about use.
    fn whole_on<M: TableMemory>(
        &self,
        memory: &M,
        table: Hfn,
        block: &OwnedFrame,
        first: Gfn,
    ) -> Result<Leaf, Bug> {
        let mut whole = Leaf {
            size: PageSize::Large,
            calm_owed: 1,
            ..small_leaf(block.first(), Backing::Owned)
        };
        if whole.frame.large_base() != whole.frame {
            return Err(Bug::Misaligned(first));
        }
        self.page(Entry::Leaf(whole), Level::Two)?;
        for index in 0..ENTRIES {
            let leaf = owned_leaf(memory, table, index)?;
            whole.accessed |= leaf.accessed;
            whole.dirty |= leaf.dirty;
            whole.calm_owed = whole.calm_owed.max(leaf.calm_owed);
        }
        Ok(whole)
    }
}

fn owned_leaf<M: TableMemory>(memory: &M, table: Hfn, index: usize) -> Result<Leaf, Bug> {
    let raw = memory.load(table, index);
    match Entry::decode(raw, Level::One)? {
        Entry::Leaf(leaf) if leaf.backing == Backing::Owned => Ok(leaf),
        _ => Err(Bug::Malformed {
            raw,
            level: Level::One,
        }),
    }
}
