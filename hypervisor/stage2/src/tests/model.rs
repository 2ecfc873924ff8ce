//! What the operations mean, as simply as it can be said: a map from pages to states.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::op::{DEVICE, Op, PROMISED, ZERO, owe};
use super::oracle::{AGE_SHIFT, FROZEN, OWED_SHIFT, SHARED, View};
use crate::age::Ages;
use crate::audit::Counters;
use crate::codec::{AGE_MAX, Absent};
use crate::sweep::Calm;
use pleat_types::{Gfn, PageSize};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Promised once, a hole now.
    Unplugged,
    Ballooned,
    Zero,
    Owned(u64),
    Frozen(u64),
    Shared(u64),
    /// In this slot.
    Swapped(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    pub state: State,
    pub accessed: bool,
    pub dirty: bool,
    pub owed: u8,
    pub age: u8,
}

/// What a sweep is to report.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Swept {
    pub calm: Vec<Calm>,
    pub looked_at: u64,
    pub written: u64,
    pub rewritten: u64,
    pub owing: u64,
}

/// Only what differs from the declared ranges is in the map, by size and first page.
#[derive(Clone, Default)]
pub struct Model {
    pub cells: BTreeMap<(u64, PageSize), Cell>,
    /// Pages that own their frame and were written since they were last found calm.
    pub unseen: BTreeSet<u64>,
    /// What the last sweep was to report.
    pub swept: Swept,
}

/// What was declared: 0 a hole, 1 memory, 3 a device.
pub fn base(gfn: u64) -> u64 {
    let within = |(first, count): (u64, u64)| (first..first + count).contains(&gfn);
    if PROMISED.into_iter().any(within) {
        1
    } else if within(DEVICE) {
        3
    } else {
        0
    }
}

pub fn new_cell(state: State) -> Cell {
    Cell {
        state,
        accessed: false,
        dirty: false,
        owed: 0,
        age: 0,
    }
}

impl Cell {
    /// Whether it maps something that can grow old.
    const fn ages(&self) -> bool {
        matches!(self.state, State::Owned(_) | State::Frozen(_) | State::Shared(_))
    }

    fn end_generation(&mut self) {
        if !self.ages() {
            return;
        }
        self.age = if self.accessed {
            0
        } else {
            AGE_MAX.min(self.age + 1)
        };
        self.accessed = false;
    }
}

impl Model {
    pub fn cell(&self, gfn: u64) -> Option<((u64, PageSize), Cell)> {
        [PageSize::Small, PageSize::Large, PageSize::Huge]
            .into_iter()
            .find_map(|size| {
                let key = (gfn - gfn % size.frames(), size);
                self.cells.get(&key).map(|cell| (key, *cell))
            })
    }

    pub fn view(&self, gfn: u64) -> View {
        let Some(((first, size), cell)) = self.cell(gfn) else {
            return View::Absent(base(gfn));
        };
        let owed = u64::from(cell.owed) << OWED_SHIFT;
        let age = u64::from(cell.age) << AGE_SHIFT;
        let (frame, is_writable, marks) = match cell.state {
            State::Unplugged => return View::Absent(0),
            State::Ballooned => return View::Absent(2),
            State::Zero => (ZERO, false, SHARED),
            State::Owned(frame) => (frame, true, owed),
            State::Frozen(frame) => (frame, false, FROZEN | owed),
            State::Shared(frame) => (frame, false, SHARED),
            State::Swapped(slot) => return View::Swapped(slot.into()),
        };
        View::Mapped {
            frame: frame + (gfn - first),
            size: size.frames(),
            is_writable,
            accessed: cell.accessed,
            dirty: cell.dirty,
            marks: marks | age,
        }
    }

    pub fn counters(&self) -> Counters {
        let promised: u64 = PROMISED.iter().map(|(_, count)| count).sum();
        let mut counters = Counters {
            untouched: promised,
            device: DEVICE.1,
            ..Counters::default()
        };
        for ((_, size), cell) in &self.cells {
            counters.untouched -= size.frames();
            let counter = match (cell.state, size) {
                (State::Unplugged, _) => continue,
                (State::Ballooned, _) => &mut counters.ballooned,
                (State::Zero, _) => &mut counters.zero,
                (State::Shared(_), _) => &mut counters.shared,
                (State::Swapped(_), _) => &mut counters.swapped,
                (State::Owned(_) | State::Frozen(_), PageSize::Small) => &mut counters.unique,
                (State::Owned(_) | State::Frozen(_), PageSize::Large) => &mut counters.large,
                (State::Owned(_) | State::Frozen(_), PageSize::Huge) => &mut counters.huge,
            };
            *counter += 1;
        }
        counters
    }

    /// Pages by age.
    pub fn ages(&self) -> Ages {
        let mut ages = [0; AGE_MAX as usize + 1];
        for ((_, size), cell) in self.cells.iter().filter(|(_, cell)| cell.ages()) {
            ages[usize::from(cell.age)] += size.frames();
        }
        ages
    }

    /// Performs an operation; `None` if it is not allowed.
    pub fn apply(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Zero(gfn) => {
                self.expect(gfn, View::Absent(1))?;
                self.set(gfn, State::Zero);
            }
            Op::Unique(gfn, frame, _) => {
                let is_zero = matches!(self.cell(gfn), Some((_, cell)) if cell.state == State::Zero);
                if !is_zero {
                    self.expect(gfn, View::Absent(1))?;
                }
                self.set(gfn, State::Owned(frame));
            }
            Op::Block(gfn, frame, size) => self.map_block(gfn, frame, size)?,
            Op::Split(gfn) => self.split(gfn)?,
            Op::Collapse(gfn) => self.collapse(gfn)?,
            Op::Gather(first, block) => self.gather(first, block)?,
            Op::Fold(..) | Op::TakeAccessed(_) => {}
            Op::Unmap(gfn, size, to) => self.unmap(gfn, size, to)?,
            Op::Reclassify(gfn, from, to) => {
                self.expect(gfn, View::Absent(kind(from)))?;
                self.clear(gfn, to);
            }
            Op::Use(gfn, is_write) => self.touch(gfn, is_write)?,
            Op::Age(_) => self.cells.values_mut().for_each(Cell::end_generation),
            Op::Sweep(from, end) => self.sweep(from, end),
            Op::MarkWritten(gfn) => {
                let cell = self.owned(gfn)?;
                (cell.dirty, cell.age) = (true, 0);
                self.unseen.insert(gfn);
            }
            Op::OweCalm(gfn) => {
                let cell = self.owned(gfn)?;
                cell.owed = cell.owed.max(1);
            }
            Op::Discard(..) | Op::Deflate(_) | Op::DiscardRange(..) | Op::Promise(..) => {
                self.apply_leaving(op)?;
            }
            Op::SwapOut(..) | Op::SwapOutShare(..) | Op::SwapIn(..) | Op::SwapInShare(..) => {
                self.apply_swapping(op)?;
            }
            _ => self.apply_sharing(op)?,
        }
        Some(())
    }

    fn expect(&self, gfn: u64, view: View) -> Option<()> {
        (self.view(gfn) == view).then_some(())
    }

    fn set(&mut self, gfn: u64, state: State) {
        self.cells.insert((gfn, PageSize::Small), new_cell(state));
    }

    fn clear(&mut self, gfn: u64, to: Absent) {
        match to {
            Absent::Ballooned => self.set(gfn, State::Ballooned),
            _ => self.cells.retain(|key, _| *key != (gfn, PageSize::Small)),
        }
    }

    fn owned(&mut self, gfn: u64) -> Option<&mut Cell> {
        let (key, _) = self.cell(gfn)?;
        let cell = self.cells.get_mut(&key)?;
        matches!(cell.state, State::Owned(_)).then_some(cell)
    }

    fn map_block(&mut self, gfn: u64, frame: u64, size: PageSize) -> Option<()> {
        let end = gfn + size.frames();
        let covers = |(first, count): (u64, u64)| first <= gfn && end <= first + count;
        let is_promised = PROMISED.into_iter().any(covers);
        let is_untouched = self
            .cells
            .range((gfn, PageSize::Small)..(end, PageSize::Small))
            .next()
            .is_none();
        let fits = gfn.is_multiple_of(size.frames()) && self.cell(gfn).is_none();
        if !(is_promised && is_untouched && fits) {
            return None;
        }
        self.cells.insert((gfn, size), new_cell(State::Owned(frame)));
        Some(())
    }

    pub fn split(&mut self, gfn: u64) -> Option<()> {
        let (key, cell) = self.cell(gfn)?;
        let State::Owned(frame) = cell.state else {
            return None;
        };
        let part = match key.1 {
            PageSize::Small => return None,
            PageSize::Large => PageSize::Small,
            PageSize::Huge => PageSize::Large,
        };
        self.cells.remove(&key);
        for offset in (0..512).map(|n| n * part.frames()) {
            self.cells.insert(
                (key.0 + offset, part),
                Cell {
                    state: State::Owned(frame + offset),
                    owed: 1,
                    ..cell
                },
            );
        }
        Some(())
    }

    fn collapse(&mut self, gfn: u64) -> Option<()> {
        let first = gfn - gfn % 512;
        let frames = self.owned_frames(first)?;
        if !frames[0].is_multiple_of(512) || !frames.iter().copied().eq(frames[0]..frames[0] + 512) {
            return None;
        }
        let oldest = Cell {
            age: AGE_MAX,
            ..new_cell(State::Owned(frames[0]))
        };
        self.make_large(first, oldest);
        Some(())
    }

    fn gather(&mut self, first: u64, block: u64) -> Option<()> {
        self.owned_frames(first)?;
        let whole = Cell {
            owed: 1,
            ..new_cell(State::Owned(block))
        };
        self.make_large(first, whole);
        Some(())
    }

    /// The frames of the 2 MiB from this page on, if it begins there and all its pages own theirs.
    pub fn owned_frames(&self, first: u64) -> Option<Vec<u64>> {
        let frame_of = |n| match self.cells.get(&(first + n, PageSize::Small))?.state {
            State::Owned(frame) => Some(frame),
            _ => None,
        };
        first.is_multiple_of(512).then_some(())?;
        (0..512).map(frame_of).collect()
    }

    /// Of 512 pages, with all that is known of their use.
    fn make_large(&mut self, first: u64, mut whole: Cell) {
        for gfn in first..first + 512 {
            if let Some(cell) = self.cells.remove(&(gfn, PageSize::Small)) {
                whole.accessed |= cell.accessed;
                whole.dirty |= cell.dirty;
                whole.owed = whole.owed.max(cell.owed);
                whole.age = whole.age.min(cell.age);
            }
        }
        self.cells.insert((first, PageSize::Large), whole);
    }

    /// The frame that a page shares with others, if it does.
    pub fn shared_frame(&self, gfn: u64) -> Option<u64> {
        match self.cells.get(&(gfn, PageSize::Small))?.state {
            State::Shared(frame) => Some(frame),
            _ => None,
        }
    }

    fn unmap(&mut self, gfn: u64, size: PageSize, to: Absent) -> Option<()> {
        let cell = *self.cells.get(&(gfn, size))?;
        if matches!(
            cell.state,
            State::Unplugged | State::Ballooned | State::Frozen(_) | State::Swapped(_)
        ) {
            return None;
        }
        self.cells.remove(&(gfn, size));
        self.unseen
            .retain(|page| !(gfn..gfn + size.frames()).contains(page));
        if to == Absent::Ballooned {
            (gfn..gfn + size.frames()).for_each(|gfn| self.clear(gfn, to));
        }
        Some(())
    }

    fn touch(&mut self, gfn: u64, is_write: bool) -> Option<()> {
        let (key, _) = self.cell(gfn)?;
        let cell = self.cells.get_mut(&key)?;
        match (cell.state, is_write) {
            (State::Unplugged | State::Ballooned | State::Swapped(_), _)
            | (State::Zero | State::Frozen(_) | State::Shared(_), true) => return None,
            _ => {}
        }
        cell.accessed = true;
        cell.dirty |= is_write;
        if is_write {
            self.unseen.insert(gfn);
        }
        Some(())
    }

    fn sweep(&mut self, from: u64, end: u64) {
        let mut swept = Swept::default();
        for ((gfn, size), cell) in &mut self.cells {
            let is_within = gfn + size.frames() > from && *gfn < end;
            let State::Owned(frame) = cell.state else { continue };
            if !is_within {
                continue;
            }
            swept.looked_at += 1;
            if cell.dirty {
                swept.written += 1;
                swept.rewritten += u64::from(cell.owed > 0);
                cell.owed = owe(frame).clamp(1, 15);
                cell.dirty = false;
            } else if cell.owed > 0 {
                cell.owed -= 1;
                if cell.owed == 0 {
                    let pages = *gfn..gfn + size.frames();
                    self.unseen.retain(|page| !pages.contains(page));
                    let (gfn, size) = (Gfn::new(*gfn), *size);
                    swept.calm.push(Calm { gfn, size });
                }
            }
            swept.owing += u64::from(cell.owed > 0);
        }
        self.swept = swept;
    }
}

pub const fn kind(absent: Absent) -> u64 {
    match absent {
        Absent::Hole => 0,
        Absent::Untouched => 1,
        Absent::Ballooned => 2,
        Absent::Device => 3,
    }
}
