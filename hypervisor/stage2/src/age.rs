//! How long pages have not been used: the accessed bits, read and cleared once a generation (SDM 29.3.5).
//!
//! The age is in the entry itself, and stops at [`AGE_MAX`], so a page that nobody uses costs a load and two tests
//! once it is that old. The dirty bits are left alone: clearing them is up to the sweep ([`Stage2::sweep`]), which
//! must not miss a write.

use arrayvec::ArrayVec;
use pleat_types::{Gfn, PageSize};

use crate::codec::{self, AGE_MAX, Backing, ENTRIES, Entry, GFN_LIMIT, Leaf, Level};
use crate::error::Bug;
use crate::flush::{BATCH, PendingFlush};
use crate::memory::TableMemory;
use crate::table::{ATTEMPTS, Place, Stage2};

/// Pages by age; those of a large mapping count one by one.
pub type Ages = [u64; AGE_MAX as usize + 1];

/// What a step of a generation's end leaves behind.
#[derive(Debug)]
#[must_use = "stale translations stay until the flush is done"]
pub struct Aged {
    /// Where the next step goes on; `None` when all have been looked at.
    pub next: Option<Gfn>,
    /// Until this is done, a processor that holds a translation as accessed does not set the bit again.
    pub pending: PendingFlush,
}

/// A page that has not been used for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cold {
    /// Its first 4 KiB.
    pub gfn: Gfn,
    /// Its size.
    pub size: PageSize,
    /// Whose its frame is.
    pub backing: Backing,
}

impl Stage2 {
    /// Ends the generation of the mappings from `from` on, for about `budget` entries: what was used since the last
    /// one has no age, everything else is one older. Counts them in `ages`. Mappings of the zero frame are passed over:
    /// there is nothing to be had from them.
    pub fn age<M: TableMemory>(
        &self,
        memory: &mut M,
        from: Gfn,
        budget: usize,
        ages: &mut Ages,
    ) -> Result<Aged, Bug> {
        let mut was_used = false;
        let next = self.leaves(memory, from, budget, |memory, place, _| {
            let raw = end_generation(memory, place);
            was_used |= codec::is_accessed(raw);
            ages[usize::from(codec::age_of(codec::aged(raw)))] += place.level.frames();
            true
        })?;
        Ok(Aged {
            next,
            pending: if was_used {
                self.flush_due()
            } else {
                self.nothing_to_flush()
            },
        })
    }

    /// Looks for mappings that are at least so old and were not used since, from `from` on, for about `budget`
    /// entries or until `cold` is full; where the next look goes on.
    pub fn find_cold<M: TableMemory>(
        &self,
        memory: &mut M,
        from: Gfn,
        budget: usize,
        least_age: u8,
        cold: &mut ArrayVec<Cold, BATCH>,
    ) -> Result<Option<Gfn>, Bug> {
        self.leaves(memory, from, budget, |_, place, gfn| {
            let is_cold = codec::age_of(place.raw) >= least_age && !codec::is_accessed(place.raw);
            if is_cold
                && let Ok(Entry::Leaf(leaf)) = Entry::decode(place.raw, place.level)
                && leaf.backing != Backing::Frozen
            {
                let Leaf { size, backing, .. } = leaf;
                cold.push(Cold { gfn, size, backing });
            }
            !cold.is_full()
        })
    }

    /// Visits leaves that map something else than the zero frame, until `visit` says that it is enough.
    fn leaves<M: TableMemory>(
        &self,
        memory: &mut M,
        from: Gfn,
        budget: usize,
        mut visit: impl FnMut(&mut M, Place, Gfn) -> bool,
    ) -> Result<Option<Gfn>, Bug> {
        let (mut at, mut left, mut goes_on) = (from, budget, true);
        while at.get() < GFN_LIMIT && left > 0 && goes_on {
            let start = self.walk(memory, at, Level::One)?;
            let frames = start.level.frames();
            let mut index = start.index;
            at = start.level.first(at);
            while index < ENTRIES && left > 0 && goes_on {
                let raw = memory.load(start.table, index);
                if start.level != Level::One && codec::table_of(raw).is_some() {
                    break;
                }
                let is_leaf = codec::is_present(raw) && codec::shared_frame_of(raw) != Some(self.zero);
                if is_leaf {
                    let entry = Entry::decode(raw, start.level)?;
                    let place = Place {
                        index,
                        raw,
                        entry,
                        ..start
                    };
                    goes_on = visit(memory, place, at);
                }
                (index, left) = (index + 1, left - 1);
                at = Gfn::new(at.get() + frames);
            }
        }
        Ok(Some(at).filter(|at| at.get() < GFN_LIMIT))
    }
}

/// Makes a leaf a generation older, or young if it was used; what it was at that moment.
fn end_generation<M: TableMemory>(memory: &mut M, place: Place) -> u64 {
    let mut raw = place.raw;
    for _ in 0..ATTEMPTS {
        let new = codec::aged(raw);
        if new == raw {
            break;
        }
        match memory.compare_exchange(place.table, place.index, raw, new) {
            Ok(()) => break,
            Err(now) => raw = now,
        }
    }
    raw
}
