//! The end of a guest's tables, in steps of bounded work.

use pleat_types::{Gfn, OwnedFrame, Share, SlotReference};

use crate::codec::{Absent, Entry, GFN_LIMIT, Level};
use crate::error::Bug;
use crate::flush::{BATCH, PendingFlush, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Stage2};

/// Entries that one step looks at, at the most.
const ENTRIES_IN_A_STEP: usize = 4096;
/// What one entry can retire: a frame, and three tables that end with it.
const RETIRED_BY_AN_ENTRY: usize = 4;

/// Tables that are being taken down. The guest must not run any more.
#[derive(Debug)]
#[must_use = "frames stay lost until every step is done"]
pub struct Teardown {
    stage2: Stage2,
    /// Everything before this page is gone; `None` when the root is, too.
    at: Option<Gfn>,
}

impl Stage2 {
    /// Begins to take everything down.
    pub const fn teardown(self) -> Teardown {
        Teardown {
            stage2: self,
            at: Some(Gfn::new(0)),
        }
    }
}

impl Teardown {
    /// The next step: up to [`BATCH`] frames and tables come out of its flush; `None` when all is done.
    /// A step can be empty where the tables are.
    pub fn step<M: TableMemory>(&mut self, memory: &mut M) -> Result<Option<PendingFlush<BATCH>>, Bug> {
        let Some(start) = self.at else { return Ok(None) };
        let mut pending = self.stage2.flush_due();
        let mut at = start;
        for _ in 0..ENTRIES_IN_A_STEP {
            if at.get() >= GFN_LIMIT || pending.room() < RETIRED_BY_AN_ENTRY {
                break;
            }
            match self.clear(memory, at, &mut pending) {
                Ok(next) => at = next,
                Err(bug) => {
                    pending.abandon();
                    return Err(bug);
                }
            }
        }
        self.at = Some(at);
        if at.get() >= GFN_LIMIT && pending.room() > 0 {
            pending.retire(Retired::Table(self.stage2.root()));
            self.stage2.count_unlinked(Level::Four);
            self.at = None;
        }
        Ok(Some(pending))
    }

    /// What is left.
    #[must_use]
    pub const fn stage2(&self) -> &Stage2 {
        &self.stage2
    }

    /// Makes a hole of the entry at `at`, and of every table that ends with it.
    fn clear<M: TableMemory>(
        &mut self,
        memory: &mut M,
        at: Gfn,
        pending: &mut PendingFlush<BATCH>,
    ) -> Result<Gfn, Bug> {
        let stage2 = &mut self.stage2;
        let place = stage2.walk(memory, at, Level::One)?;
        let page = stage2.page(place.entry, place.level)?;
        if page != Page::Hole {
            memory.store(place.table, place.index, Entry::Absent(Absent::Hole).encode());
            stage2.counters.remove(page, place.level, 1);
        }
        match (page, place.level.page_size()) {
            (Page::Unique(frame) | Page::Frozen(frame), Some(size)) => {
                pending.retire(Retired::Frame(OwnedFrame::claim(frame, size)));
            }
            (Page::Shared(frame), _) => pending.retire(Retired::Share(Share::claim(frame))),
            (Page::Swapped(slot), _) => pending.retire(Retired::Slot(SlotReference::claim(slot))),
            _ => {}
        }
        let next = Gfn::new(place.level.first(at).get() + place.level.frames());
        for level in [Level::Two, Level::Three, Level::Four] {
            if level.first(next) == next {
                unlink(stage2, memory, at, level, pending)?;
            }
        }
        Ok(next)
    }
}

/// Takes out the table below the entry of this level, if there is one: all of it is holes.
fn unlink<M: TableMemory>(
    stage2: &mut Stage2,
    memory: &mut M,
    at: Gfn,
    level: Level,
    pending: &mut PendingFlush<BATCH>,
) -> Result<(), Bug> {
    let place = stage2.walk(memory, at, level)?;
    if let (Entry::Table(table), Some(below)) = (place.entry, level.below()) {
        memory.store(place.table, place.index, Entry::Absent(Absent::Hole).encode());
        stage2.count_unlinked(below);
        pending.retire(Retired::Table(table));
    }
    Ok(())
}
