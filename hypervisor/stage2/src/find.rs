//! Where a page is written down and what its entry says: the walk of a page fault, once and lean.

use pleat_types::{Gfn, Hfn};

use crate::codec::{self, Absent, Entry, GFN_LIMIT, Level};
use crate::error::Bug;
use crate::memory::TableMemory;
use crate::table::{Page, Place, Stage2};

/// What is known about a page, and how far around it the same entry reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The state.
    pub page: Page,
    /// The first page that the same entry covers.
    pub first: Gfn,
    /// The level of that entry; it covers [`Level::frames`] pages.
    pub level: Level,
    /// The guest has used it since its last generation ended (false for what is absent).
    pub accessed: bool,
    /// The guest has written to it since this was last swept.
    pub dirty: bool,
    /// For how many epochs it has to stay unwritten until merging looks at it.
    pub calm_owed: u8,
    /// For how many generations it was found unused.
    pub age: u8,
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
            Page::Unique(frame) | Page::Shared(frame) | Page::Frozen(frame) => Some(frame),
            Page::Zero => Some(stage2.zero),
            Page::Hole | Page::Untouched | Page::Ballooned | Page::Device | Page::Swapped(_) => None,
        }
    }
}

/// A page that was found, so that what is done about it needs no second walk. It holds until these tables
/// are changed; an operation that is given one reads the entry again and refuses it if it has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    mapping: Mapping,
    gfn: Gfn,
    pub(crate) slot: Slot,
    root: Hfn,
    unlinked: u64,
}

/// An entry where it lies, as it is: what a page fault gets by with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    pub table: Hfn,
    pub level: Level,
    pub index: usize,
    pub raw: u64,
}

impl Slot {
    #[inline(always)]
    pub fn at<M: TableMemory>(memory: &M, table: Hfn, level: Level, gfn: Gfn) -> Self {
        let index = level.index(gfn);
        Self {
            table,
            level,
            index,
            raw: memory.load(table, index),
        }
    }

    /// The entry as it is now.
    pub fn reload<M: TableMemory>(self, memory: &M) -> Self {
        let raw = memory.load(self.table, self.index);
        Self { raw, ..self }
    }

    /// The same, decoded.
    #[inline]
    pub fn place(self) -> Result<Place, Bug> {
        Ok(Place {
            table: self.table,
            level: self.level,
            index: self.index,
            raw: self.raw,
            entry: Entry::decode(self.raw, self.level)?,
        })
    }
}

impl Spot {
    /// What is known about the page.
    #[must_use]
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The page.
    #[must_use]
    pub const fn gfn(&self) -> Gfn {
        self.gfn
    }
}

impl Stage2 {
    /// The state of a page. A number that no guest-physical address can have is a hole.
    pub fn lookup<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Result<Mapping, Bug> {
        Ok(self.find(memory, gfn)?.mapping)
    }

    /// The state of a page and where it is written down: the one walk of a page fault.
    #[inline]
    pub fn find<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Result<Spot, Bug> {
        let slot = if gfn.get() < GFN_LIMIT {
            self.descend(memory, gfn)
        } else {
            self.hole_beyond()
        };
        let entry = Entry::decode(slot.raw, slot.level)?;
        let first = slot.level.first(gfn);
        let page = match self.page(entry, slot.level)? {
            Page::Unique(frame) => Page::Unique(Hfn::new(frame.get() + (gfn.get() - first.get()))),
            other => other,
        };
        let (accessed, dirty, calm_owed, age) = match entry {
            Entry::Leaf(leaf) => (leaf.accessed, leaf.dirty, leaf.calm_owed, leaf.age),
            Entry::Absent(_) | Entry::Swapped(_) | Entry::Table(_) => (false, false, 0, 0),
        };
        Ok(Spot {
            mapping: Mapping {
                page,
                first,
                level: slot.level,
                accessed,
                dirty,
                calm_owed,
                age,
            },
            gfn,
            slot,
            root: self.root,
            unlinked: self.unlinked,
        })
    }

    /// What a number beyond all guest-physical addresses is taken for.
    const fn hole_beyond(&self) -> Slot {
        Slot {
            table: self.root,
            level: Level::One,
            index: 0,
            raw: Entry::Absent(Absent::Hole).encode(),
        }
    }

    /// Whether a spot still holds what was found there.
    #[inline]
    pub(crate) fn recheck<M: TableMemory>(&self, memory: &M, spot: &Spot) -> Result<(), Bug> {
        if spot.gfn.get() >= GFN_LIMIT {
            return Err(Bug::OutOfRange(spot.gfn));
        }
        let is_of_these = spot.root == self.root && spot.unlinked == self.unlinked;
        let slot = spot.slot;
        if is_of_these && codec::is_same_mapping(memory.load(slot.table, slot.index), slot.raw) {
            Ok(())
        } else {
            Err(Bug::WrongState(spot.gfn))
        }
    }

    /// Goes down as far as the tables go. Written out level by level, because this is most of what a page
    /// fault costs: nothing is decided that the level decides.
    #[inline(always)]
    pub(crate) fn descend<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Slot {
        match self.directory(memory, gfn) {
            Ok(directory) => descend_from(memory, directory, gfn),
            Err(slot) => slot,
        }
    }

    /// The table of the 1 GiB around a page, which has an entry for each 2 MiB; else where the tables end above it.
    #[inline(always)]
    pub(crate) fn directory<M: TableMemory>(&self, memory: &M, gfn: Gfn) -> Result<Hfn, Slot> {
        let slot = Slot::at(memory, self.root, Level::Four, gfn);
        let Some(table) = codec::table_of(slot.raw) else {
            return Err(slot);
        };
        let slot = Slot::at(memory, table, Level::Three, gfn);
        codec::table_of(slot.raw).ok_or(slot)
    }
}

/// The rest of the way down.
#[inline(always)]
pub(crate) fn descend_from<M: TableMemory>(memory: &M, directory: Hfn, gfn: Gfn) -> Slot {
    let slot = Slot::at(memory, directory, Level::Two, gfn);
    let Some(table) = codec::table_of(slot.raw) else {
        return slot;
    };
    Slot::at(memory, table, Level::One, gfn)
}
