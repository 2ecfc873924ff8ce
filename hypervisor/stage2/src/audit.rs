//! What is mapped, promised and spent, counted as it changes and counted again by a walk.

use pleat_types::{Gfn, Hfn, PageSize, SwapSlot};

use crate::codec::{ENTRIES, Entry, Level};
use crate::error::Bug;
use crate::memory::TableMemory;
use crate::table::{Page, Stage2};

/// Counts of one guest's pages. Mappings count by size, everything else in 4 KiB pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// 4 KiB mappings to frames of their own, frozen ones too.
    pub unique: u64,
    /// 2 MiB mappings.
    pub large: u64,
    /// 1 GiB mappings.
    pub huge: u64,
    /// 4 KiB mappings to the zero frame.
    pub zero: u64,
    /// 4 KiB mappings to other frames that pages share.
    pub shared: u64,
    /// Pages whose content a slot of the swap store has.
    pub swapped: u64,
    /// Promised pages that were never touched.
    pub untouched: u64,
    /// Pages in the balloon.
    pub ballooned: u64,
    /// Pages where a device answers.
    pub device: u64,
    /// Tables, from the lowest level to the root.
    pub tables: [u64; 4],
}

impl Counters {
    pub(crate) const fn with_root() -> Self {
        Self {
            unique: 0,
            large: 0,
            huge: 0,
            zero: 0,
            shared: 0,
            swapped: 0,
            untouched: 0,
            ballooned: 0,
            device: 0,
            tables: [0, 0, 0, 1],
        }
    }

    /// Frames of host memory that the guest's pages own.
    #[must_use]
    pub const fn owned_frames(&self) -> u64 {
        self.unique + self.large * Level::Two.frames() + self.huge * Level::Three.frames()
    }

    /// Frames of host memory that hold tables.
    #[must_use]
    pub const fn table_frames(&self) -> u64 {
        self.tables[0] + self.tables[1] + self.tables[2] + self.tables[3]
    }

    /// Pages that the guest was promised.
    #[must_use]
    pub const fn promised(&self) -> u64 {
        self.owned_frames() + self.zero + self.shared + self.swapped + self.untouched + self.ballooned
    }

    /// Counts `entries` more entries of this level.
    pub(crate) fn add(&mut self, page: Page, level: Level, entries: u64) {
        if let Some((counter, amount)) = self.place_of(page, level) {
            *counter += amount * entries;
        }
    }

    /// Wrapping, so that a miscount is found by the audit and not by a panic.
    pub(crate) fn remove(&mut self, page: Page, level: Level, entries: u64) {
        if let Some((counter, amount)) = self.place_of(page, level) {
            *counter = counter.wrapping_sub(amount * entries);
        }
    }

    /// Takes away pages of 4 KiB that were counted apart.
    pub(crate) fn subtract(&mut self, pages: &Self) {
        let counters = [
            (&mut self.unique, pages.unique),
            (&mut self.zero, pages.zero),
            (&mut self.shared, pages.shared),
            (&mut self.swapped, pages.swapped),
            (&mut self.untouched, pages.untouched),
            (&mut self.ballooned, pages.ballooned),
            (&mut self.device, pages.device),
        ];
        for (counter, amount) in counters {
            *counter = counter.wrapping_sub(amount);
        }
    }

    pub(crate) fn add_table(&mut self, level: Level) {
        self.tables[level.rank()] += 1;
    }

    pub(crate) fn remove_table(&mut self, level: Level) {
        let count = &mut self.tables[level.rank()];
        *count = count.wrapping_sub(1);
    }

    fn place_of(&mut self, page: Page, level: Level) -> Option<(&mut u64, u64)> {
        match page {
            Page::Hole => None,
            Page::Untouched => Some((&mut self.untouched, level.frames())),
            Page::Ballooned => Some((&mut self.ballooned, level.frames())),
            Page::Device => Some((&mut self.device, level.frames())),
            Page::Zero => Some((&mut self.zero, level.frames())),
            Page::Shared(_) => Some((&mut self.shared, level.frames())),
            Page::Swapped(_) => Some((&mut self.swapped, level.frames())),
            Page::Unique(_) | Page::Frozen(_) => match level {
                Level::One => Some((&mut self.unique, 1)),
                Level::Two => Some((&mut self.large, 1)),
                Level::Three => Some((&mut self.huge, 1)),
                Level::Four => None,
            },
        }
    }
}

/// Host memory that a guest's tables hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// The frame, or block of frames, behind a page.
    Page {
        /// The first page.
        gfn: Gfn,
        /// The first frame.
        frame: Hfn,
        /// How much of it.
        size: PageSize,
    },
    /// A share in a frame.
    Share {
        /// The page.
        gfn: Gfn,
        /// The frame.
        frame: Hfn,
    },
    /// A reference to a slot of the swap store.
    Slot {
        /// The page.
        gfn: Gfn,
        /// The slot.
        slot: SwapSlot,
    },
    /// A table.
    Table(Hfn),
}

impl Stage2 {
    /// Counts everything again by a walk over all tables; checks every entry on the way. The work is
    /// 512 loads for each table.
    pub fn recount<M: TableMemory>(&self, memory: &M) -> Result<Counters, Bug> {
        self.inventory(memory, |_| {})
    }

    /// Compares the counters with a recount.
    pub fn audit<M: TableMemory>(&self, memory: &M) -> Result<(), Bug> {
        if self.recount(memory)? == self.counters {
            Ok(())
        } else {
            Err(Bug::Miscounted)
        }
    }

    /// A recount that reports every table, and every frame that a page owns or shares, so that they can be
    /// compared with what the ledger has on record.
    pub fn inventory<M: TableMemory>(
        &self,
        memory: &M,
        mut report: impl FnMut(Held),
    ) -> Result<Counters, Bug> {
        let mut counters = Counters::default();
        let root = Branch {
            table: self.root(),
            level: Level::Four,
            first: Gfn::new(0),
        };
        self.inventory_of(memory, root, &mut counters, &mut report)?;
        Ok(counters)
    }

    /// Recursion as deep as the tables: four.
    fn inventory_of<M: TableMemory>(
        &self,
        memory: &M,
        branch: Branch,
        counters: &mut Counters,
        report: &mut impl FnMut(Held),
    ) -> Result<(), Bug> {
        let Branch { table, level, first } = branch;
        counters.add_table(level);
        report(Held::Table(table));
        for (index, number) in (0..ENTRIES).zip(0..) {
            let gfn = Gfn::new(first.get() + number * level.frames());
            let entry = Entry::decode(memory.load(table, index), level)?;
            if let (Entry::Table(table), Some(level)) = (entry, level.below()) {
                self.inventory_of(
                    memory,
                    Branch {
                        table,
                        level,
                        first: gfn,
                    },
                    counters,
                    report,
                )?;
                continue;
            }
            let page = self.page(entry, level)?;
            counters.add(page, level, 1);
            match (page, level.page_size()) {
                (Page::Unique(frame) | Page::Frozen(frame), Some(size)) => {
                    report(Held::Page { gfn, frame, size });
                }
                (Page::Shared(frame), _) => report(Held::Share { gfn, frame }),
                (Page::Swapped(slot), _) => report(Held::Slot { gfn, slot }),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A table on the way through all of them.
#[derive(Clone, Copy)]
struct Branch {
    table: Hfn,
    level: Level,
    first: Gfn,
}
