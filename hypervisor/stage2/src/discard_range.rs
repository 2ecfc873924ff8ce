//! A range of pages that leaves a guest: free pages that it reports, memory that it unplugs, and what it has no use for
//! any more of what it wrote to a disk.
//!
//! What the range covers as a whole goes as a whole, whatever size it has. A table goes in one store, with all that
//! its pages had; and one that says the same everywhere when the range has passed it becomes one entry.

use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share, SlotReference};

use crate::audit::Counters;
use crate::codec::{Absent, ENTRIES, Entry, GFN_LIMIT, Level};
use crate::discard::DISCARD_PAGES;
use crate::error::{Bug, Error};
use crate::flush::{PendingFlush, Retired};
use crate::memory::TableMemory;
use crate::parts::Parts;
use crate::range::largest_block;
use crate::table::{Page, Place, Stage2, return_spares, take_spares_to_cut};

/// About how many pages or blocks one piece takes out.
const WORK_IN_A_PIECE: usize = 2 * ENTRIES;
/// What one entry can retire: a block, and a table at each level that ends with it.
const RETIRED_BY_AN_ENTRY: usize = 4;

/// What one piece has done.
#[derive(Debug)]
#[must_use = "stale translations stay until the flush is done"]
pub struct RangeDiscarded {
    /// Where the next piece begins; the end of the range when this was the last.
    pub next: Gfn,
    /// What came out.
    pub pending: PendingFlush<DISCARD_PAGES>,
    /// Pages that have changed.
    pub released: u64,
}

/// A piece on its way.
struct Piece {
    to: Absent,
    /// What a page of a device becomes that is in the way.
    devices: Devices,
    end: Gfn,
    work: usize,
    done: RangeDiscarded,
}

/// What is done with the pages of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Devices {
    /// They stay, or are an error where all must be memory.
    Kept,
    /// They change like memory.
    Changed,
}

impl Stage2 {
    /// The next piece of a range of pages that become `to`; the caller goes on from [`RangeDiscarded::next`].
    ///
    /// To Untouched or Ballooned, holes and devices stay what they are. To Device, devices stay and holes are none of
    /// it. To Hole, all must be memory. A piece ends before a page that must not be there. Whoever begins there is told,
    /// and nothing has changed then. The same holds where a table is needed and there is none, because one end of the
    /// range is within something larger.
    pub fn discard_range<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        count: u64,
        to: Absent,
    ) -> Result<RangeDiscarded, Error> {
        self.next_piece(memory, first, count, (to, Devices::Kept))
    }

    /// The same, where all but holes becomes Untouched: pages of a device, too. What is written to a disk is kept over
    /// such pages, and these are to read as zeros then.
    pub fn blank_range<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        count: u64,
    ) -> Result<RangeDiscarded, Error> {
        self.next_piece(memory, first, count, (Absent::Untouched, Devices::Changed))
    }

    fn next_piece<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        count: u64,
        (to, devices): (Absent, Devices),
    ) -> Result<RangeDiscarded, Error> {
        let end = first.checked_add(count).filter(|end| end.get() <= GFN_LIMIT);
        let mut piece = Piece {
            to,
            devices,
            end: end.ok_or(Bug::OutOfRange(first))?,
            work: 0,
            done: RangeDiscarded {
                next: first,
                pending: self.nothing_to_flush(),
                released: 0,
            },
        };
        while piece.has_more() {
            let at = piece.done.next;
            let moved = match self.discard_next(memory, at, &mut piece) {
                Ok(next) => self.fold_behind(memory, next, &mut piece).map_err(Error::Bug),
                // The next piece begins here.
                Err(_) if at > first => break,
                Err(error) => Err(error),
            };
            if let Err(error) = moved {
                piece.done.pending.abandon();
                return Err(error);
            }
        }
        Ok(piece.done)
    }

    /// The next entry, or table; says where the one after it begins. Where it fails it has changed nothing.
    fn discard_next<M: TableMemory>(
        &mut self,
        memory: &mut M,
        at: Gfn,
        piece: &mut Piece,
    ) -> Result<Gfn, Error> {
        let place = self.walk(memory, at, Level::One)?;
        let level = largest_block(at, piece.end, Level::Two);
        if place.level == Level::One && level == Level::Two && self.discard_table(memory, at, piece)? {
            return Ok(Gfn::new(at.get() + level.frames()));
        }
        let page = self.page(place.entry, place.level)?;
        let reach = Gfn::new(place.level.first(at).get() + place.level.frames()).min(piece.end);
        if !piece.is_to_change(page, at)? {
            piece.work += 1;
            return Ok(reach);
        }
        let level = largest_block(at, piece.end, place.level);
        if level == place.level {
            self.discard_block(memory, place, page, piece)?;
        } else {
            self.discard_part(memory, place, at, level, piece)?;
        }
        piece.done.released += level.frames();
        Ok(Gfn::new(at.get() + level.frames()))
    }

    /// An entry that lies in the range as a whole.
    fn discard_block<M: TableMemory>(
        &mut self,
        memory: &mut M,
        place: Place,
        page: Page,
        piece: &mut Piece,
    ) -> Result<(), Bug> {
        let new = Entry::Absent(piece.to);
        memory.store(place.table, place.index, new.encode());
        self.counters.remove(page, place.level, 1);
        self.counters.add(self.page(new, place.level)?, place.level, 1);
        self.retire_block(page, place.level, piece);
        Ok(())
    }

    /// A block within an entry that reaches out of the range.
    fn discard_part<M: TableMemory>(
        &mut self,
        memory: &mut M,
        place: Place,
        at: Gfn,
        level: Level,
        piece: &mut Piece,
    ) -> Result<(), Error> {
        let mut spares = take_spares_to_cut(memory, place.entry, place.level.rank() - level.rank())?;
        let new = Entry::Absent(piece.to);
        let carved = self.carve(memory, place, at, level, new, &mut spares);
        return_spares(memory, spares);
        if let Some(frame) = carved?.frame {
            self.retire_block(Page::Unique(frame), level, piece);
        }
        Ok(())
    }

    /// The table of the 2 MiB from `first` on, in one store, if each of its pages is to change.
    fn discard_table<M: TableMemory>(
        &mut self,
        memory: &mut M,
        first: Gfn,
        piece: &mut Piece,
    ) -> Result<bool, Bug> {
        let place = self.walk(memory, first, Level::Two)?;
        let Entry::Table(table) = place.entry else {
            return Err(Bug::WrongState(first));
        };
        let mut held = Counters::default();
        let (mut unchanged, new) = (0, Entry::Absent(piece.to));
        for (index, number) in (0..ENTRIES).zip(0..) {
            let entry = Entry::decode(memory.load(table, index), Level::One)?;
            let page = self.page(entry, Level::One)?;
            if !piece.is_to_change(page, Gfn::new(first.get() + number))? {
                if entry != new {
                    return Ok(false);
                }
                unchanged += 1;
            }
            held.add(page, Level::One, 1);
        }
        memory.store(place.table, place.index, new.encode());
        self.forget_zero(memory, table, held.zero)?;
        self.counters.subtract(&held);
        self.counters.add(self.page(new, Level::Two)?, Level::Two, 1);
        self.count_unlinked(Level::One);
        let has_parts = held.unique + held.shared + held.swapped > 0;
        piece.done.pending.retire(if has_parts {
            Retired::Parts(Parts::of(table))
        } else {
            Retired::Table(table)
        });
        piece.done.pending.require(self.processors());
        piece.done.released += ENTRIES as u64 - unchanged;
        piece.work += ENTRIES;
        Ok(true)
    }

    /// In a table that nothing links to any more and that maps the zero frame so often: who gets it must not take that
    /// frame for somebody's.
    fn forget_zero<M: TableMemory>(&self, memory: &mut M, table: Hfn, mappings: u64) -> Result<(), Bug> {
        if mappings == 0 {
            return Ok(());
        }
        for index in 0..ENTRIES {
            let entry = Entry::decode(memory.load(table, index), Level::One)?;
            if self.page(entry, Level::One)? == Page::Zero {
                memory.store(table, index, Entry::Absent(Absent::Untouched).encode());
            }
        }
        Ok(())
    }

    /// What a block had waits for the flush; nothing was cached for what was absent (SDM 29.4.2).
    fn retire_block(&self, page: Page, level: Level, piece: &mut Piece) {
        let pending = &mut piece.done.pending;
        piece.work += 1;
        match (page, level.page_size()) {
            (Page::Unique(frame), Some(size)) => {
                // The allocator keeps blocks of 2 MiB: a larger one comes back as so many of those.
                piece.work += if size == PageSize::Huge { ENTRIES } else { 0 };
                pending.retire(Retired::Frame(OwnedFrame::claim(frame, size)));
            }
            (Page::Shared(frame), _) => pending.retire(Retired::Share(Share::claim(frame))),
            (Page::Swapped(slot), _) => {
                pending.retire(Retired::Slot(SlotReference::claim(slot)));
                return;
            }
            (Page::Zero, _) => {}
            _ => return,
        }
        pending.require(self.processors());
    }

    /// Takes out each table that ends before `next`, or in which the range ends there, if all that it says is `to`.
    fn fold_behind<M: TableMemory>(
        &mut self,
        memory: &mut M,
        next: Gfn,
        piece: &mut Piece,
    ) -> Result<(), Bug> {
        piece.done.next = next;
        let last = Gfn::new(next.get() - 1);
        let new = Entry::Absent(piece.to).encode();
        for level in [Level::Two, Level::Three, Level::Four] {
            if level.first(next) != next && next != piece.end {
                break;
            }
            let place = self.walk(memory, last, level)?;
            let (Entry::Table(table), Some(below)) = (place.entry, level.below()) else {
                continue;
            };
            if !(0..ENTRIES).all(|index| memory.load(table, index) == new) {
                break;
            }
            memory.store(place.table, place.index, new);
            self.count_unlinked(below);
            // The way through the table may be cached even where nothing was mapped by it.
            piece.done.pending.require(self.processors());
            piece.done.pending.retire(Retired::Table(table));
        }
        Ok(())
    }
}

impl Piece {
    fn has_more(&self) -> bool {
        let has_room = self.done.pending.room() >= RETIRED_BY_AN_ENTRY;
        self.done.next < self.end && has_room && self.work < WORK_IN_A_PIECE
    }

    /// Whether a page in this state becomes something else.
    fn is_to_change(&self, page: Page, gfn: Gfn) -> Result<bool, Bug> {
        let is_memory_left = matches!(self.to, Absent::Untouched | Absent::Ballooned);
        match page {
            Page::Device if self.devices == Devices::Changed => Ok(true),
            Page::Device if self.to == Absent::Device => Ok(false),
            Page::Hole | Page::Device if is_memory_left => Ok(false),
            // Somebody reads the bytes of a frozen one.
            Page::Hole | Page::Device | Page::Frozen(_) => Err(Bug::WrongState(gfn)),
            Page::Untouched => Ok(self.to != Absent::Untouched),
            Page::Ballooned => Ok(self.to != Absent::Ballooned),
            Page::Zero | Page::Unique(_) | Page::Shared(_) | Page::Swapped(_) => Ok(true),
        }
    }
}
