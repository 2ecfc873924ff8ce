//! Saying what a range of guest-physical memory is: promised memory or a device.

use pleat_types::Gfn;

use crate::codec::{Absent, Entry, GFN_LIMIT, Level};
use crate::error::{Bug, Error};
use crate::memory::TableMemory;
use crate::table::{Page, Stage2, return_spares, take_spares};

impl Stage2 {
    /// Promises `count` pages from `first` on: Hole to Untouched.
    pub fn promise<M: TableMemory>(&mut self, memory: &mut M, first: Gfn, count: u64) -> Result<(), Error> {
        self.declare(memory, first, count, Absent::Untouched)
    }

    /// Marks `count` pages from `first` on as a device: Hole to Device.
    pub fn mark_device<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        count: u64,
    ) -> Result<(), Error> {
        self.declare(memory, first, count, Absent::Device)
    }

    /// The work is bounded by the tables that exist in the range and 512 stores at each level for each
    /// end of the range.
    fn declare<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        count: u64,
        to: Absent,
    ) -> Result<(), Error> {
        let end = first.checked_add(count).filter(|end| end.get() <= GFN_LIMIT);
        let end = end.ok_or(Bug::OutOfRange(first))?;
        let needed = self.tables_for_holes(memory, first, end)?;
        let mut spares = take_spares(memory, needed)?;
        let mut outcome = Ok(());
        let mut at = first;
        while at < end && outcome.is_ok() {
            let place = self.walk(memory, at, Level::One)?;
            let level = largest_block(at, end, place.level);
            outcome = self.install(memory, place, at, level, Entry::Absent(to), &mut spares);
            at = Gfn::new(at.get() + level.frames());
        }
        return_spares(memory, spares);
        Ok(outcome?)
    }

    /// Checks that the range is all holes, and counts the tables that it takes to cut it out of them.
    fn tables_for_holes<M: TableMemory>(&self, memory: &M, first: Gfn, end: Gfn) -> Result<usize, Bug> {
        let (mut at, mut tables) = (first, 0);
        while at < end {
            let hole = self.lookup(memory, at)?;
            if hole.page != Page::Hole {
                return Err(Bug::WrongState(at));
            }
            let until = hole.end().min(end);
            tables += tables_to_cut(hole.level, at, until);
            at = until;
        }
        Ok(tables)
    }
}

/// The largest block that starts at `at`, ends no later than `end` and is no larger than `limit`.
pub(crate) fn largest_block(at: Gfn, end: Gfn, limit: Level) -> Level {
    let fits =
        |level: &Level| *level <= limit && level.first(at) == at && at.get() + level.frames() <= end.get();
    Level::ALL.into_iter().rev().find(fits).unwrap_or(Level::One)
}

/// How many tables it takes to cut `from..until` out of one entry of this level that reaches over it:
/// one for every block that is covered only in part. Recursion as deep as the tables.
fn tables_to_cut(level: Level, from: Gfn, until: Gfn) -> usize {
    let Some(below) = level
        .below()
        .filter(|_| until.get() - from.get() < level.frames())
    else {
        return 0;
    };
    let left_end = Gfn::new(below.first(from).get() + below.frames());
    if until <= left_end {
        return 1 + tables_to_cut(below, from, until);
    }
    let right = below.first(Gfn::new(until.get() - 1));
    1 + tables_to_cut(below, from, left_end) + tables_to_cut(below, right, until)
}
