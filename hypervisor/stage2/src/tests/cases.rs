//! Directed cases: ends of ranges, failure at every allocation, flushes, faults, and what is refused.

use std::vec::Vec;

use super::memory::FakeMemory;
use super::op::{Op, Way, ZERO};
use super::oracle::{View, view};
use super::world::World;
use crate::codec::{Absent, GFN_LIMIT, Level};
use crate::error::{Bug, Error};
use crate::fault::FaultAction;
use crate::flush::{PendingFlush, ProcessorSet, Retired};
use crate::memory::TableMemory;
use crate::table::{Page, Stage2};
use pleat_types::{Access, Gfn, Hfn, OwnedFrame, PageSize};

pub fn empty(processors: ProcessorSet) -> (FakeMemory, Stage2) {
    let mut memory = FakeMemory::default();
    let stage2 = Stage2::new(&mut memory, Hfn::new(ZERO), processors).unwrap();
    memory.take_log();
    (memory, stage2)
}

pub fn small(frame: u64) -> OwnedFrame {
    OwnedFrame::claim(Hfn::new(frame), PageSize::Small)
}

/// A page that was mapped and is waiting for its flush.
fn pending_unmap(processors: ProcessorSet) -> (FakeMemory, Stage2, PendingFlush) {
    let (mut memory, mut stage2) = empty(processors);
    stage2.promise(&mut memory, Gfn::new(0), 1).unwrap();
    assert!(
        stage2
            .map_unique(&mut memory, Gfn::new(0), small(9))
            .unwrap()
            .finish()
            .unwrap()
            .is_empty()
    );
    let pending = stage2
        .unmap(&mut memory, Gfn::new(0), PageSize::Small, Absent::Untouched)
        .unwrap();
    (memory, stage2, pending)
}

#[test]
fn a_range_is_exact_and_costs_only_the_tables_of_its_ends() {
    let gib = 1 << 18;
    for (first, count, tables) in [
        (0, gib, [0, 0, 1, 1]),
        (0, 512, [0, 1, 1, 1]),
        (511, 2, [2, 1, 1, 1]),
        (gib - 1, 2, [2, 2, 1, 1]),
        (512 * gib - 1, 2, [2, 2, 2, 1]),
        (0, GFN_LIMIT, [0, 0, 0, 1]),
        (5, 0, [0, 0, 0, 1]),
    ] {
        let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
        stage2.promise(&mut memory, Gfn::new(first), count).unwrap();
        let counters = stage2.counters();
        assert_eq!(
            (counters.untouched, counters.tables),
            (count, tables),
            "{first:#x} + {count:#x}"
        );
        stage2.audit(&memory).unwrap();
        for gfn in [first.wrapping_sub(1), first + count]
            .into_iter()
            .filter(|gfn| *gfn < GFN_LIMIT)
        {
            assert_eq!(view(&memory, stage2.root(), gfn), View::Absent(0), "{gfn:#x}");
        }
    }
}

#[test]
fn a_range_that_finds_no_table_changes_nothing_and_one_that_does_is_never_broken() {
    let (first, count) = ((512 << 18) - 513, 1026);
    let gfns = [
        first - 1,
        first,
        first + 1,
        first + 513,
        first + count - 1,
        first + count,
    ];
    for allocations in 0.. {
        let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
        memory.allocations_left = Some(allocations);
        let result = stage2.promise(&mut memory, Gfn::new(first), count);
        let log = memory.take_log();
        if result.is_ok() {
            let root = stage2.root();
            let now = |memory: &FakeMemory| gfns.map(|gfn| view(memory, root, gfn));
            assert_eq!(now(&memory), [0, 1, 1, 1, 1, 0].map(View::Absent));
            for store in log.iter().rev() {
                memory.undo(*store);
                assert!(
                    now(&memory)
                        .iter()
                        .all(|view| matches!(view, View::Absent(0 | 1)))
                );
            }
            assert_eq!(allocations, 6);
            return;
        }
        assert_eq!(result, Err(Error::HostShort));
        assert!(log.is_empty());
        assert_eq!((memory.live_tables(), stage2.counters().table_frames()), (1, 1));
    }
}

#[test]
fn a_mapping_that_finds_no_table_gives_the_frame_back() {
    for allocations in 0..3 {
        let mut world = World::new();
        let op = Op::Unique((1 << 18) + 5, 0x9000, Way::Walk);
        assert_eq!(
            world.step(0, &op, Some(allocations)),
            if allocations < 2 {
                Err(Error::HostShort)
            } else {
                Ok(())
            }
        );
        assert_eq!(world.guests[0].owned.len(), usize::from(allocations == 2));
        world.end();
    }
}

#[test]
fn pages_that_were_mapped_one_by_one_collapse_and_split_again() {
    let mut world = World::new();
    world.fill(0, 512, |n| 0x4_0000 + n);
    // Neither the first nor the last: any of them counts.
    world.step(0, &Op::Use(700, true), None).unwrap();
    world.step(0, &Op::Collapse(700), None).unwrap();
    let whole = world.guests[0]
        .stage2
        .lookup(&world.memory, Gfn::new(513))
        .unwrap();
    assert_eq!(
        (whole.page, whole.level, whole.dirty),
        (Page::Unique(Hfn::new(0x4_0001)), Level::Two, true)
    );
    world.step(0, &Op::Split(600), None).unwrap();
    assert!(
        world.guests[0]
            .stage2
            .lookup(&world.memory, Gfn::new(512))
            .unwrap()
            .dirty
    );
    world.end();
}

#[test]
fn pages_out_of_order_or_out_of_line_do_not_collapse() {
    for frame_of in [|n| 0x4_0000 + (n ^ 1), |n| 0x4_0001 + n] {
        let mut world = World::new();
        world.fill(0, 0, frame_of);
        assert!(world.step(0, &Op::Collapse(0), None).is_err());
        world.end();
    }
}

/// A processor that writes to the page at the worst moment: just before an entry is exchanged.
pub struct Racing(pub FakeMemory);

impl TableMemory for Racing {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.0.load(table, index)
    }
    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.0.store(table, index, value);
    }
    fn allocate_table(&mut self) -> Option<Hfn> {
        self.0.allocate_table()
    }
    fn free_table(&mut self, table: Hfn) {
        self.0.free_table(table);
    }
    fn compare_exchange(&mut self, table: Hfn, index: usize, current: u64, new: u64) -> Result<(), u64> {
        if current & 7 == 7 {
            self.0.set_bits(table, index, 0x300);
        }
        self.0.compare_exchange(table, index, current, new)
    }
}

#[test]
fn a_write_during_a_split_or_the_end_of_a_generation_is_not_forgotten() {
    let (memory, mut stage2) = empty(ProcessorSet::one(0));
    let mut memory = Racing(memory);
    stage2.promise(&mut memory, Gfn::new(0), 1024).unwrap();
    for gfn in [0, 512] {
        let block = OwnedFrame::claim(Hfn::new(0x400 + gfn), PageSize::Large);
        stage2.map_large(&mut memory, Gfn::new(gfn), block).unwrap();
    }
    assert!(
        stage2
            .split(&mut memory, Gfn::new(0))
            .unwrap()
            .settle(|_| {})
            .is_empty()
    );
    assert!(stage2.lookup(&memory, Gfn::new(511)).unwrap().dirty);

    // Read, not written, when the generation ends; written when the bit is cleared.
    stage2.lookup(&memory, Gfn::new(512)).unwrap();
    let (table, index, _, _) = super::oracle::place(&memory.0, stage2.root(), 512).unwrap();
    memory.0.set_bits(table, index, 0x100);
    let mut ages = crate::Ages::default();
    let aged = stage2.age(&mut memory, Gfn::new(512), 1, &mut ages).unwrap();
    assert!(aged.pending.settle(|_| {}).is_empty());
    assert_eq!((aged.next, ages[0]), (Some(Gfn::new(1024)), 512));
    let mapping = stage2.lookup(&memory, Gfn::new(512)).unwrap();
    assert!(mapping.dirty && !mapping.accessed);
}

#[test]
fn what_is_retired_comes_out_only_after_every_processor_has_flushed() {
    let both = ProcessorSet::one(0).union(ProcessorSet::one(5));
    let (_memory, stage2, mut pending) = pending_unmap(both);
    assert_eq!((pending.waiting(), pending.eptp()), (both, stage2.eptp()));
    pending.acknowledge(ProcessorSet::one(5));
    assert!(pending.waiting().contains(0) && !pending.waiting().contains(5));
    let mut pending = pending.finish().unwrap_err();
    pending.acknowledge(ProcessorSet::one(0));
    assert_eq!(pending.finish().unwrap().as_slice(), [Retired::Frame(small(9))]);
}

#[test]
#[should_panic(expected = "a flush was forgotten")]
fn a_forgotten_flush_is_a_bug() {
    drop(pending_unmap(ProcessorSet::one(0)));
}

#[test]
fn a_write_to_the_zero_frame_flushes_and_a_first_touch_does_not() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, Gfn::new(0), 2).unwrap();
    stage2.map_zero(&mut memory, Gfn::new(0)).unwrap();
    let mut flushes = Vec::new();
    for gfn in [0, 1] {
        let pending = stage2
            .map_unique(&mut memory, Gfn::new(gfn), small(9 + gfn))
            .unwrap();
        assert!(pending.settle(|eptp| flushes.push((gfn, eptp))).is_empty());
    }
    assert_eq!(flushes, [(0, stage2.eptp())]);
}

#[test]
fn faults_ask_for_what_the_state_needs() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, Gfn::new(0), 1 << 19).unwrap();
    stage2.mark_device(&mut memory, Gfn::new(1 << 20), 1).unwrap();
    stage2.map_zero(&mut memory, Gfn::new(0)).unwrap();
    assert!(
        stage2
            .map_unique(&mut memory, Gfn::new(1), small(9))
            .unwrap()
            .settle(|_| {})
            .is_empty()
    );
    stage2
        .reclassify(&mut memory, Gfn::new(2), Absent::Untouched, Absent::Ballooned)
        .unwrap();
    let unique = |largest| FaultAction::MapUnique { largest };
    for (gfn, read, write) in [
        (0, FaultAction::Spurious, unique(PageSize::Small)),
        (1, FaultAction::Spurious, FaultAction::Spurious),
        (2, FaultAction::Deflate, FaultAction::Deflate),
        (3, FaultAction::MapZero, unique(PageSize::Small)),
        (513, FaultAction::MapZero, unique(PageSize::Large)),
        (1 << 18, FaultAction::MapZero, unique(PageSize::Huge)),
        (1 << 19, FaultAction::Hole, FaultAction::Hole),
        (1 << 20, FaultAction::Device, FaultAction::Device),
        (GFN_LIMIT, FaultAction::Hole, FaultAction::Hole),
        (u64::MAX, FaultAction::Hole, FaultAction::Hole),
    ] {
        let mapping = stage2.lookup(&memory, Gfn::new(gfn)).unwrap();
        assert_eq!(mapping.action(Access::Read), read, "{gfn:#x}");
        assert_eq!(mapping.action(Access::Fetch), read, "{gfn:#x}");
        assert_eq!(mapping.action(Access::Write), write, "{gfn:#x}");
    }
}

#[test]
fn mistakes_of_the_caller_are_bugs_and_change_nothing() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, Gfn::new(0), 1024).unwrap();
    stage2.map_zero(&mut memory, Gfn::new(0)).unwrap();
    let before = *stage2.counters();
    memory.take_log();
    let gfn = Gfn::new;
    let refused = |result: Result<PendingFlush, crate::Refused>| result.unwrap_err().error;
    let large = || OwnedFrame::claim(Hfn::new(0x200), PageSize::Large);
    let errors = [
        stage2.promise(&mut memory, gfn(1000), 100).unwrap_err(),
        stage2.mark_device(&mut memory, gfn(5), 1).unwrap_err(),
        stage2.promise(&mut memory, gfn(GFN_LIMIT - 1), 2).unwrap_err(),
        stage2.promise(&mut memory, gfn(u64::MAX), 2).unwrap_err(),
        stage2.map_zero(&mut memory, gfn(0)).unwrap_err(),
        stage2.map_zero(&mut memory, gfn(2048)).unwrap_err(),
        stage2.map_zero(&mut memory, gfn(GFN_LIMIT)).unwrap_err(),
        refused(stage2.map_unique(&mut memory, gfn(1), large())),
        refused(stage2.map_unique(&mut memory, gfn(1), small(ZERO))),
        stage2
            .map_large(&mut memory, gfn(513), large())
            .unwrap_err()
            .error,
        stage2.map_large(&mut memory, gfn(0), large()).unwrap_err().error,
        stage2.map_huge(&mut memory, gfn(0), large()).unwrap_err().error,
        stage2
            .unmap(&mut memory, gfn(0), PageSize::Large, Absent::Untouched)
            .unwrap_err(),
        stage2
            .unmap(&mut memory, gfn(1), PageSize::Small, Absent::Untouched)
            .unwrap_err(),
        stage2.split(&mut memory, gfn(0)).unwrap_err(),
        stage2.collapse(&mut memory, gfn(0)).unwrap_err(),
        stage2.fold(&mut memory, gfn(0), PageSize::Large).unwrap_err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        assert!(matches!(error, Error::Bug(_)), "{number}: {error}");
    }
    assert!(memory.take_log().is_empty());
    assert_eq!(*stage2.counters(), before);
}

#[test]
fn the_audit_finds_entries_that_changed_behind_its_back() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, Gfn::new(0), 8).unwrap();
    stage2.map_zero(&mut memory, Gfn::new(0)).unwrap();
    stage2.audit(&memory).unwrap();
    let (table, index, raw, _) = super::oracle::place(&memory, stage2.root(), 0).unwrap();
    memory.store(table, index, raw | 2);
    assert!(matches!(stage2.audit(&memory), Err(Bug::Malformed { .. })));
    memory.store(table, index, 8);
    assert_eq!(stage2.audit(&memory), Err(Bug::Miscounted));
}
