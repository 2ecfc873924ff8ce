//! One guest's tables: what they are, how an address is looked up, and the one step by which every
//! operation changes them.

use arrayvec::ArrayVec;
use pleat_types::{Gfn, Hfn};

use crate::audit::Counters;
use crate::codec::{self, Absent, ENTRIES, Entry, GFN_LIMIT, Leaf, Level, Permissions};
use crate::error::{Bug, Error};
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
}

/// What is known about a page, and how far around it the same entry reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The state.
    pub page: Page,
    /// The first page that the same entry covers.
    pub first: Gfn,
    /// The level of that entry; it covers [`Level::frames`] pages.
    pub level: Level,
    /// The guest has used it since this was last harvested (false for what is absent).
    pub accessed: bool,
    /// The guest has written to it since this was last harvested.
    pub dirty: bool,
}

impl Mapping {
    /// The page after the last one that the same entry covers: where a walk goes on.
    #[must_use]
    pub const fn end(&self) -> Gfn {
        Gfn::new(self.first.get() + self.level.frames())
    }

    /// The host frame of the page, if it is mapped.
    #[must_use]
    pub const fn frame(&self, stage2: &Stage2) -> Option<Hfn> {
        match self.page {
            Page::Unique(frame) => Some(frame),
            Page::Zero => Some(stage2.zero),
            _ => None,
        }
    }
}

/// The extended page tables of one guest.
#[derive(Debug)]
pub struct Stage2 {
    root: Hfn,
    zero: Hfn,
    processors: ProcessorSet,
    pub(crate) counters: Counters,
}

/// Where a walk ended: an entry that is not a table, or one at the level that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub table: Hfn,
    pub level: Level,
    pub index: usize,
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

    /// The state of a page. A number that no guest-physical address can have is a hole.
    pub fn lookup<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Result<Mapping, Bug> {
        if gfn.get() >= GFN_LIMIT {
            let page = Page::Hole;
            return Ok(Mapping {
                page,
                first: gfn,
                level: Level::One,
                accessed: false,
                dirty: false,
            });
        }
        let place = self.walk(memory, gfn, Level::One)?;
        let first = place.level.first(gfn);
        let (accessed, dirty) = match place.entry {
            Entry::Leaf(leaf) => (leaf.accessed, leaf.dirty),
            Entry::Absent(_) | Entry::Table(_) => (false, false),
        };
        let page = match self.page(place.entry, place.level)? {
            Page::Unique(frame) => Page::Unique(Hfn::new(frame.get() + (gfn.get() - first.get()))),
            other => other,
        };
        Ok(Mapping {
            page,
            first,
            level: place.level,
            accessed,
            dirty,
        })
    }

    /// Goes down to the entry for `gfn` at level `down_to`, or to where the tables end above it.
    pub(crate) fn walk<M: TableMemory>(&self, memory: &M, gfn: Gfn, down_to: Level) -> Result<Place, Bug> {
        if gfn.get() >= GFN_LIMIT {
            return Err(Bug::OutOfRange(gfn));
        }
        let (mut table, mut level) = (self.root, Level::Four);
        loop {
            let index = level.index(gfn);
            let entry = Entry::decode(memory.load(table, index), level)?;
            match (entry, level.below()) {
                (Entry::Table(next), Some(below)) if level > down_to => (table, level) = (next, below),
                _ => {
                    return Ok(Place {
                        table,
                        level,
                        index,
                        entry,
                    });
                }
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
            Entry::Leaf(leaf) => self.leaf_page(leaf, level),
            Entry::Table(_) => Err(Bug::Malformed {
                raw: entry.encode(),
                level,
            }),
        }
    }

    /// Rule 1 in one place: the zero frame is mapped read-only and small, all others are owned.
    fn leaf_page(&self, leaf: Leaf, level: Level) -> Result<Page, Bug> {
        let is_writable = leaf.permissions.contains(Permissions::WRITE);
        match (leaf.frame == self.zero, is_writable) {
            (true, false) if level == Level::One => Ok(Page::Zero),
            (false, true) => Ok(Page::Unique(leaf.frame)),
            _ => Err(Bug::Malformed {
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
