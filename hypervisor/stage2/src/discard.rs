//! Pages that leave a guest, or come back to it, in batches: what a balloon asks for.
//!
//! What a batch takes out waits for one flush. Pages that lie near one another cost one walk: the table that
//! holds the last one stays open. A table in which nothing but what is now said is left becomes one entry
//! again when the batch leaves it, so that a balloon does not keep 4 KiB for each 2 MiB.
//!
//! A page within something larger needs tables, and a balloon is asked when memory is short. So where there is
//! none the page is left as it is, and counted.

use core::mem;

use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share, SlotReference};

use crate::codec::{self, Absent, ENTRIES, Entry, GFN_LIMIT, Level};
use crate::error::Bug;
use crate::find::{Slot, descend_from};
use crate::flush::{PendingFlush, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Stage2, return_spares, take_spares_to_cut};

/// The most pages of a batch: as many as the Linux driver puts into one buffer
/// (`VIRTIO_BALLOON_ARRAY_PFNS_MAX`).
pub const DISCARD_PAGES: usize = 256;
/// Each page can retire a frame or a share; the rest is for tables that the batch empties. One for which there is no
/// room is left.
pub const DISCARD_ROOM: usize = DISCARD_PAGES + 32;

/// What has become of a batch of pages. Those that it does not count were so already.
#[derive(Debug)]
#[must_use = "stale translations stay until the flush is done"]
pub struct Discarded {
    /// What came out. Nothing is due if all that has changed was absent.
    pub pending: PendingFlush<DISCARD_ROOM>,
    /// Pages that have changed.
    pub released: u64,
    /// Pages left as they are, because there was no frame for a table or they are being compared.
    pub kept: u64,
    /// Pages left as they are, because they are not in a state that the operation is for.
    pub refused: u64,
}

impl Stage2 {
    /// Up to [`DISCARD_PAGES`] pages become `to`, Ballooned or Untouched; their frames, and their shares in frames,
    /// come out of one flush. A hole, a device, and a number that no page has are refused. The same page may be named
    /// more than once.
    pub fn discard<M: TableMemory>(
        &mut self,
        memory: &mut M,
        pages: &[Gfn],
        to: Absent,
    ) -> Result<Discarded, Bug> {
        let is_ram = |page| !matches!(page, Page::Hole | Page::Device);
        self.change_all(memory, pages, to, is_ram)
    }

    /// Up to [`DISCARD_PAGES`] pages leave the balloon: Ballooned to Untouched; all others are refused. One that is
    /// kept for want of a table leaves it when the guest touches it.
    pub fn deflate<M: TableMemory>(&mut self, memory: &mut M, pages: &[Gfn]) -> Result<Discarded, Bug> {
        let is_ballooned = |page| page == Page::Ballooned;
        self.change_all(memory, pages, Absent::Untouched, is_ballooned)
    }

    #[inline(always)]
    fn change_all<M: TableMemory>(
        &mut self,
        memory: &mut M,
        pages: &[Gfn],
        to: Absent,
        is_wanted: impl Fn(Page) -> bool,
    ) -> Result<Discarded, Bug> {
        if pages.len() > DISCARD_PAGES {
            return Err(Bug::TooManyPages);
        }
        // Filled where the caller gets it: it is too large to be copied.
        let mut outcome = Ok(Discarded {
            pending: self.nothing_to_flush(),
            released: 0,
            kept: 0,
            refused: 0,
        });
        if let Ok(done) = &mut outcome {
            let batch = Batch {
                stage2: self,
                memory,
                to,
                is_wanted,
                directory: None,
                owned: 0,
                done,
            };
            if let Err(bug) = batch.run(pages)
                && let Ok(lost) = mem::replace(&mut outcome, Err(bug))
            {
                lost.pending.abandon();
            }
        }
        outcome
    }
}

/// The table of the 2 MiB that a batch is in.
#[derive(Clone, Copy)]
struct Open {
    table: Hfn,
    /// The first page that it translates.
    first: Gfn,
    is_changed: bool,
}

/// The table of the 1 GiB that a batch is in. It stays where it is: no batch takes out one of these.
#[derive(Clone, Copy)]
struct Directory {
    table: Hfn,
    first: Gfn,
}

/// A batch on its way.
struct Batch<'a, M, F> {
    stage2: &'a mut Stage2,
    memory: &'a mut M,
    to: Absent,
    /// Whether a page in this state is to change.
    is_wanted: F,
    directory: Option<Directory>,
    /// Pages that owned their frame, which are not counted yet.
    owned: u64,
    done: &'a mut Discarded,
}

impl<M: TableMemory, F: Fn(Page) -> bool> Batch<'_, M, F> {
    #[inline(always)]
    fn run(mut self, pages: &[Gfn]) -> Result<(), Bug> {
        let mut rest = pages;
        while let Some((gfn, after)) = rest.split_first() {
            let open = match self.find(*gfn) {
                Some(slot) if slot.level == Level::One => {
                    rest = self.within(Open::at(slot.table, *gfn), rest)?;
                    continue;
                }
                Some(slot) => self.part(slot, *gfn)?,
                None => {
                    self.done.refused += 1;
                    None
                }
            };
            rest = match open {
                Some(open) => self.within(open, after)?,
                None => after,
            };
        }
        if self.owned > 0 {
            self.count(Page::Unique(self.stage2.zero_frame()), self.owned);
        }
        Ok(())
    }

    /// Where a page is written down, if there can be such a page.
    #[inline(always)]
    fn find(&mut self, gfn: Gfn) -> Option<Slot> {
        let first = Level::Three.first(gfn);
        let known = self.directory.filter(|directory| directory.first == first);
        let table = match known {
            Some(directory) => directory.table,
            None if gfn.get() >= GFN_LIMIT => return None,
            None => match self.stage2.directory(self.memory, gfn) {
                Ok(table) => table,
                Err(slot) => return Some(slot),
            },
        };
        self.directory = Some(Directory { table, first });
        Some(descend_from(self.memory, table, gfn))
    }

    /// The pages, from the first one on, that lie in the open table; the others are left.
    #[inline(always)]
    fn within<'p>(&mut self, mut open: Open, mut pages: &'p [Gfn]) -> Result<&'p [Gfn], Bug> {
        let new = Entry::Absent(self.to).encode();
        let zero = self.stage2.zero_frame();
        while let Some((gfn, rest)) = pages.split_first()
            && Level::Two.first(*gfn) == open.first
        {
            pages = rest;
            let index = Level::One.index(*gfn);
            let raw = self.memory.load(open.table, index);
            // What most pages of a balloon are, first.
            match codec::owned_frame_of(raw) {
                Some(frame) if frame != zero && (self.is_wanted)(Page::Unique(frame)) => {
                    self.memory.store(open.table, index, new);
                    let frame = OwnedFrame::claim(frame, PageSize::Small);
                    self.done.pending.retire(Retired::Frame(frame));
                    self.owned += 1;
                    open.is_changed = true;
                }
                _ => open.is_changed |= self.other(open.table, index, raw)?,
            }
        }
        if open.is_changed {
            self.close(open, pages.len())?;
        }
        Ok(pages)
    }

    /// A page with an entry of its own in any state; whether it has changed.
    #[inline]
    fn other(&mut self, table: Hfn, index: usize, raw: u64) -> Result<bool, Bug> {
        let page = self.stage2.page(Entry::decode(raw, Level::One)?, Level::One)?;
        let new = Entry::Absent(self.to).encode();
        if !(self.is_wanted)(page) {
            self.done.refused += 1;
        } else if matches!(page, Page::Frozen(_)) {
            self.done.kept += 1;
        } else if raw != new {
            self.memory.store(table, index, new);
            match page {
                Page::Shared(frame) => self.done.pending.retire(Retired::Share(Share::claim(frame))),
                Page::Swapped(slot) => self
                    .done
                    .pending
                    .retire(Retired::Slot(SlotReference::claim(slot))),
                _ => {}
            }
            self.count(page, 1);
            return Ok(true);
        }
        Ok(false)
    }

    /// Counts pages that were in this state, and have changed. Nothing was cached for those that were absent (SDM
    /// 29.4.2).
    #[inline(always)]
    fn count(&mut self, was: Page, pages: u64) {
        self.done.released += pages;
        self.stage2.counters.remove(was, Level::One, pages);
        let now = match self.to {
            Absent::Hole => Page::Hole,
            Absent::Untouched => Page::Untouched,
            Absent::Ballooned => Page::Ballooned,
            Absent::Device => Page::Device,
        };
        self.stage2.counters.add(now, Level::One, pages);
        if matches!(was, Page::Unique(_) | Page::Shared(_) | Page::Zero) {
            self.done.pending.require(self.stage2.processors());
        }
    }

    /// A page within something that reaches further; the table where it has an entry of its own now.
    #[inline(never)]
    fn part(&mut self, slot: Slot, gfn: Gfn) -> Result<Option<Open>, Bug> {
        let place = slot.place()?;
        let page = self.stage2.page(place.entry, place.level)?;
        let new = Entry::Absent(self.to);
        if !(self.is_wanted)(page) {
            self.done.refused += 1;
            return Ok(None);
        }
        if place.entry == new {
            return Ok(None);
        }
        let Ok(mut spares) = take_spares_to_cut(self.memory, place.entry, place.level.rank()) else {
            self.done.kept += 1;
            return Ok(None);
        };
        let carved = self
            .stage2
            .carve(self.memory, place, gfn, Level::One, new, &mut spares);
        return_spares(self.memory, spares);
        let carved = carved?;
        if let Some(frame) = carved.frame {
            let frame = OwnedFrame::claim(frame, PageSize::Small);
            self.done.pending.retire(Retired::Frame(frame));
            self.done.pending.require(self.stage2.processors());
        }
        self.done.released += 1;
        Ok(Some(Open {
            is_changed: true,
            ..Open::at(carved.table, gfn)
        }))
    }

    /// The table becomes one entry if nothing but what is new is left in it, and if there is room for it besides
    /// the pages to come. A look at both ends is enough for most that are not.
    #[inline]
    fn close(&mut self, open: Open, pages_to_come: usize) -> Result<(), Bug> {
        let Open { table, first, .. } = open;
        let new = Entry::Absent(self.to).encode();
        let is_new = |index| self.memory.load(table, index) == new;
        let has_room = self.done.pending.room() > pages_to_come;
        if !(has_room && is_new(0) && is_new(ENTRIES - 1) && (1..ENTRIES).all(is_new)) {
            return Ok(());
        }
        let place = self.stage2.walk(self.memory, first, Level::Two)?;
        self.memory.store(place.table, place.index, new);
        self.stage2.count_unlinked(Level::One);
        // The way through the table may be cached even where nothing was mapped by it.
        self.done.pending.require(self.stage2.processors());
        self.done.pending.retire(Retired::Table(table));
        Ok(())
    }
}

impl Open {
    const fn at(table: Hfn, gfn: Gfn) -> Self {
        Self {
            table,
            first: Level::Two.first(gfn),
            is_changed: false,
        }
    }
}
