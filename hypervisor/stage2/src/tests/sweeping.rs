//! Directed cases of sweeping: races, epochs, ends, and what it costs.

use core::cell::Cell;
use std::vec::Vec;

use arrayvec::ArrayVec;

use super::cases::{Racing, empty, small};
use super::memory::FakeMemory;
use super::sharing::{SHARED, freeze, gfn, map, mixed};
use crate::codec::GFN_LIMIT;
use crate::flush::{BATCH, ProcessorSet};
use crate::memory::TableMemory;
use crate::share::Parted;
use crate::sweep::{Calm, Sweep};
use crate::table::{Page, Stage2};
use pleat_types::{Hfn, OwnedFrame, PageSize};

fn sweep<M: TableMemory>(memory: &mut M, stage2: &Stage2, owed: u8) -> (Sweep, Vec<Calm>) {
    let mut calm = ArrayVec::new();
    let sweep = stage2
        .sweep(memory, gfn(0), gfn(GFN_LIMIT), &mut calm, |_| owed)
        .unwrap();
    (sweep, calm.into_iter().collect())
}

#[test]
fn a_write_in_the_middle_of_anything_is_not_forgotten() {
    let (memory, mut stage2) = empty(ProcessorSet::one(0));
    let mut memory = Racing(memory);
    stage2.promise(&mut memory, gfn(0), 8).unwrap();
    map(&mut memory, &mut stage2, 0);
    // Not dirty when the sweep looks, dirty when it counts down; and the other way round.
    for (owed, rewritten) in [(0, 0), (7, 1), (7, 1)] {
        stage2.owe_calm(&mut memory, gfn(0)).unwrap();
        let before = stage2.lookup(&memory, gfn(0)).unwrap();
        assert!(before.dirty);
        let (sweep, calm) = sweep(&mut memory, &stage2, owed);
        assert!(calm.is_empty());
        assert_eq!((sweep.written, sweep.owing), (1, 1));
        assert!(sweep.rewritten >= rewritten);
        assert!(sweep.pending.settle(|_| {}).is_empty());
        let after = stage2.lookup(&memory, gfn(0)).unwrap();
        assert_eq!((after.dirty, after.calm_owed), (false, owed.max(1)));
    }
    // Clean and owing one when it looks: the write comes just before it counts down.
    let (written, calm) = sweep(&mut memory, &stage2, 1);
    assert!(written.pending.settle(|_| {}).is_empty() && calm.is_empty());
    let (written, calm) = sweep(&mut memory, &stage2, 1);
    assert_eq!((written.written, calm.len()), (1, 0));
    assert!(written.pending.settle(|_| {}).is_empty());
    let frozen = freeze(&mut memory, &mut stage2, 0);
    assert!(stage2.lookup(&memory, gfn(0)).unwrap().dirty);
    stage2.thaw(&mut memory, frozen).unwrap();
    let thawed = stage2.lookup(&memory, gfn(0)).unwrap();
    assert_eq!((thawed.page, thawed.dirty), (Page::Unique(Hfn::new(0x100)), true));
}

#[test]
fn a_page_is_calm_after_the_epochs_that_it_owes() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 8).unwrap();
    map(&mut memory, &mut stage2, 5);
    stage2.mark_written(&mut memory, gfn(5)).unwrap();
    for (owed, looks) in [(0, 1), (1, 1), (4, 4), (255, 15)] {
        stage2.mark_written(&mut memory, gfn(5)).unwrap();
        let (written, calm) = sweep(&mut memory, &stage2, owed);
        assert_eq!((written.written, written.rewritten, written.owing), (1, 0, 1));
        assert!(calm.is_empty() && written.pending.settle(|_| {}).is_empty());
        for look in 1..=looks {
            let (sweep, calm) = sweep(&mut memory, &stage2, owed);
            // Nothing was cached that is not so any more.
            assert!(sweep.pending.finish().unwrap().is_empty());
            assert_eq!((sweep.written, sweep.looked_at), (0, 1));
            assert_eq!(sweep.owing, u64::from(look < looks));
            let size = PageSize::Small;
            let gfn = gfn(5);
            let expected = [Calm { gfn, size }];
            assert_eq!(calm, expected[..usize::from(look == looks)]);
        }
    }
    memory.take_log();
    let (sweep, calm) = sweep(&mut memory, &stage2, 1);
    assert!(sweep.pending.finish().unwrap().is_empty() && calm.is_empty());
    assert!(memory.take_log().is_empty(), "nothing to do and stored");
}

#[test]
fn a_sweep_stops_where_there_is_no_room_and_goes_on_there() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 1024).unwrap();
    for number in 0..200 {
        map(&mut memory, &mut stage2, number * 3);
        stage2.owe_calm(&mut memory, gfn(number * 3)).unwrap();
    }
    let (mut from, mut steps, mut found) = (Some(gfn(0)), 0, Vec::new());
    while let Some(first) = from {
        let mut calm = ArrayVec::<Calm, BATCH>::new();
        let sweep = stage2
            .sweep(&mut memory, first, gfn(1024), &mut calm, |_| 1)
            .unwrap();
        assert!(sweep.pending.finish().unwrap().is_empty());
        from = sweep.next;
        found.extend(calm.into_iter().map(|calm| calm.gfn.get()));
        steps += 1;
    }
    let expected: Vec<u64> = (0..200).map(|number| number * 3).collect();
    assert_eq!((found, steps), (expected, 4));
}

/// Counts what is read.
struct Counting {
    memory: FakeMemory,
    loads: Cell<usize>,
}

impl TableMemory for Counting {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.loads.set(self.loads.get() + 1);
        self.memory.load(table, index)
    }
    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.memory.store(table, index, value);
    }
    fn allocate_table(&mut self) -> Option<Hfn> {
        self.memory.allocate_table()
    }
    fn free_table(&mut self, table: Hfn) {
        self.memory.free_table(table);
    }
}

#[test]
fn the_cost_of_a_sweep_and_of_a_break_is_bounded() {
    let (memory, stage2, _frozen) = mixed();
    let mut stage2 = stage2;
    let mut memory = Counting {
        memory,
        loads: Cell::new(0),
    };
    let mut loads = |act: &mut dyn FnMut(&mut Counting)| {
        memory.loads.set(0);
        act(&mut memory);
        memory.loads.get()
    };
    // One walk for each table, one load for each entry of the lowest: 4 + 512; then 3 and the 511 behind in the
    // next one up (the table itself ends the first stretch), 2 + 511, 1 + 511.
    let cost = loads(&mut |memory| {
        let (sweep, _) = sweep(memory, &stage2, 1);
        assert!(sweep.pending.settle(|_| {}).is_empty());
        assert_eq!((sweep.next, sweep.looked_at), (None, 2));
    });
    assert_eq!(cost, (4 + 512) + (3 + 511) + (2 + 511) + (1 + 511));
    // One walk, and nothing is looked at twice.
    let cost = loads(&mut |memory| {
        let copy = |_: &mut Counting, _| Some(Parted::Copy(small(0x900)));
        let share = stage2.part(memory, gfn(1), copy).unwrap().settle(|_| {});
        assert_eq!(share.frame(), Hfn::new(SHARED));
    });
    assert_eq!(cost, 4);
}

#[test]
fn a_walk_over_touched_regions_skips_what_is_absent() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 4 << 18).unwrap();
    let block = OwnedFrame::claim(Hfn::new(1 << 18), PageSize::Huge);
    stage2.map_huge(&mut memory, gfn(1 << 18), block).unwrap();
    map(&mut memory, &mut stage2, 3 << 18);
    stage2.mark_written(&mut memory, gfn((1 << 18) + 77)).unwrap();
    let (mut at, mut found) = (gfn(0), Vec::new());
    while at < gfn((3 << 18) + 1024) {
        let touched = stage2.take_accessed(&mut memory, at).unwrap();
        found.push((at.get(), touched.is_touched));
        at = touched.next;
    }
    let gib = 1 << 18;
    let second = 3 * gib + 512;
    assert_eq!(
        found,
        [
            (0, false),
            (gib, true),
            (2 * gib, false),
            (3 * gib, false),
            (second, false)
        ]
    );
}
