//! The same mappings at another size: split, collapse, fold.

use pleat_types::{Gfn, Hfn, PageSize};

use crate::carve::{Part, link_parts};
use crate::codec::{Backing, ENTRIES, Entry, Leaf, Level};
use crate::error::{Bug, Error};
use crate::flush::{PendingFlush, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Place, Stage2};

impl Stage2 {
    /// Splits the large mapping that holds `gfn`: 2 MiB to 4 KiB pages, 1 GiB to 2 MiB pages. Every part
    /// inherits the accessed and dirty bits, so no write is forgotten, and owes an epoch, so that it is
    /// looked at for itself. No frame changes hands.
    ///
    /// The flush is due because a processor may hold the large translation and a small one at once,
    /// and set dirty bits through neither of them that anybody reads (SDM 29.3.5).
    pub fn split<M: TableMemory>(&mut self, memory: &mut M, gfn: Gfn) -> Result<PendingFlush, Error> {
        let place = self.walk(memory, gfn, Level::One)?;
        let (Entry::Leaf(whole), Some(below)) = (place.entry, place.level.below()) else {
            return Err(Bug::WrongSize(gfn).into());
        };
        let table = memory.allocate_table().ok_or(Error::HostShort)?;
        let part = Part {
            gfn,
            level: below,
            new: None,
        };
        if let Err(bug) = link_parts(memory, place, &part, &[table]) {
            memory.free_table(table);
            return Err(bug.into());
        }
        self.counters.remove(Page::Unique(whole.frame), place.level, 1);
        self.counters
            .add(Page::Unique(whole.frame), below, ENTRIES as u64);
        self.counters.add_table(below);
        Ok(self.flush_due())
    }

    /// Makes one 2 MiB mapping of 512 small ones that are all owned and lie one after another in an
    /// aligned block of host memory. Accessed and dirty if one of them is, and it owes as many epochs as
    /// the one that owes most. The table comes out of the flush.
    ///
    /// No processor may run the guest meanwhile: a dirty bit set in the table after it was read here
    /// would be lost.
    pub fn collapse<M: TableMemory>(&mut self, memory: &mut M, gfn: Gfn) -> Result<PendingFlush, Error> {
        let (place, table) = self.table_below(memory, gfn, Level::Two)?;
        let whole = self.whole_of(memory, table, gfn)?;
        memory.store(place.table, place.index, Entry::Leaf(whole).encode());
        self.counters
            .remove(Page::Unique(whole.frame), Level::One, ENTRIES as u64);
        self.counters.add(Page::Unique(whole.frame), Level::Two, 1);
        self.count_unlinked(Level::One);
        Ok(self.retire_table(table))
    }

    /// Gives back the table below the 2 MiB or 1 GiB around `gfn`, if all that it says is that every page
    /// is absent for the same reason; the block can then be mapped as a whole again.
    pub fn fold<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        size: PageSize,
    ) -> Result<PendingFlush, Error> {
        let (place, table) = self.table_below(memory, gfn, Level::of(size))?;
        let below = place.level.below().ok_or(Bug::WrongSize(gfn))?;
        let first = Entry::decode(memory.load(table, 0), below)?;
        let is_same = |index| memory.load(table, index) == first.encode();
        let is_absent = matches!(first, Entry::Absent(_)) && (1..ENTRIES).all(is_same);
        if !is_absent {
            return Err(Bug::WrongState(gfn).into());
        }
        memory.store(place.table, place.index, first.encode());
        self.count_unlinked(below);
        Ok(self.retire_table(table))
    }

    /// The entry of this level for `gfn`, and the table that it points to.
    fn table_below<M: TableMemory>(&self, memory: &M, gfn: Gfn, level: Level) -> Result<(Place, Hfn), Bug> {
        let place = self.walk(memory, gfn, level)?;
        match place.entry {
            Entry::Table(table) if place.level == level => Ok((place, table)),
            _ => Err(Bug::WrongSize(gfn)),
        }
    }

    /// The one mapping that 512 small ones make, if they do.
    fn whole_of<M: TableMemory>(&self, memory: &M, table: Hfn, gfn: Gfn) -> Result<Leaf, Bug> {
        let small = |index: usize| match Entry::decode(memory.load(table, index), Level::One)? {
            Entry::Leaf(leaf) if leaf.backing == Backing::Owned => Ok(leaf),
            _ => Err(Bug::WrongState(gfn)),
        };
        let first = small(0)?;
        if first.frame.large_base() != first.frame {
            return Err(Bug::Misaligned(gfn));
        }
        let mut whole = Leaf {
            size: PageSize::Large,
            ..first
        };
        for (index, frame) in (1..ENTRIES).zip(first.frame.get() + 1..) {
            let leaf = small(index)?;
            if leaf.frame.get() != frame {
                return Err(Bug::WrongState(gfn));
            }
            whole.accessed |= leaf.accessed;
            whole.dirty |= leaf.dirty;
            whole.calm_owed = whole.calm_owed.max(leaf.calm_owed);
            whole.age = whole.age.min(leaf.age);
        }
        // Owned, and so none of them is the zero frame: `page` says whether that holds for all.
        self.page(Entry::Leaf(first), Level::One)?;
        Ok(whole)
    }

    fn retire_table(&self, table: Hfn) -> PendingFlush {
        let mut pending = self.flush_due();
        pending.retire(Retired::Table(table));
        pending
    }
}
