//! What the operations mean, as simply as it can be said: a map from pages to states.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::oracle::View;
use crate::audit::Counters;
use crate::codec::Absent;
use crate::harvest::Used;
use pleat_types::{Gfn, PageSize};

pub const ZERO: u64 = 0x77;
/// Four blocks of 2 MiB, and 1 GiB with something ragged before it.
pub const PROMISED: [(u64, u64); 2] = [(0, 2048), (GIB - 700, GIB + 700)];
pub const DEVICE: (u64, u64) = (3000, 5);
const GIB: u64 = 1 << 18;
/// Pages that are looked at: ends and middles of blocks, a device, a hole.
pub const GFNS: [u64; 18] = [
    0,
    1,
    511,
    512,
    513,
    1023,
    1024,
    1536,
    2047,
    2048,
    3002,
    GIB - 700,
    GIB - 512,
    GIB - 1,
    GIB,
    GIB + 512,
    GIB + 1023,
    2 * GIB - 1,
];

#[derive(Clone, Debug)]
pub enum Op {
    Zero(u64),
    Unique(u64, u64),
    Block(u64, u64, PageSize),
    Split(u64),
    Collapse(u64),
    Fold(u64, PageSize),
    Unmap(u64, PageSize, Absent),
    Reclassify(u64, Absent, Absent),
    /// The guest uses a page: the processor sets A, and D for a write.
    Use(u64, bool),
    Harvest(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ballooned,
    Zero,
    Owned(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cell {
    state: State,
    accessed: bool,
    dirty: bool,
}

/// Only what differs from the declared ranges is in the map, by size and first page.
#[derive(Clone, Default)]
pub struct Model {
    cells: BTreeMap<(u64, PageSize), Cell>,
}

fn base(gfn: u64) -> u64 {
    let within = |(first, count): (u64, u64)| (first..first + count).contains(&gfn);
    if PROMISED.into_iter().any(within) {
        1
    } else if within(DEVICE) {
        3
    } else {
        0
    }
}

fn new_cell(state: State) -> Cell {
    Cell {
        state,
        accessed: false,
        dirty: false,
    }
}

impl Model {
    fn cell(&self, gfn: u64) -> Option<((u64, PageSize), Cell)> {
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
        let Cell {
            state,
            accessed,
            dirty,
        } = cell;
        let mapped = |frame, is_writable| View::Mapped {
            frame: frame + (gfn - first),
            size: size.frames(),
            is_writable,
            accessed,
            dirty,
        };
        match state {
            State::Ballooned => View::Absent(2),
            State::Zero => mapped(ZERO, false),
            State::Owned(frame) => mapped(frame, true),
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
                (State::Ballooned, _) => &mut counters.ballooned,
                (State::Zero, _) => &mut counters.zero,
                (State::Owned(_), PageSize::Small) => &mut counters.unique,
                (State::Owned(_), PageSize::Large) => &mut counters.large,
                (State::Owned(_), PageSize::Huge) => &mut counters.huge,
            };
            *counter += 1;
        }
        counters
    }

    /// What a harvest reports, in order.
    pub fn used(&self) -> Vec<Used> {
        let used = self.cells.iter().filter(|(_, cell)| cell.accessed);
        used.map(|((gfn, size), cell)| Used {
            gfn: Gfn::new(*gfn),
            size: *size,
            dirty: cell.dirty,
        })
        .collect()
    }

    /// Performs an operation; `None` if it is not allowed.
    pub fn apply(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Zero(gfn) => {
                self.expect(gfn, View::Absent(1))?;
                self.set(gfn, State::Zero);
            }
            Op::Unique(gfn, frame) => {
                let is_zero = matches!(self.cell(gfn), Some((_, cell)) if cell.state == State::Zero);
                if !is_zero {
                    self.expect(gfn, View::Absent(1))?;
                }
                self.set(gfn, State::Owned(frame));
            }
            Op::Block(gfn, frame, size) => self.map_block(gfn, frame, size)?,
            Op::Split(gfn) => self.split(gfn)?,
            Op::Collapse(gfn) => self.collapse(gfn)?,
            Op::Fold(..) => {}
            Op::Unmap(gfn, size, to) => self.unmap(gfn, size, to)?,
            Op::Reclassify(gfn, from, to) => {
                self.expect(gfn, View::Absent(kind(from)))?;
                self.clear(gfn, to);
            }
            Op::Use(gfn, is_write) => self.touch(gfn, is_write)?,
            Op::Harvest(_) => self.cells.values_mut().for_each(|cell| cell.accessed = false),
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

    fn split(&mut self, gfn: u64) -> Option<()> {
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
                    ..cell
                },
            );
        }
        Some(())
    }

    fn collapse(&mut self, gfn: u64) -> Option<()> {
        let first = gfn - gfn % 512;
        let State::Owned(frame) = self.cells.get(&(first, PageSize::Small))?.state else {
            return None;
        };
        let mut whole = new_cell(State::Owned(frame));
        for n in 0..512 {
            let cell = self.cells.get(&(first + n, PageSize::Small))?;
            if cell.state != State::Owned(frame + n) || frame % 512 != 0 {
                return None;
            }
            whole.accessed |= cell.accessed;
            whole.dirty |= cell.dirty;
        }
        self.cells
            .retain(|(gfn, _), _| !(first..first + 512).contains(gfn));
        self.cells.insert((first, PageSize::Large), whole);
        Some(())
    }

    fn unmap(&mut self, gfn: u64, size: PageSize, to: Absent) -> Option<()> {
        let cell = *self.cells.get(&(gfn, size))?;
        if cell.state == State::Ballooned {
            return None;
        }
        self.cells.remove(&(gfn, size));
        if to == Absent::Ballooned {
            (gfn..gfn + size.frames()).for_each(|gfn| self.clear(gfn, to));
        }
        Some(())
    }

    fn touch(&mut self, gfn: u64, is_write: bool) -> Option<()> {
        let (key, _) = self.cell(gfn)?;
        let cell = self.cells.get_mut(&key)?;
        match (cell.state, is_write) {
            (State::Ballooned, _) | (State::Zero, true) => return None,
            _ => {}
        }
        cell.accessed = true;
        cell.dirty |= is_write;
        Some(())
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
