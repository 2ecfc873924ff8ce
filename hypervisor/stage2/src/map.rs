//! Giving a page something: the zero frame, a frame of its own, a large block; and taking it away.

use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share};

use crate::codec::{Absent, Backing, Entry, Leaf, Level};
use crate::error::{Bug, Error, Refused};
use crate::find::Spot;
use crate::flush::{PendingFlush, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Place, Stage2, return_spares, take_spares};

impl Stage2 {
    /// Untouched to Zero: a read-only mapping to the zero frame. Nothing was cached for an absent
    /// page (SDM 29.4.2), so no flush is due.
    pub fn map_zero<M: TableMemory>(&mut self, memory: &mut M, gfn: Gfn) -> Result<(), Error> {
        let leaf = Entry::Leaf(small_leaf(self.zero_frame(), Backing::Shared));
        self.change(memory, gfn, Level::One, leaf, |page| page == Page::Untouched)?;
        Ok(())
    }

    /// Untouched or Zero to Unique. The frame must hold what the guest is to see: zeros, or the content
    /// that it is loaded with.
    ///
    /// From Zero a flush is due even on the processor that took the fault: the fault drops only the
    /// translation of its own linear address (SDM 29.4.3.1), another one may still read the zero frame.
    pub fn map_unique<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: OwnedFrame,
    ) -> Result<PendingFlush, Refused> {
        if frame.size() != PageSize::Small {
            return Err(Refused {
                error: Error::Bug(Bug::WrongSize(gfn)),
                frame,
            });
        }
        self.map_owned(memory, gfn, frame, is_without_frame)
    }

    /// [`Stage2::map_unique`] for a page that was found already.
    pub fn map_unique_at<M: TableMemory>(
        &mut self,
        memory: &mut M,
        spot: Spot,
        frame: OwnedFrame,
    ) -> Result<PendingFlush, Refused> {
        let gfn = spot.gfn();
        let small = if frame.size() == PageSize::Small {
            let place = self.recheck(memory, &spot).and_then(|()| spot.slot.place());
            place.map_err(Error::Bug)
        } else {
            Err(Bug::WrongSize(gfn).into())
        };
        let new = Entry::Leaf(small_leaf(frame.first(), Backing::Owned));
        let done =
            small.and_then(|place| self.change_at(memory, place, gfn, Level::One, new, is_without_frame));
        self.flush_after(done, frame)
    }

    /// 2 MiB, all untouched and with no table below, to Large.
    pub fn map_large<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: OwnedFrame,
    ) -> Result<(), Refused> {
        self.map_block(memory, gfn, frame, PageSize::Large)
    }

    /// 1 GiB, all untouched and with no table below, to one mapping.
    pub fn map_huge<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: OwnedFrame,
    ) -> Result<(), Refused> {
        self.map_block(memory, gfn, frame, PageSize::Huge)
    }

    /// Takes a mapping of exactly this size away; the page becomes `to`. Its frame, or its
    /// share in one, comes out of the flush (the zero frame does not: it is nobody's).
    pub fn unmap<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        size: PageSize,
        to: Absent,
    ) -> Result<PendingFlush, Error> {
        let level = Level::of(size);
        let place = self.walk(memory, gfn, Level::One)?;
        if place.level != level || level.first(gfn) != gfn {
            return Err(Bug::WrongSize(gfn).into());
        }
        let page = self.page(place.entry, level)?;
        let retired = match page {
            Page::Unique(frame) => Some(Retired::Frame(OwnedFrame::claim(frame, size))),
            Page::Shared(frame) => Some(Retired::Share(Share::claim(frame))),
            Page::Zero => None,
            // Somebody reads the bytes of a frozen one.
            Page::Frozen(_)
            | Page::Hole
            | Page::Untouched
            | Page::Ballooned
            | Page::Device
            | Page::Swapped(_) => {
                return Err(Bug::WrongState(gfn).into());
            }
        };
        memory.store(place.table, place.index, Entry::Absent(to).encode());
        self.counters.remove(page, level, 1);
        self.counters.add(self.page(Entry::Absent(to), level)?, level, 1);
        let mut pending = self.flush_due();
        if let Some(retired) = retired {
            pending.retire(retired);
        }
        Ok(pending)
    }

    /// From one absent kind to another, for one page: the balloon takes an untouched page, or the guest
    /// touches one that is in the balloon. Nothing was cached, so no flush is due.
    pub fn reclassify<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        from: Absent,
        to: Absent,
    ) -> Result<(), Error> {
        let from = self.page(Entry::Absent(from), Level::One)?;
        self.change(memory, gfn, Level::One, Entry::Absent(to), |page| page == from)?;
        Ok(())
    }

    fn map_block<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: OwnedFrame,
        size: PageSize,
    ) -> Result<(), Refused> {
        if frame.size() != size {
            return Err(Refused {
                error: Error::Bug(Bug::WrongSize(gfn)),
                frame,
            });
        }
        // Nothing was cached for what is absent, so this flush has nothing to wait for.
        let _ = self
            .map_owned(memory, gfn, frame, |page| page == Page::Untouched)?
            .settle(|_| {});
        Ok(())
    }

    fn map_owned<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        frame: OwnedFrame,
        from: impl Fn(Page) -> bool,
    ) -> Result<PendingFlush, Refused> {
        let leaf = Leaf {
            size: frame.size(),
            ..small_leaf(frame.first(), Backing::Owned)
        };
        let done = self.change(memory, gfn, Level::of(frame.size()), Entry::Leaf(leaf), from);
        self.flush_after(done, frame)
    }

    /// What is due after a frame was mapped in place of a page.
    fn flush_after(&self, done: Result<Page, Error>, frame: OwnedFrame) -> Result<PendingFlush, Refused> {
        match done {
            Ok(Page::Zero) => Ok(self.flush_due()),
            Ok(_) => Ok(self.nothing_to_flush()),
            Err(error) => Err(Refused { error, frame }),
        }
    }

    /// Puts an entry at `level`, if the page is in a state that `from` accepts, and says which.
    fn change<M: TableMemory>(
        &mut self,
        memory: &mut M,
        gfn: Gfn,
        level: Level,
        new: Entry,
        from: impl Fn(Page) -> bool,
    ) -> Result<Page, Error> {
        if level.first(gfn) != gfn {
            return Err(Bug::Misaligned(gfn).into());
        }
        let place = self.walk(memory, gfn, level)?;
        self.change_at(memory, place, gfn, level, new, from)
    }

    /// [`Stage2::change`] where the walk ended.
    fn change_at<M: TableMemory>(
        &mut self,
        memory: &mut M,
        place: Place,
        gfn: Gfn,
        level: Level,
        new: Entry,
        from: impl Fn(Page) -> bool,
    ) -> Result<Page, Error> {
        let old = self.state_for(place, gfn, level)?;
        if !from(old) {
            return Err(Bug::WrongState(gfn).into());
        }
        // A mapping that could not be read back is refused here, before anything is stored.
        let page = self.page(new, level)?;
        if place.level == level {
            memory.store(place.table, place.index, new.encode());
            self.counters.remove(old, level, 1);
            self.counters.add(page, level, 1);
            return Ok(old);
        }
        let mut spares = take_spares(memory, place.level.rank() - level.rank())?;
        let outcome = self.install(memory, place, gfn, level, new, &mut spares);
        return_spares(memory, spares);
        outcome?;
        Ok(old)
    }

    /// The state at a place, if an entry at `level` can be put there.
    fn state_for(&self, place: Place, gfn: Gfn, level: Level) -> Result<Page, Bug> {
        match place.entry {
            Entry::Table(_) => Err(Bug::WrongSize(gfn)),
            Entry::Leaf(_) if place.level != level => Err(Bug::WrongSize(gfn)),
            entry => self.page(entry, place.level),
        }
    }
}

/// A page that a frame of its own can be given to.
fn is_without_frame(page: Page) -> bool {
    matches!(page, Page::Untouched | Page::Zero)
}

/// A mapping that nobody has used yet.
pub(crate) fn small_leaf(frame: Hfn, backing: Backing) -> Leaf {
    Leaf {
        frame,
        size: PageSize::Small,
        backing,
        accessed: false,
        dirty: false,
        calm_owed: 0,
        age: 0,
    }
}
