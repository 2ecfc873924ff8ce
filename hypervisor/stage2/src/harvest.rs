//! Which pages the guest has used: the accessed and dirty bits, read and cleared (SDM 29.3.5).

use pleat_types::{Gfn, PageSize};

use crate::codec::{Entry, GFN_LIMIT, Leaf, Level};
use crate::error::Bug;
use crate::flush::PendingFlush;
use crate::memory::TableMemory;
use crate::table::Stage2;

/// A mapping that was used since the last harvest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// Its first page.
    pub gfn: Gfn,
    /// Its size.
    pub size: PageSize,
    /// It was written to, not only read.
    pub dirty: bool,
}

/// What a step of a harvest leaves behind.
#[derive(Debug)]
#[must_use = "stale translations stay until the flush is done"]
pub struct Harvest {
    /// Where the next step goes on; `None` when the range is done.
    pub next: Option<Gfn>,
    /// Until this is done, a processor that holds a translation as accessed and dirty does not set the
    /// bits again.
    pub pending: PendingFlush,
}

impl Stage2 {
    /// Looks at up to `budget` entries from `first` up to (not including) `end`, reports the mappings
    /// that were used, and clears their bits.
    pub fn harvest<M: TableMemory>(
        &self,
        memory: &mut M,
        first: Gfn,
        end: Gfn,
        budget: usize,
        mut report: impl FnMut(Used),
    ) -> Result<Harvest, Bug> {
        let end = end.min(Gfn::new(GFN_LIMIT));
        let mut pending = self.nothing_to_flush();
        let mut at = first;
        let mut left = budget;
        while at < end && left > 0 {
            match self.harvest_one(memory, at) {
                Ok((used, next)) => {
                    if let Some(used) = used {
                        pending.require(self.processors());
                        report(used);
                    }
                    at = next;
                }
                Err(bug) => {
                    pending.abandon();
                    return Err(bug);
                }
            }
            left -= 1;
        }
        Ok(Harvest {
            next: Some(at).filter(|at| *at < end),
            pending,
        })
    }

    fn harvest_one<M: TableMemory>(&self, memory: &mut M, at: Gfn) -> Result<(Option<Used>, Gfn), Bug> {
        let place = self.walk(memory, at, Level::One)?;
        let gfn = place.level.first(at);
        let next = Gfn::new(gfn.get() + place.level.frames());
        let Entry::Leaf(leaf) = place.entry else {
            return Ok((None, next));
        };
        if !leaf.accessed && !leaf.dirty {
            return Ok((None, next));
        }
        let clean = Entry::Leaf(Leaf {
            accessed: false,
            dirty: false,
            ..leaf
        });
        let old = memory.exchange(place.table, place.index, clean.encode());
        match Entry::decode(old, place.level)? {
            Entry::Leaf(old) => Ok((
                Some(Used {
                    gfn,
                    size: old.size,
                    dirty: old.dirty,
                }),
                next,
            )),
            Entry::Absent(_) | Entry::Table(_) => Err(Bug::WrongState(gfn)),
        }
    }
}
