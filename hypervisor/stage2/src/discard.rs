//! Pages that leave a guest, or come back to it, in batches: what a balloon asks for.
//!
//! What a batch takes out waits for one flush. Pages that lie near one another cost one walk: the table that
//! holds the last one stays open. A table in which nothing but what is now said is left becomes one entry
//! again when the batch leaves it, so that a balloon does not keep 4 KiB for each 2 MiB.
//!
//! A page within something larger needs tables, and a balloon is asked when memory is short. So where there is
//! none the page is left as it is, and counted.

use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share};

use crate::codec::{Absent, ENTRIES, Entry, GFN_LIMIT, Level};
use crate::error::Bug;
use crate::find::Slot;
use crate::flush::{PendingFlush, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Stage2, return_spares, take_spares};

/// The most pages of a batch: as many as the Linux driver puts into one buffer
/// (`VIRTIO_BALLOON_ARRAY_PFNS_MAX`).
pub const DISCARD_PAGES: usize = 256;
/// What each page can retire: a frame or a share, and the table that it was the last one in.
pub const DISCARD_ROOM: usize = 2 * DISCARD_PAGES;

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
        Batch::new(self, memory, to, is_ram).run(pages)
    }

    /// Up to [`DISCARD_PAGES`] pages leave the balloon: Ballooned to Untouched; all others are refused. One that is
    /// kept for want of a table leaves it when the guest touches it.
    pub fn deflate<M: TableMemory>(&mut self, memory: &mut M, pages: &[Gfn]) -> Result<Discarded, Bug> {
        let is_ballooned = |page| page == Page::Ballooned;
        Batch::new(self, memory, Absent::Untouched, is_ballooned).run(pages)
    }
}

/// The table of the page that was last at hand.
#[derive(Clone, Copy)]
struct Open {
    table: Hfn,
    /// The first page that it translates.
    first: Gfn,
    is_changed: bool,
}

/// A batch on its way.
struct Batch<'a, M, F> {
    stage2: &'a mut Stage2,
    memory: &'a mut M,
    to: Absent,
    /// Whether a page in this state is to change.
    is_wanted: F,
    open: Option<Open>,
    done: Discarded,
}

impl<'a, M: TableMemory, F: Fn(Page) -> bool> Batch<'a, M, F> {
    fn new(stage2: &'a mut Stage2, memory: &'a mut M, to: Absent, is_wanted: F) -> Self {
        let done = Discarded {
            pending: stage2.nothing_to_flush(),
            released: 0,
            kept: 0,
            refused: 0,
        };
        Self {
            stage2,
            memory,
            to,
            is_wanted,
            open: None,
            done,
        }
    }

    fn run(mut self, pages: &[Gfn]) -> Result<Discarded, Bug> {
        match self.all(pages) {
            Ok(()) => Ok(self.done),
            Err(bug) => {
                self.done.pending.abandon();
                Err(bug)
            }
        }
    }

    fn all(&mut self, pages: &[Gfn]) -> Result<(), Bug> {
        if pages.len() > DISCARD_PAGES {
            return Err(Bug::TooManyPages);
        }
        for gfn in pages {
            match self.open {
                Some(open) if Level::Two.first(*gfn) == open.first => self.small(open.table, *gfn)?,
                _ => {
                    self.close()?;
                    self.elsewhere(*gfn)?;
                }
            }
        }
        self.close()
    }

    /// A page that lies in another table than the last one, or in none.
    fn elsewhere(&mut self, gfn: Gfn) -> Result<(), Bug> {
        if gfn.get() >= GFN_LIMIT {
            self.done.refused += 1;
            return Ok(());
        }
        let slot = self.stage2.descend(self.memory, gfn);
        if slot.level != Level::One {
            return self.part(slot, gfn);
        }
        self.open(slot.table, gfn);
        self.small(slot.table, gfn)
    }

    const fn open(&mut self, table: Hfn, gfn: Gfn) {
        self.open = Some(Open {
            table,
            first: Level::Two.first(gfn),
            is_changed: false,
        });
    }

    /// A page with an entry of its own.
    #[inline(always)]
    fn small(&mut self, table: Hfn, gfn: Gfn) -> Result<(), Bug> {
        let index = Level::One.index(gfn);
        let raw = self.memory.load(table, index);
        let page = self.stage2.page(Entry::decode(raw, Level::One)?, Level::One)?;
        let new = Entry::Absent(self.to).encode();
        if !(self.is_wanted)(page) {
            self.done.refused += 1;
        } else if matches!(page, Page::Frozen(_)) {
            self.done.kept += 1;
        } else if raw != new {
            self.memory.store(table, index, new);
            self.stage2.counters.remove(page, Level::One, 1);
            self.retire(page);
            self.changed();
        }
        Ok(())
    }

    /// What a page had waits for the flush; nothing was cached for one that was absent (SDM 29.4.2).
    #[inline(always)]
    fn retire(&mut self, page: Page) {
        let pending = &mut self.done.pending;
        match page {
            Page::Unique(frame) => pending.retire(Retired::Frame(OwnedFrame::claim(frame, PageSize::Small))),
            Page::Shared(frame) => pending.retire(Retired::Share(Share::claim(frame))),
            Page::Zero => {}
            _ => return,
        }
        pending.require(self.stage2.processors());
    }

    /// Counts a page that is absent now.
    #[inline(always)]
    fn changed(&mut self) {
        self.done.released += 1;
        match self.to {
            Absent::Ballooned => self.stage2.counters.ballooned += 1,
            _ => self.stage2.counters.untouched += 1,
        }
        if let Some(open) = &mut self.open {
            open.is_changed = true;
        }
    }

    /// A page within something that reaches further.
    fn part(&mut self, slot: Slot, gfn: Gfn) -> Result<(), Bug> {
        let place = slot.place()?;
        let page = self.stage2.page(place.entry, place.level)?;
        let new = Entry::Absent(self.to);
        if !(self.is_wanted)(page) {
            self.done.refused += 1;
            return Ok(());
        }
        if place.entry == new {
            return Ok(());
        }
        let Ok(mut spares) = take_spares(self.memory, place.level.rank()) else {
            self.done.kept += 1;
            return Ok(());
        };
        let carved = self
            .stage2
            .carve(self.memory, place, gfn, Level::One, new, &mut spares);
        return_spares(self.memory, spares);
        let carved = carved?;
        if let Some(frame) = carved.frame {
            self.retire(Page::Unique(frame));
        }
        self.done.released += 1;
        self.open(carved.table, gfn);
        Ok(())
    }

    /// Before another table is opened: this one becomes one entry if nothing else is left in it. A look at both ends
    /// is enough for most that are not.
    fn close(&mut self) -> Result<(), Bug> {
        let Some(Open {
            table,
            first,
            is_changed: true,
        }) = self.open.take()
        else {
            return Ok(());
        };
        let new = Entry::Absent(self.to).encode();
        let is_new = |index| self.memory.load(table, index) == new;
        if !(is_new(0) && is_new(ENTRIES - 1) && (1..ENTRIES).all(is_new)) {
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
