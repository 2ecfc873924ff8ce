//! Several guests whose pages share frames, and all that has to hold after each operation.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::memory::FakeMemory;
use super::model::{Model, State, Swept};
use super::op::{DEVICE, GFNS, Op, PROMISED, Way, ZERO};
use super::oracle::{self, AGE, AGE_SHIFT, FROZEN, OWED_SHIFT, SHARED, View};
use crate::audit::Held;
use crate::error::Error;
use crate::flush::{PendingFlush, ProcessorSet, Retired};
use crate::share::Frozen;
use crate::table::{Page, Stage2};
use pleat_types::{Gfn, Hfn, PageSize, SwapSlot};

pub type Views = [View; GFNS.len()];

/// What an operation brought out, once flushed.
#[derive(Default)]
pub struct Outcome {
    pub is_flushed: bool,
    pub retired: Vec<Retired>,
}

pub struct Guest {
    pub stage2: Stage2,
    pub model: Model,
    /// Frames that the guest's pages own.
    pub owned: BTreeSet<(u64, PageSize)>,
    /// Pages that are write-protected.
    pub frozen: BTreeMap<u64, Frozen>,
    /// Translations that its processor holds.
    pub cached: BTreeMap<u64, View>,
    /// What the last sweep has reported.
    pub swept: Swept,
    /// What came of the last operation, if that is less than it asked for.
    pub effective: Option<Op>,
    /// What its tables were found to hold.
    pub tables: BTreeSet<Hfn>,
    shares: BTreeMap<u64, u64>,
    slots: BTreeMap<u32, u64>,
}

pub struct World {
    pub memory: FakeMemory,
    pub guests: Vec<Guest>,
    /// How many shares are out, by frame.
    pub shares: BTreeMap<u64, u64>,
    /// How many references are out, by slot.
    pub slots: BTreeMap<u32, u64>,
    next_block: u64,
}

impl Guest {
    pub fn new(memory: &mut FakeMemory) -> Self {
        let mut stage2 = Stage2::new(memory, Hfn::new(ZERO), ProcessorSet::one(0)).unwrap();
        for (first, count) in PROMISED {
            stage2.promise(memory, Gfn::new(first), count).unwrap();
        }
        stage2.mark_device(memory, Gfn::new(DEVICE.0), DEVICE.1).unwrap();
        memory.take_log();
        let mut guest = Self {
            stage2,
            model: Model::default(),
            owned: BTreeSet::new(),
            frozen: BTreeMap::new(),
            cached: BTreeMap::new(),
            swept: Swept::default(),
            effective: None,
            tables: BTreeSet::new(),
            shares: BTreeMap::new(),
            slots: BTreeMap::new(),
        };
        guest.take_inventory(memory);
        guest
    }

    pub fn views(&self, memory: &FakeMemory) -> Views {
        GFNS.map(|gfn| oracle::view(memory, self.stage2.root(), gfn))
    }

    /// What the tables hold is exactly what was given to them, and all of it is counted.
    fn take_inventory(&mut self, memory: &FakeMemory) {
        let mut held = BTreeSet::new();
        self.tables.clear();
        self.shares.clear();
        self.slots.clear();
        let report = |item| match item {
            Held::Table(table) => assert!(self.tables.insert(table)),
            Held::Share { gfn, frame } => {
                let mapping = self.stage2.lookup(memory, gfn).unwrap();
                assert_eq!(mapping.page, Page::Shared(frame));
                *self.shares.entry(frame.get()).or_insert(0) += 1;
            }
            Held::Slot { gfn, slot } => {
                let mapping = self.stage2.lookup(memory, gfn).unwrap();
                assert_eq!(mapping.page, Page::Swapped(slot));
                *self.slots.entry(slot.get()).or_insert(0) += 1;
            }
            Held::Page { gfn, frame, size } => {
                let mapping = self.stage2.lookup(memory, gfn).unwrap();
                let page = if self.frozen.contains_key(&gfn.get()) {
                    Page::Frozen(frame)
                } else {
                    Page::Unique(frame)
                };
                assert_eq!((mapping.page, mapping.first), (page, gfn));
                assert!(held.insert((frame.get(), size)), "{frame} is held twice");
            }
        };
        let counted = self.stage2.inventory(memory, report).unwrap();
        assert_eq!(held, self.owned);
        assert_eq!(counted, *self.stage2.counters());
    }

    fn check_lookup(&self, memory: &FakeMemory, gfn: u64, view: View) {
        let mapping = self.stage2.lookup(memory, Gfn::new(gfn)).unwrap();
        let expected = match view {
            View::Absent(0) => Page::Hole,
            View::Absent(1) => Page::Untouched,
            View::Absent(2) => Page::Ballooned,
            View::Absent(_) => Page::Device,
            View::Swapped(slot) => Page::Swapped(SwapSlot::new(u32::try_from(slot).unwrap())),
            View::Mapped { frame: ZERO, .. } => Page::Zero,
            View::Mapped { frame, marks, .. } if marks & !AGE == SHARED => Page::Shared(Hfn::new(frame)),
            View::Mapped { frame, marks, .. } if marks & FROZEN != 0 => Page::Frozen(Hfn::new(frame)),
            View::Mapped { frame, .. } => Page::Unique(Hfn::new(frame)),
            View::Broken => panic!("{gfn:#x} is broken"),
        };
        assert_eq!(mapping.page, expected);
        if let View::Mapped {
            size,
            accessed,
            dirty,
            marks,
            ..
        } = view
        {
            assert_eq!((mapping.accessed, mapping.dirty), (accessed, dirty));
            assert_eq!(mapping.level.frames(), size);
            let owed = (marks & !(FROZEN | SHARED | AGE)) >> OWED_SHIFT;
            assert_eq!(u64::from(mapping.calm_owed), owed);
            assert_eq!(u64::from(mapping.age), (marks & AGE) >> AGE_SHIFT);
        }
    }

    /// No translation that the processor holds allows more than the tables do, or keeps it from setting a
    /// bit that is clear now.
    fn check_cached(&self, memory: &FakeMemory, op: &Op) {
        for (gfn, cached) in &self.cached {
            let now = oracle::view(memory, self.stage2.root(), *gfn);
            let (
                View::Mapped {
                    frame: cached_frame,
                    is_writable: could_write,
                    accessed: was_accessed,
                    dirty: was_dirty,
                    ..
                },
                View::Mapped {
                    frame,
                    is_writable,
                    accessed,
                    dirty,
                    ..
                },
            ) = (*cached, now)
            else {
                panic!("{gfn:#x} stale after {op:?}: {cached:x?} {now:x?}")
            };
            let is_current = cached_frame == frame
                && (!could_write || (is_writable && (!was_dirty || dirty)))
                && (!was_accessed || accessed);
            assert!(is_current, "{gfn:#x} stale after {op:?}: {cached:x?} {now:x?}");
        }
    }

    /// What the guest has written is dirty, or its mapping owes epochs, until a sweep has found it calm.
    fn check_unseen(&self, memory: &FakeMemory, op: &Op) {
        for gfn in &self.model.unseen {
            let view = oracle::view(memory, self.stage2.root(), *gfn);
            let is_known = matches!(view, View::Mapped { dirty, marks, .. }
                if marks & !AGE != SHARED && (dirty || marks & !(FROZEN | AGE) != 0));
            assert!(is_known, "{gfn:#x}: a write is forgotten after {op:?}: {view:x?}");
        }
    }
}

impl World {
    /// Three guests with nothing mapped.
    pub fn new() -> Self {
        let mut memory = FakeMemory::default();
        let guests = (0..3).map(|_| Guest::new(&mut memory)).collect();
        Self {
            memory,
            guests,
            shares: BTreeMap::new(),
            slots: BTreeMap::new(),
            next_block: 1,
        }
    }

    /// A frame that was never used before, aligned to 1 GiB.
    pub fn fresh(&mut self) -> u64 {
        self.next_block += 1;
        self.next_block << 18
    }

    /// Gives 512 pages from `first` on frames of their own, as [`World::step`] does, but checked once for all.
    pub fn fill(&mut self, who: usize, first: u64, frame_of: impl Fn(u64) -> u64) {
        for n in 0..512 {
            let op = Op::Unique(first + n, frame_of(n), Way::Walk);
            self.perform(who, &op).unwrap();
            self.guests[who].model.apply(&op).unwrap();
        }
        self.memory.take_log();
        self.check_counters(who);
        self.guests[who].take_inventory(&self.memory);
    }

    /// What the guests other than this one see, and their tables.
    pub fn others(&self, who: usize) -> (Vec<View>, BTreeSet<Hfn>) {
        let others = self.guests.iter().enumerate().filter(|(index, _)| *index != who);
        let (mut views, mut tables) = (Vec::new(), BTreeSet::new());
        for (_, guest) in others {
            views.extend(guest.views(&self.memory));
            tables.extend(&guest.tables);
        }
        (views, tables)
    }

    /// Performs one operation of a guest, with `allocations` table frames left, and checks everything.
    pub fn step(&mut self, who: usize, op: &Op, allocations: Option<usize>) -> Result<(), Error> {
        let before = self.guests[who].views(&self.memory);
        let (counters, tables) = (*self.guests[who].stage2.counters(), self.memory.live_tables());
        self.memory.allocations_left = allocations;
        let result = self.perform(who, op);
        self.memory.allocations_left = None;
        let guest = &mut self.guests[who];
        match result {
            Ok(outcome) => {
                let effective = guest.effective.take();
                let op = effective.as_ref().unwrap_or(op);
                assert!(guest.model.apply(op).is_some(), "allowed: {op:?}");
                self.check_done(who, op, &before, outcome);
                Ok(())
            }
            Err(error) => {
                let may_be = error == Error::HostShort || matches!(op, Op::Fold(..));
                assert!(
                    may_be || guest.model.clone().apply(op).is_none(),
                    "refused: {op:?} {error}"
                );
                assert!(self.memory.take_log().is_empty(), "failed and stored: {op:?}");
                assert_eq!(
                    (counters, tables),
                    (*guest.stage2.counters(), self.memory.live_tables())
                );
                Err(error)
            }
        }
    }

    fn check_done(&mut self, who: usize, op: &Op, before: &Views, outcome: Outcome) {
        let guest = &mut self.guests[who];
        let after = guest.views(&self.memory);
        for (index, gfn) in GFNS.into_iter().enumerate() {
            assert_eq!(after[index], guest.model.view(gfn), "{gfn:#x} after {op:?}");
            guest.check_lookup(&self.memory, gfn, after[index]);
        }
        if outcome.is_flushed {
            guest.cached.clear();
        }
        guest.check_cached(&self.memory, op);
        guest.check_unseen(&self.memory, op);
        if matches!(op, Op::Sweep(..)) {
            assert_eq!(guest.swept, guest.model.swept);
        }
        self.rewind(who, op, before, &after);
        assert!(
            outcome.is_flushed
                || outcome
                    .retired
                    .iter()
                    .all(|retired| matches!(retired, Retired::Slot(_))),
            "{op:?} gave back what may be cached before a flush"
        );
        for retired in outcome.retired {
            self.take_back(who, retired);
        }
        self.check_counters(who);
        self.guests[who].take_inventory(&self.memory);
        self.check_shares();
    }

    fn check_counters(&self, who: usize) {
        let guest = &self.guests[who];
        let counters = guest.stage2.counters();
        assert_eq!(
            crate::Counters {
                tables: counters.tables,
                ..guest.model.counters()
            },
            *counters
        );
        let owned = guest.owned.iter().map(|(_, size)| size.frames());
        assert_eq!(counters.owned_frames(), owned.sum::<u64>());
        let promised: u64 = PROMISED.iter().map(|(_, count)| count).sum();
        let holes = guest
            .model
            .cells
            .values()
            .filter(|cell| cell.state == State::Unplugged);
        assert_eq!(counters.promised(), promised - holes.count() as u64);
    }

    /// All guests together hold all tables, and each share that is out.
    pub fn check_shares(&self) {
        let mut shares = BTreeMap::new();
        for guest in &self.guests {
            for (frame, count) in &guest.shares {
                *shares.entry(*frame).or_insert(0) += count;
            }
        }
        assert_eq!(shares, self.shares);
        let mut slots = BTreeMap::new();
        for (slot, count) in self.guests.iter().flat_map(|guest| &guest.slots) {
            *slots.entry(*slot).or_insert(0) += count;
        }
        assert_eq!(slots, self.slots);
        let tables: usize = self.guests.iter().map(|guest| guest.tables.len()).sum();
        assert_eq!(tables, self.memory.live_tables());
    }

    /// Undoes the stores one by one and looks at every state on the way, then does them again.
    fn rewind(&mut self, who: usize, op: &Op, before: &Views, after: &Views) {
        let (others, foreign) = self.others(who);
        let guest = &self.guests[who];
        let log = self.memory.take_log();
        check_owners(after.iter().chain(&others));
        let mut last = *after;
        let mut linked = oracle::tables(&self.memory, guest.stage2.root());
        for store in log.iter().rev() {
            // So what the other guests see is the same all the time.
            assert!(
                !foreign.contains(&store.table()),
                "{op:?} stored in another guest"
            );
            self.memory.undo(*store);
            if !linked.contains(&store.table()) {
                // Nobody sees it: most stores fill a table that nothing links yet.
                continue;
            }
            if store.is_of_link() {
                linked = oracle::tables(&self.memory, guest.stage2.root());
            }
            let now = guest.views(&self.memory);
            if now == last {
                continue;
            }
            last = now;
            for (index, view) in now.iter().enumerate() {
                let is_known = *view == before[index]
                    || *view == after[index]
                    || (op.is_batch() && oracle::is_part_of(*view, before[index]));
                assert!(is_known, "{op:?}: {:#x} was {view:x?} in between", GFNS[index]);
            }
            check_owners(now.iter().chain(&others));
        }
        if !matches!(op, Op::Use(..)) {
            assert_eq!(guest.views(&self.memory), *before);
        }
        log.iter().for_each(|store| self.memory.redo(*store));
        assert_eq!(guest.views(&self.memory), *after);
    }
}

pub fn settle<const N: usize>(pending: PendingFlush<N>) -> Outcome {
    let mut is_flushed = false;
    let retired = pending.settle(|_| is_flushed = true).into_iter().collect();
    Outcome { is_flushed, retired }
}

/// Rule 1: what is mapped more than once, by whomever, is writable through none; nor is the zero frame.
pub fn check_owners<'a>(views: impl Iterator<Item = &'a View>) {
    let mut seen = BTreeMap::new();
    for view in views {
        if let View::Mapped {
            frame, is_writable, ..
        } = *view
        {
            let (mappings, writable) = seen.entry(frame).or_insert((0, 0));
            *mappings += 1;
            *writable += u32::from(is_writable);
            let is_right = *writable == 0 || (*mappings == 1 && frame != ZERO);
            assert!(is_right, "{frame:#x} is writable and has several owners");
        }
    }
}
