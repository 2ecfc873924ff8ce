//! One guest's tables: what they are, how an address is looked up, and the one step by which every
//! operation changes them.

use arrayvec::ArrayVec;
use pleat_types::{Gfn, Hfn, SwapSlot};

use crate::audit::Counters;
use crate::codec::{self, Absent, Backing, ENTRIES, Entry, GFN_LIMIT, Leaf, Level};
use crate::error::{Bug, Error};
use crate::find::Slot;
use crate::flush::{PendingFlush, ProcessorSet};
use crate::memory::TableMemory;

/// A range has two ends, and each needs at most one table at each of three levels.
const TABLES_FOR_A_RANGE: usize = 6;

/// Frames for tables that an operation may need, taken before its first store.
pub(crate) type Spares = ArrayVec<Hfn, TABLES_FOR_A_RANGE>;

/// The state of a guest's page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// Nothing was promised there.
    Hole,
    /// Promised, never touched.
    Untouched,
    /// Given back by the guest's balloon.
    Ballooned,
    /// A device answers there.
    Device,
    /// Mapped read-only to the zero frame.
    Zero,
    /// Mapped writable to a frame of its own: the frame of this very page, in a large mapping too.
    Unique(Hfn),
    /// Mapped read-only to a frame that other pages may map, too.
    Shared(Hfn),
    /// Mapped to a frame of its own, and write-protected while its bytes are compared.
    Frozen(Hfn),
    /// Mapped to nothing: a slot of the swap store has its content.
    Swapped(SwapSlot),
}

/// The extended page tables of one guest.
#[derive(Debug)]
pub struct Stage2 {
    pub(crate) root: Hfn,
    pub(crate) zero: Hfn,
    processors: ProcessorSet,
    pub(crate) counters: Counters,
    /// How often a table was taken out: what was found before that may lie in none of them any more.
    pub(crate) unlinked: u64,
}

/// Where a walk ended: an entry that is not a table, or one at the level that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub table: Hfn,
    pub level: Level,
    pub index: usize,
    pub raw: u64,
    pub entry: Entry,
}

impl Stage2 {
    /// Empty tables: all holes. `zero` is the host's one zero frame, `processors` those that may ever
    /// run this guest.
    pub fn new<M: TableMemory>(memory: &mut M, zero: Hfn, processors: ProcessorSet) -> Result<Self, Error> {
        let root = memory.allocate_table().ok_or(Error::HostShort)?;
        fill(memory, root, Absent::Hole);
        Ok(Self {
            root,
            zero,
            processors,
            counters: Counters::with_root(),
            unlinked: 0,
        })
    }

    /// The EPT pointer: write-back, four levels, accessed and dirty bits on.
    #[must_use]
    pub const fn eptp(&self) -> u64 {
        codec::eptp(self.root)
    }

    /// The root table.
    #[must_use]
    pub const fn root(&self) -> Hfn {
        self.root
    }

    /// The host's zero frame, as this guest maps it.
    #[must_use]
    pub const fn zero_frame(&self) -> Hfn {
        self.zero
    }

    /// What is mapped, promised and spent on tables.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Goes down to the entry for `gfn` at level `down_to`, or to where the tables end above it.
    pub(crate) fn walk<M: TableMemory>(&self, memory: &M, gfn: Gfn, down_to: Level) -> Result<Place, Bug> {
        if gfn.get() >= GFN_LIMIT {
            return Err(Bug::OutOfRange(gfn));
        }
        if down_to == Level::One {
            return self.descend(memory, gfn).place();
        }
        let (mut table, mut level) = (self.root, Level::Four);
        loop {
            let slot = Slot::at(memory, table, level, gfn);
            match (codec::table_of(slot.raw), level.below()) {
                (Some(next), Some(below)) if level > down_to => (table, level) = (next, below),
                _ => return slot.place(),
            }
        }
    }

    /// What an entry that is not a table means for this guest.
    pub(crate) fn page(&self, entry: Entry, level: Level) -> Result<Page, Bug> {
        match entry {
            Entry::Absent(Absent::Hole) => Ok(Page::Hole),
            Entry::Absent(Absent::Untouched) => Ok(Page::Untouched),
            Entry::Absent(Absent::Ballooned) => Ok(Page::Ballooned),
            Entry::Absent(Absent::Device) => Ok(Page::Device),
            Entry::Swapped(slot) => Ok(Page::Swapped(slot)),
            Entry::Leaf(leaf) => self.leaf_page(leaf, level),
            Entry::Table(_) => Err(Bug::Malformed {
                raw: entry.encode(),
                level,
            }),
        }
    }

    /// The zero frame belongs to nobody: it is mapped as shared, and small. That no shared frame is writable
    /// is a matter of the codec.
    #[inline]
    fn leaf_page(&self, leaf: Leaf, level: Level) -> Result<Page, Bug> {
        match (leaf.backing, leaf.frame == self.zero) {
            (Backing::Owned, false) => Ok(Page::Unique(leaf.frame)),
            (Backing::Shared, false) => Ok(Page::Shared(leaf.frame)),
            (Backing::Shared, true) => Ok(Page::Zero),
            (Backing::Frozen, false) => Ok(Page::Frozen(leaf.frame)),
            (Backing::Owned | Backing::Frozen, true) => Err(Bug::Malformed {
                raw: Entry::Leaf(leaf).encode(),
                level,
            }),
        }
    }

    /// A flush that concerns nobody: nothing that was present has changed.
    pub(crate) fn nothing_to_flush<const N: usize>(&self) -> PendingFlush<N> {
        PendingFlush::nothing(self.eptp())
    }

    /// A flush on every processor that may run this guest.
    pub(crate) fn flush_due<const N: usize>(&self) -> PendingFlush<N> {
        PendingFlush::on(self.eptp(), self.processors)
    }

    pub(crate) const fn processors(&self) -> ProcessorSet {
        self.processors
    }

    /// How often a table was taken out.
    pub(crate) const fn unlinked(&self) -> u64 {
        self.unlinked
    }

    /// Counts a table of this level that was taken out.
    pub(crate) fn count_unlinked(&mut self, level: Level) {
        self.counters.remove_table(level);
        self.unlinked = self.unlinked.wrapping_add(1);
    }

    /// Puts `new` at level `target`, at or below `place`, and counts it. Where tables are missing on the
    /// way down, they come from `spares`, are filled from the bottom up with what the absent entry
    /// above them said, and are linked by the last store: the only one that anybody can see.
    ///
    /// The caller has checked that `place` is at `target`, or above it and absent, and that there are
    /// enough spares.
    pub(crate) fn install<M: TableMemory>(
        &mut self,
        memory: &mut M,
        place: Place,
        gfn: Gfn,
        target: Level,
        new: Entry,
        spares: &mut Spares,
    ) -> Result<(), Bug> {
        let mut child = new.encode();
        for level in Level::ALL
            .into_iter()
            .filter(|level| (target..place.level).contains(level))
        {
            let table = spares.pop().ok_or(Bug::WrongState(gfn))?;
            let around = place.entry.encode();
            for index in 0..ENTRIES {
                memory.store(
                    table,
                    index,
                    if index == level.index(gfn) { child } else { around },
                );
            }
            self.counters.add_table(level);
            child = Entry::Table(table).encode();
        }
        memory.store(place.table, place.index, child);
        self.counters
            .remove(self.page(place.entry, place.level)?, target, 1);
        self.counters.add(self.page(new, target)?, target, 1);
        Ok(())
    }
}

/// Of a leaf that nobody else changes meanwhile, a processor can set two bits: the first attempt to replace
/// it can fail for one, the second for the other, the third cannot.
pub(crate) const ATTEMPTS: usize = 3;

/// Replaces a leaf by what `make` makes of it, without losing a bit that a processor sets meanwhile, and
/// says what it was at that moment.
pub(crate) fn rewrite<M: TableMemory>(
    memory: &mut M,
    place: Place,
    mut make: impl FnMut(Leaf) -> Leaf,
) -> Result<Leaf, Bug> {
    let (mut raw, level) = (place.raw, place.level);
    for _ in 0..ATTEMPTS {
        let Entry::Leaf(leaf) = Entry::decode(raw, level)? else {
            break;
        };
        let new = Entry::Leaf(make(leaf)).encode();
        match memory.compare_exchange(place.table, place.index, raw, new) {
            Ok(()) => return Ok(leaf),
            Err(now) => raw = now,
        }
    }
    Err(Bug::Malformed { raw, level })
}

/// Takes `count` frames for tables, or none at all.
pub(crate) fn take_spares<M: TableMemory>(memory: &mut M, count: usize) -> Result<Spares, Error> {
    let mut spares = Spares::new();
    while spares.len() < count {
        let Some(table) = memory.allocate_table() else {
            return_spares(memory, spares);
            return Err(Error::HostShort);
        };
        spares.push(table);
    }
    Ok(spares)
}

/// The tables to cut up this entry.
pub(crate) fn take_spares_to_cut<M: TableMemory>(
    memory: &mut M,
    entry: Entry,
    count: usize,
) -> Result<Spares, Error> {
    if !matches!(entry, Entry::Absent(_)) {
        return take_spares(memory, count);
    }
    let mut spares = Spares::new();
    while spares.len() < count {
        let Some(table) = memory.allocate_table_for_absent() else {
            return_spares(memory, spares);
            return Err(Error::HostShort);
        };
        spares.push(table);
    }
    Ok(spares)
}

/// Gives back what was not needed.
pub(crate) fn return_spares<M: TableMemory>(memory: &mut M, spares: Spares) {
    for table in spares {
        memory.free_table(table);
    }
}

/// Makes every entry of a table that is not linked yet say the same.
fn fill<M: TableMemory>(memory: &mut M, table: Hfn, absent: Absent) {
    for index in 0..ENTRIES {
        memory.store(table, index, Entry::Absent(absent).encode());
    }
}
