//! One operation at a time, compared with the model, its history rewound store by store.
//!
//! Rewinding is Hedron's idea: after an operation its stores are undone one by one, and in each state
//! that a processor could have met on the way, every page reads as it did before or as it does after.

use std::collections::BTreeSet;
use std::vec::Vec;

use super::memory::FakeMemory;
use super::model::{DEVICE, GFNS, Model, Op, PROMISED, ZERO};
use super::oracle::{self, View};
use crate::audit::Held;
use crate::codec::GFN_LIMIT;
use crate::error::{Error, Refused};
use crate::flush::{PendingFlush, ProcessorSet, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Stage2};
use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize};

type Views = [View; GFNS.len()];

/// What an operation brought out, once flushed.
#[derive(Default)]
pub struct Outcome {
    is_flushed: bool,
    retired: Vec<Retired>,
}

pub struct World {
    pub memory: FakeMemory,
    pub stage2: Stage2,
    pub model: Model,
    next_block: u64,
    /// Frames that the guest's pages own.
    pub owned: BTreeSet<(u64, PageSize)>,
}

impl World {
    pub fn new() -> Self {
        let mut memory = FakeMemory::default();
        let mut stage2 = Stage2::new(&mut memory, Hfn::new(ZERO), ProcessorSet::one(0)).unwrap();
        for (first, count) in PROMISED {
            stage2.promise(&mut memory, Gfn::new(first), count).unwrap();
        }
        stage2
            .mark_device(&mut memory, Gfn::new(DEVICE.0), DEVICE.1)
            .unwrap();
        memory.take_log();
        Self {
            memory,
            stage2,
            model: Model::default(),
            next_block: 1,
            owned: BTreeSet::new(),
        }
    }

    /// A frame that was never used before, aligned to 1 GiB.
    pub fn fresh(&mut self) -> u64 {
        self.next_block += 1;
        self.next_block << 18
    }

    fn views(&self) -> Views {
        GFNS.map(|gfn| oracle::view(&self.memory, self.stage2.root(), gfn))
    }

    /// Performs one operation, with `allocations` table frames left, and checks everything.
    pub fn step(&mut self, op: &Op, allocations: Option<usize>) -> Result<(), Error> {
        let before = self.views();
        let (counters, tables) = (*self.stage2.counters(), self.memory.live_tables());
        self.memory.allocations_left = allocations;
        let result = self.perform(op);
        self.memory.allocations_left = None;
        match result {
            Ok(outcome) => {
                if self.model.apply(op).is_none() {
                    panic!("allowed: {op:?}");
                }
                self.check_done(op, &before, outcome);
                Ok(())
            }
            Err(error) => {
                let may_be = error == Error::HostShort || matches!(op, Op::Fold(..));
                assert!(
                    may_be || self.model.clone().apply(op).is_none(),
                    "refused: {op:?} {error}"
                );
                assert!(self.memory.take_log().is_empty(), "failed and stored: {op:?}");
                assert_eq!(
                    (counters, tables),
                    (*self.stage2.counters(), self.memory.live_tables())
                );
                Err(error)
            }
        }
    }

    fn check_done(&mut self, op: &Op, before: &Views, outcome: Outcome) {
        let after = self.views();
        for (index, gfn) in GFNS.into_iter().enumerate() {
            assert_eq!(after[index], self.model.view(gfn), "{gfn:#x} after {op:?}");
            self.check_lookup(gfn, after[index]);
            let is_stale = matches!(before[index], View::Mapped { .. }) && before[index] != after[index];
            let by_guest = matches!(op, Op::Use(..));
            assert!(
                !is_stale || outcome.is_flushed || by_guest,
                "{gfn:#x} stale after {op:?}"
            );
        }
        self.rewind(op, before, &after);
        assert!(
            outcome.is_flushed || outcome.retired.is_empty(),
            "{op:?} gave back before a flush"
        );
        outcome
            .retired
            .into_iter()
            .for_each(|retired| self.take_back(retired));
        let counters = self.stage2.counters();
        assert_eq!(
            crate::Counters {
                tables: counters.tables,
                ..self.model.counters()
            },
            *counters
        );
        assert_eq!(counters.table_frames(), self.memory.live_tables() as u64);
        assert_eq!(
            counters.owned_frames(),
            self.owned.iter().map(|(_, size)| size.frames()).sum::<u64>()
        );
        self.stage2.audit(&self.memory).unwrap();
        self.check_inventory();
    }

    /// What the tables hold is exactly what was given to them.
    fn check_inventory(&self) {
        let (mut held, mut tables) = (BTreeSet::new(), 0);
        let report = |item| match item {
            Held::Table(_) => tables += 1,
            Held::Share { gfn, frame } => panic!("{gfn} shares {frame}"),
            Held::Page { gfn, frame, size } => {
                let mapping = self.stage2.lookup(&self.memory, gfn).unwrap();
                assert_eq!((mapping.page, mapping.first), (Page::Unique(frame), gfn));
                assert!(held.insert((frame.get(), size)), "{frame} is held twice");
            }
        };
        self.stage2.inventory(&self.memory, report).unwrap();
        assert_eq!(tables, self.memory.live_tables());
        assert_eq!(held, self.owned);
    }

    fn check_lookup(&self, gfn: u64, view: View) {
        let mapping = self.stage2.lookup(&self.memory, Gfn::new(gfn)).unwrap();
        let expected = match view {
            View::Absent(0) => Page::Hole,
            View::Absent(1) => Page::Untouched,
            View::Absent(2) => Page::Ballooned,
            View::Absent(_) => Page::Device,
            View::Mapped {
                is_writable: false, ..
            } => Page::Zero,
            View::Mapped { frame, .. } => Page::Unique(Hfn::new(frame)),
            View::Broken => panic!("{gfn:#x} is broken"),
        };
        assert_eq!(mapping.page, expected);
        if let View::Mapped {
            size,
            accessed,
            dirty,
            ..
        } = view
        {
            assert_eq!((mapping.accessed, mapping.dirty), (accessed, dirty));
            assert_eq!(mapping.level.frames(), size);
        }
    }

    /// Undoes the stores one by one and looks at every state on the way, then does them again.
    fn rewind(&mut self, op: &Op, before: &Views, after: &Views) {
        let log = self.memory.take_log();
        for store in log.iter().rev() {
            self.memory.undo(*store);
            let now = self.views();
            for (index, view) in now.iter().enumerate() {
                let is_known = *view == before[index] || *view == after[index];
                assert!(is_known, "{op:?}: {:#x} was {view:x?} in between", GFNS[index]);
            }
            check_owners(&now);
        }
        if !matches!(op, Op::Use(..)) {
            assert_eq!(self.views(), *before);
        }
        log.iter().for_each(|store| self.memory.redo(*store));
        assert_eq!(self.views(), *after);
    }

    fn take_back(&mut self, retired: Retired) {
        match retired {
            Retired::Table(table) => self.memory.release(table),
            Retired::Share(share) => panic!("{share:?}"),
            Retired::Frame(frame) => {
                let key = (frame.first().get(), frame.size());
                assert!(self.owned.remove(&key), "{key:x?} given back twice");
            }
        }
    }

    fn perform(&mut self, op: &Op) -> Result<Outcome, Error> {
        let memory = &mut self.memory;
        match *op {
            Op::Zero(gfn) => self
                .stage2
                .map_zero(memory, Gfn::new(gfn))
                .map(|()| Outcome::default()),
            Op::Unique(gfn, frame) => {
                let frame = OwnedFrame::claim(Hfn::new(frame), PageSize::Small);
                let key = (frame.first().get(), frame.size());
                let result = self.stage2.map_unique(memory, Gfn::new(gfn), frame).map(settle);
                self.own(key, result)
            }
            Op::Block(gfn, frame, size) => {
                let frame = OwnedFrame::claim(Hfn::new(frame), size);
                let key = (frame.first().get(), size);
                let result = match size {
                    PageSize::Huge => self.stage2.map_huge(memory, Gfn::new(gfn), frame),
                    _ => self.stage2.map_large(memory, Gfn::new(gfn), frame),
                };
                self.own(key, result.map(|()| Outcome::default()))
            }
            Op::Split(gfn) => self.split(gfn),
            Op::Collapse(gfn) => {
                let outcome = settle(self.stage2.collapse(memory, Gfn::new(gfn))?);
                let mapping = self
                    .stage2
                    .lookup(&self.memory, Gfn::new(gfn - gfn % 512))
                    .unwrap();
                let Page::Unique(first) = mapping.page else {
                    panic!("{mapping:?}")
                };
                (0..512).for_each(|n| assert!(self.owned.remove(&(first.get() + n, PageSize::Small))));
                self.owned.insert((first.get(), PageSize::Large));
                Ok(outcome)
            }
            Op::Fold(gfn, size) => self.stage2.fold(memory, Gfn::new(gfn), size).map(settle),
            Op::Unmap(gfn, size, to) => self.stage2.unmap(memory, Gfn::new(gfn), size, to).map(settle),
            Op::Reclassify(gfn, from, to) => self
                .stage2
                .reclassify(memory, Gfn::new(gfn), from, to)
                .map(|()| Outcome::default()),
            Op::Use(gfn, is_write) => Ok(self.touch(gfn, is_write)),
            Op::Harvest(budget) => Ok(self.harvest(budget)),
        }
    }

    fn own(&mut self, key: (u64, PageSize), result: Result<Outcome, Refused>) -> Result<Outcome, Error> {
        match result {
            Ok(outcome) => {
                self.owned.insert(key);
                Ok(outcome)
            }
            Err(refused) => {
                assert_eq!((refused.frame.first().get(), refused.frame.size()), key);
                Err(refused.error)
            }
        }
    }

    fn split(&mut self, gfn: u64) -> Result<Outcome, Error> {
        let whole = self.stage2.lookup(&self.memory, Gfn::new(gfn)).unwrap();
        let outcome = settle(self.stage2.split(&mut self.memory, Gfn::new(gfn))?);
        let Page::Unique(frame) = whole.page else {
            panic!("{whole:?}")
        };
        let (size, part) = match whole.level.page_size() {
            Some(PageSize::Huge) => (PageSize::Huge, PageSize::Large),
            _ => (PageSize::Large, PageSize::Small),
        };
        let first = frame.get() - gfn % size.frames();
        assert!(self.owned.remove(&(first, size)));
        self.owned
            .extend((0..512).map(|n| (first + n * part.frames(), part)));
        Ok(outcome)
    }

    /// The processor's part: it sets bits where the mapping allows the access.
    fn touch(&mut self, gfn: u64, is_write: bool) -> Outcome {
        let place = oracle::place(&self.memory, self.stage2.root(), gfn);
        let (table, index, _, _) = place.expect("broken tables");
        self.memory
            .set_bits(table, index, if is_write { 0x300 } else { 0x100 });
        Outcome::default()
    }

    fn harvest(&mut self, budget: usize) -> Outcome {
        let expected = self.model.used();
        let mut found = Vec::new();
        let mut outcome = Outcome::default();
        let mut next = Some(Gfn::new(0));
        while let Some(first) = next {
            let end = Gfn::new(GFN_LIMIT);
            let report = |used| found.push(used);
            let harvest = self
                .stage2
                .harvest(&mut self.memory, first, end, budget, report)
                .unwrap();
            next = harvest.next;
            outcome.is_flushed |= settle(harvest.pending).is_flushed;
        }
        assert_eq!(found, expected);
        outcome
    }

    /// Takes everything down, rewinding each step, and checks that all came back exactly once.
    pub fn end(mut self) {
        let root = self.stage2.root();
        let placeholder = Stage2::new(&mut self.memory, Hfn::new(ZERO), ProcessorSet::EMPTY).unwrap();
        let mut teardown = core::mem::replace(&mut self.stage2, placeholder).teardown();
        let spare = self.stage2.root();
        loop {
            self.memory.take_log();
            let views = |memory: &FakeMemory| GFNS.map(|gfn| oracle::view(memory, root, gfn));
            let before = views(&self.memory);
            let Some(pending) = teardown.step(&mut self.memory).unwrap() else {
                break;
            };
            let log = self.memory.take_log();
            for store in log.iter().rev() {
                let is_known = |(view, old)| view == old || view == View::Absent(0);
                let now = views(&self.memory);
                assert!(now.into_iter().zip(before).all(is_known), "{now:x?}");
                self.memory.undo(*store);
            }
            assert_eq!(views(&self.memory), before);
            log.iter().for_each(|store| self.memory.redo(*store));
            let outcome = settle(pending);
            outcome
                .retired
                .into_iter()
                .for_each(|retired| self.take_back(retired));
        }
        assert_eq!(*teardown.stage2().counters(), crate::Counters::default());
        assert!(self.owned.is_empty(), "lost: {:x?}", self.owned);
        self.memory.release(spare);
        assert_eq!(self.memory.live_tables(), 0);
    }
}

fn settle<const N: usize>(pending: PendingFlush<N>) -> Outcome {
    let mut is_flushed = false;
    let retired = pending.settle(|_| is_flushed = true).into_iter().collect();
    Outcome { is_flushed, retired }
}

/// Rule 1: the zero frame is writable through none, and no frame is mapped writable twice.
fn check_owners(views: &Views) {
    let mut seen = BTreeSet::new();
    for view in views {
        if let View::Mapped {
            frame,
            is_writable: true,
            ..
        } = *view
        {
            assert!(
                frame != ZERO && seen.insert(frame),
                "{frame:#x} is writable twice"
            );
        }
    }
}

#[test]
fn an_exchange_stores_only_over_what_is_expected() {
    let mut memory = FakeMemory::default();
    let table = memory.allocate_table().unwrap();
    memory.store(table, 1, 8);
    assert_eq!(memory.compare_exchange(table, 1, 0, 16), Err(8));
    assert_eq!(memory.load(table, 1), 8);
    assert_eq!(memory.compare_exchange(table, 1, 8, 16), Ok(()));
    assert_eq!(memory.load(table, 1), 16);
}
