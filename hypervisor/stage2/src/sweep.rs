//! Which pages were written and which have been calm since: the dirty bits, read and cleared (SDM 29.3.5).
//!
//! A leaf that owns its frame counts down the epochs that it owes. A write seen by a sweep sets them anew;
//! when the last has passed without one, the page is calm, and it is reported once. All of it is in the
//! entry itself: sweeping what has not been written and owes nothing costs a load and two tests.

use arrayvec::ArrayVec;
use pleat_types::{Gfn, Hfn, LINE, PageSize};

use crate::codec::{self, Backing, CALM_OWED_MAX, ENTRIES, Entry, GFN_LIMIT, Leaf, Level};
use crate::error::Bug;
use crate::flush::{BATCH, PendingFlush};
use crate::memory::TableMemory;
use crate::table::{Place, Stage2, rewrite};

/// A page that has been calm for as long as it owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calm {
    /// Its first 4 KiB.
    pub gfn: Gfn,
    /// Its size.
    pub size: PageSize,
}

/// What a step of a sweep has found and leaves behind.
#[derive(Debug)]
#[must_use = "stale translations stay until the flush is done"]
pub struct Sweep {
    /// Where the next step goes on; `None` when the range is done.
    pub next: Option<Gfn>,
    /// Until this is done, a processor that holds a translation as dirty does not set the bit again.
    pub pending: PendingFlush,
    /// Leaves that own their frame.
    pub looked_at: u64,
    /// Of these, written since the last sweep.
    pub written: u64,
    /// Of these, written before they were calm.
    pub rewritten: u64,
    /// Leaves that owe epochs now: there is something to look at in the next one.
    pub owing: u64,
}

/// Whether a region was used since this was last asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Touched {
    /// Used, or (where one large mapping covers it) written or owing epochs.
    pub is_touched: bool,
    /// The first page that the answer says nothing about.
    pub next: Gfn,
}

impl Stage2 {
    /// Looks at the leaves that own their frame, from `from` up to (not including) `end`, or until `calm` is
    /// full. One that was written is clean now and owes as many epochs as `owe` says for its frame, at
    /// least one; one that owes epochs and was not written owes one less; one that thereby owes none is
    /// pushed to `calm`. Entries that own nothing are passed over.
    pub fn sweep<M: TableMemory>(
        &self,
        memory: &mut M,
        from: Gfn,
        end: Gfn,
        calm: &mut ArrayVec<Calm, BATCH>,
        owe: impl FnMut(Hfn) -> u8,
    ) -> Result<Sweep, Bug> {
        let end = end.min(Gfn::new(GFN_LIMIT));
        let mut sweeper = Sweeper {
            end,
            calm,
            owe,
            tally: Tally::default(),
        };
        let mut at = from;
        let mut outcome = Ok(());
        while at < end && !sweeper.calm.is_full() && outcome.is_ok() {
            let next = self
                .walk(memory, at, Level::One)
                .and_then(|place| sweeper.table(memory, place, at));
            outcome = next.map(|next| at = next);
        }
        outcome?;
        let Tally {
            looked_at,
            written,
            rewritten,
            owing,
        } = sweeper.tally;
        Ok(Sweep {
            next: Some(at).filter(|at| *at < end),
            pending: if written > 0 {
                self.flush_due()
            } else {
                self.nothing_to_flush()
            },
            looked_at,
            written,
            rewritten,
            owing,
        })
    }

    /// Reads and clears the accessed bit of the link to the table of the 2 MiB around `region`: nothing in
    /// there was written if nothing was used. Of a large mapping it only says whether a sweep would find
    /// something.
    ///
    /// A processor that keeps the link in its paging-structure caches does not set the bit again (SDM
    /// 29.4.2): the caller flushes after the last region that it asks about, before the guest runs.
    pub fn take_accessed<M: TableMemory>(&self, memory: &mut M, region: Gfn) -> Result<Touched, Bug> {
        let place = self.walk(memory, region, Level::Two)?;
        let is_touched = match place.entry {
            Entry::Table(_) if codec::is_accessed(place.raw) => {
                let unused = codec::without_accessed(place.raw);
                memory
                    .compare_exchange(place.table, place.index, place.raw, unused)
                    .map_err(|_| Bug::WrongState(region))?;
                true
            }
            Entry::Leaf(_) => codec::is_unsettled(place.raw),
            Entry::Absent(_) | Entry::Swapped(_) | Entry::Table(_) => false,
        };
        Ok(Touched {
            is_touched,
            next: Gfn::new(place.level.first(region).get() + place.level.frames()),
        })
    }

    /// Pleat itself has written to a page that owns its frame: the same as if the guest had.
    pub fn mark_written<M: TableMemory>(&self, memory: &mut M, gfn: Gfn) -> Result<(), Bug> {
        self.mark(memory, gfn, |leaf| Leaf {
            dirty: true,
            age: 0,
            ..leaf
        })
    }

    /// A page that owns its frame is to be looked at when it has been calm for an epoch, written or not.
    pub fn owe_calm<M: TableMemory>(&self, memory: &mut M, gfn: Gfn) -> Result<(), Bug> {
        self.mark(memory, gfn, |leaf| Leaf {
            calm_owed: leaf.calm_owed.max(1),
            ..leaf
        })
    }

    /// A page counts as used just now, whatever it maps.
    pub fn make_young<M: TableMemory>(&self, memory: &mut M, gfn: Gfn) -> Result<(), Bug> {
        let place = self.walk(memory, gfn, Level::One)?;
        match place.entry {
            Entry::Leaf(_) => rewrite(memory, place, |leaf| Leaf { age: 0, ..leaf }).map(drop),
            _ => Err(Bug::WrongState(gfn)),
        }
    }

    fn mark<M: TableMemory>(
        &self,
        memory: &mut M,
        gfn: Gfn,
        make: impl FnMut(Leaf) -> Leaf,
    ) -> Result<(), Bug> {
        let place = self.walk(memory, gfn, Level::One)?;
        match place.entry {
            Entry::Leaf(leaf) if leaf.backing == Backing::Owned => rewrite(memory, place, make).map(drop),
            _ => Err(Bug::WrongState(gfn)),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    looked_at: u64,
    written: u64,
    rewritten: u64,
    owing: u64,
}

/// A sweep on its way.
struct Sweeper<'a, F> {
    end: Gfn,
    calm: &'a mut ArrayVec<Calm, BATCH>,
    owe: F,
    tally: Tally,
}

impl<F: FnMut(Hfn) -> u8> Sweeper<'_, F> {
    /// Goes on in the table of `place` from there, to its end or a link to a table below; says where the
    /// next walk begins.
    fn table<M: TableMemory>(&mut self, memory: &mut M, place: Place, at: Gfn) -> Result<Gfn, Bug> {
        let (first, frames) = (place.level.first(at), place.level.frames());
        let left = (self.end.get() - first.get()).div_ceil(frames);
        let end = usize::try_from(left).map_or(ENTRIES, |left| ENTRIES.min(place.index.saturating_add(left)));
        let mut index = place.index;
        while index < end {
            if place.level == Level::One && index.is_multiple_of(LINE) && end - index >= LINE {
                let line = memory.load_line(place.table, index);
                if let Some(owned) = codec::owned_if_settled(&line) {
                    self.tally.looked_at += owned;
                    index += LINE;
                    continue;
                }
            }
            let raw = memory.load(place.table, index);
            if place.level != Level::One && codec::table_of(raw).is_some() {
                break;
            }
            index += 1;
            if !codec::is_writable(raw) {
                continue;
            }
            self.tally.looked_at += 1;
            if codec::is_unsettled(raw) {
                let index = index - 1;
                let gfn = Gfn::new(first.get() + (index - place.index) as u64 * frames);
                self.leaf(memory, Place { index, raw, ..place }, gfn)?;
                if self.calm.is_full() {
                    break;
                }
            }
        }
        Ok(Gfn::new(first.get() + (index - place.index) as u64 * frames))
    }

    /// A leaf that was written or owes epochs.
    fn leaf<M: TableMemory>(&mut self, memory: &mut M, place: Place, gfn: Gfn) -> Result<(), Bug> {
        let mut owed = None;
        let leaf = rewrite(memory, place, |leaf| Leaf {
            dirty: false,
            calm_owed: if leaf.dirty {
                *owed.get_or_insert_with(|| (self.owe)(leaf.frame).clamp(1, CALM_OWED_MAX))
            } else {
                leaf.calm_owed.saturating_sub(1)
            },
            ..leaf
        })?;
        if leaf.dirty {
            self.tally.written += 1;
            self.tally.rewritten += u64::from(leaf.calm_owed > 0);
            self.tally.owing += 1;
        } else if leaf.calm_owed > 1 {
            self.tally.owing += 1;
        } else {
            let size = leaf.size;
            self.calm.push(Calm { gfn, size });
        }
        Ok(())
    }
}
