//! Which pages the guest has used: the accessed bits, read and cleared (SDM 29.3.5).
//!
//! The dirty bits are read only: clearing them is up to the sweep ([`Stage2::sweep`]), which must not miss
//! a write. A processor that sets D has set A as well, so nothing that was written goes unreported.

use pleat_types::{Gfn, PageSize};

use crate::codec::{Entry, GFN_LIMIT, Leaf, Level};
use crate::error::Bug;
use crate::flush::PendingFlush;
use crate::memory::TableMemory;
use crate::table::{Stage2, rewrite};

/// A mapping that was used since the last harvest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// Its first page.
    pub gfn: Gfn,
    /// Its size.
    pub size: PageSize,
    /// It was written to since the last sweep.
    pub dirty: bool,
}

/// What a step of a harvest leaves behind.
#[derive(Debug)]
#[must_use = "stale translations stay until the flush is done"]
pub struct Harvest {
    /// Where the next step goes on; `None` when the range is done.
    pub next: Option<Gfn>,
    /// Until this is done, a processor that holds a translation as accessed does not set the bit again.
    pub pending: PendingFlush,
}

impl Stage2 {
    /// Looks at up to `budget` entries from `first` up to (not including) `end`, reports the mappings
    /// that were used, and clears their accessed bits.
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
        match place.entry {
            Entry::Leaf(leaf) if leaf.accessed => {}
            _ => return Ok((None, next)),
        }
        let used = rewrite(memory, place, |leaf| Leaf {
            accessed: false,
            ..leaf
        })?;
        Ok((
            Some(Used {
                gfn,
                size: used.size,
                dirty: used.dirty,
            }),
            next,
        ))
    }
}
