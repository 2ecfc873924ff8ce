//! Directed cases of sharing: what is refused, what is flushed, what comes out.

use std::vec::Vec;

use super::cases::{empty, small};
use super::memory::FakeMemory;
use super::op::{Offer, Op, Way, ZERO};
use super::world::World;
use crate::codec::{Absent, GFN_LIMIT};
use crate::error::{Bug, Error};
use crate::fault::FaultAction;
use crate::find::Spot;
use crate::flush::{ProcessorSet, Retired};
use crate::memory::TableMemory;
use crate::share::{Frozen, Parted};
use crate::table::{Page, Stage2};
use pleat_types::{Access, Gfn, Hfn, OwnedFrame, PageSize, Share};

pub const SHARED: u64 = 0x8000;

pub const fn gfn(number: u64) -> Gfn {
    Gfn::new(number)
}

/// 1024 pages: 0 is unique, 1 shared, 2 zero, 3 untouched, 4 frozen; 512 to 1023 are one large mapping.
pub fn mixed() -> (FakeMemory, Stage2, Frozen) {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 1024).unwrap();
    for number in [0, 1, 4] {
        map(&mut memory, &mut stage2, number);
    }
    stage2.map_zero(&mut memory, gfn(2)).unwrap();
    let block = OwnedFrame::claim(Hfn::new(0x200), PageSize::Large);
    stage2.map_large(&mut memory, gfn(512), block).unwrap();
    let frozen = freeze(&mut memory, &mut stage2, 1);
    let pending = stage2
        .merge_into(&mut memory, frozen, Share::claim(Hfn::new(SHARED)))
        .unwrap();
    assert_eq!(pending.settle(|_| {}).as_slice(), [Retired::Frame(small(0x101))]);
    let frozen = freeze(&mut memory, &mut stage2, 4);
    memory.take_log();
    (memory, stage2, frozen)
}

/// Frame 0x100 + n for page n.
pub fn map<M: TableMemory>(memory: &mut M, stage2: &mut Stage2, number: u64) {
    let pending = stage2
        .map_unique(memory, gfn(number), small(0x100 + number))
        .unwrap();
    assert!(pending.settle(|_| {}).is_empty());
}

pub fn freeze<M: TableMemory>(memory: &mut M, stage2: &mut Stage2, number: u64) -> Frozen {
    let (frozen, pending) = stage2.freeze(memory, gfn(number)).unwrap();
    assert!(!pending.waiting().is_empty() && pending.settle(|_| {}).is_empty());
    frozen
}

#[test]
fn faults_on_shared_and_frozen_pages() {
    let (memory, stage2, _frozen) = mixed();
    for (number, write) in [(1, FaultAction::BreakShare), (4, FaultAction::Thaw)] {
        let mapping = stage2.lookup(&memory, gfn(number)).unwrap();
        assert_eq!(mapping.action(Access::Write), write);
        assert_eq!(mapping.action(Access::Read), FaultAction::Spurious);
        assert_eq!(mapping.action(Access::Fetch), FaultAction::Spurious);
    }
    let frame = |number| stage2.lookup(&memory, gfn(number)).unwrap().frame(&stage2);
    assert_eq!(frame(1), Some(Hfn::new(SHARED)));
    assert_eq!(frame(2), Some(Hfn::new(ZERO)));
    assert_eq!(frame(4), Some(Hfn::new(0x104)));
}

#[test]
fn only_the_right_state_is_left_by_each_way() {
    let (mut memory, mut stage2, frozen) = mixed();
    let before = *stage2.counters();
    let wrong_size: Error = Bug::WrongSize(gfn(600)).into();
    assert_eq!(stage2.freeze(&mut memory, gfn(600)).unwrap_err(), wrong_size);
    for number in [1, 2, 3, 4] {
        let wrong: Error = Bug::WrongState(gfn(number)).into();
        assert_eq!(stage2.freeze(&mut memory, gfn(number)).unwrap_err(), wrong);
    }
    for number in [0, 2, 3, 4, 600] {
        assert_eq!(stage2.part(&mut memory, gfn(number), nobody_asks), None);
    }
    for number in [1, 2, 3, 4] {
        let wrong = Bug::WrongState(gfn(number));
        assert_eq!(stage2.mark_written(&mut memory, gfn(number)), Err(wrong));
        assert_eq!(stage2.owe_calm(&mut memory, gfn(number)), Err(wrong));
    }
    // A copy of the size of a page, elsewhere than the original and than the zero frame.
    for frame in [
        small(SHARED),
        small(ZERO),
        OwnedFrame::claim(Hfn::new(0x400), PageSize::Large),
    ] {
        let parting = stage2.part(&mut memory, gfn(1), |_, _| Some(Parted::Copy(frame)));
        assert_eq!(parting, None);
    }
    assert_eq!(stage2.part(&mut memory, gfn(1), |_, _| None), None);
    // Cut off at the top these would be page 1.
    for beyond in [GFN_LIMIT + 1, (1 << 63) + 1] {
        assert_eq!(stage2.part(&mut memory, gfn(beyond), nobody_asks), None);
    }
    let kept = stage2.unmap(&mut memory, gfn(4), PageSize::Small, Absent::Untouched);
    assert_eq!(kept.unwrap_err(), Bug::WrongState(gfn(4)).into());
    let own = stage2.merge_into(&mut memory, frozen, Share::claim(Hfn::new(0x104)));
    assert_eq!(own.unwrap_err(), Bug::WrongState(gfn(4)));
    assert!(memory.take_log().is_empty());
    assert_eq!(*stage2.counters(), before);
}

fn nobody_asks(_: &mut FakeMemory, shared: Hfn) -> Option<Parted> {
    panic!("{shared} is not shared");
}

#[test]
fn a_frozen_page_of_other_tables_is_refused() {
    let (_, _, foreign) = mixed();
    let (mut memory, mut stage2, frozen) = mixed();
    stage2.thaw(&mut memory, frozen).unwrap();
    memory.take_log();
    assert_eq!(
        stage2.merge_into_zero(&mut memory, foreign).unwrap_err(),
        Bug::WrongState(gfn(4))
    );
    assert!(memory.take_log().is_empty());
    let (mut memory, mut stage2, frozen) = mixed();
    let zero = stage2.merge_into(&mut memory, frozen, Share::claim(Hfn::new(ZERO)));
    assert_eq!(zero.unwrap_err(), Bug::WrongState(gfn(4)));
    assert!(memory.take_log().is_empty());
}

/// What is done at a spot that is not true any more is refused, and the frame comes back.
#[test]
fn a_spot_that_has_changed_is_refused() {
    let refused = |memory: &mut FakeMemory, stage2: &mut Stage2, spot: Spot| {
        memory.take_log();
        let refused = stage2.map_unique_at(memory, spot, small(0x900)).unwrap_err();
        assert_eq!(refused.error, Bug::WrongState(spot.gfn()).into());
        assert_eq!(refused.frame, small(0x900));
        assert!(memory.take_log().is_empty());
    };
    let (mut memory, mut stage2, _frozen) = mixed();
    let spot = stage2.find(&memory, gfn(2)).unwrap();
    assert_eq!(*spot.mapping(), stage2.lookup(&memory, gfn(2)).unwrap());
    // Of other tables, though they say the same.
    let (mut other_memory, _, _frozen) = mixed();
    let (mut memory_of_two, mut second) = empty(ProcessorSet::one(0));
    let root = Stage2::new(&mut memory_of_two, Hfn::new(ZERO), ProcessorSet::EMPTY);
    drop(core::mem::replace(&mut second, root.unwrap()));
    refused(&mut other_memory, &mut second, spot);
    // Written meanwhile.
    let pending = stage2.map_unique(&mut memory, gfn(2), small(0x102)).unwrap();
    assert!(pending.settle(|_| {}).is_empty());
    refused(&mut memory, &mut stage2, spot);
    // Its table is gone.
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 512).unwrap();
    map(&mut memory, &mut stage2, 0);
    let untouched = stage2.find(&memory, gfn(1)).unwrap();
    let pending = stage2.unmap(&mut memory, gfn(0), PageSize::Small, Absent::Untouched);
    assert_eq!(pending.unwrap().settle(|_| {}).len(), 1);
    let pending = stage2.fold(&mut memory, gfn(0), PageSize::Large).unwrap();
    // Not even given back: what was found before is not looked at.
    refused(&mut memory, &mut stage2, untouched);
    assert_eq!(pending.settle(|_| {}).len(), 1);
}

#[test]
fn a_spot_outlives_the_bits_of_the_processor() {
    let (mut memory, mut stage2, _frozen) = mixed();
    let spot = stage2.find(&memory, gfn(2)).unwrap();
    let (table, index, _, _) = super::oracle::place(&memory, stage2.root(), 2).unwrap();
    memory.set_bits(table, index, 0x100);
    let pending = stage2.map_unique_at(&mut memory, spot, small(0x900)).unwrap();
    assert_eq!(pending.waiting(), ProcessorSet::one(0));
    assert!(pending.settle(|_| {}).is_empty());
    let mapping = stage2.lookup(&memory, gfn(2)).unwrap();
    assert_eq!(mapping.page, Page::Unique(Hfn::new(0x900)));
    assert!(!mapping.accessed && !mapping.dirty && mapping.calm_owed == 0);
}

/// The copy is flushed before the share comes out and is not used yet; in place nothing is flushed and what the
/// processor has noted stays.
#[test]
fn a_page_parts_with_a_copy_or_in_place() {
    for (offer, frame, flushes) in [(Parted::Copy(small(0x900)), 0x900, 1), (Parted::Same, SHARED, 0)] {
        let (mut memory, mut stage2, _frozen) = mixed();
        let (table, index, _, _) = super::oracle::place(&memory, stage2.root(), 1).unwrap();
        memory.set_bits(table, index, 0x100);
        let parting = stage2.part(&mut memory, gfn(1), |_, _| Some(offer)).unwrap();
        let mut flushed = Vec::new();
        let share = parting.settle(|eptp| flushed.push(eptp));
        assert_eq!(share, Share::claim(Hfn::new(SHARED)));
        assert_eq!(flushed, [stage2.eptp()][..flushes]);
        let mapping = stage2.lookup(&memory, gfn(1)).unwrap();
        assert_eq!(mapping.page, Page::Unique(Hfn::new(frame)));
        assert_eq!((mapping.accessed, mapping.dirty), (flushes == 0, false));
        assert_eq!(mapping.calm_owed, 0);
        stage2.audit(&memory).unwrap();
    }
}

#[test]
fn a_spot_above_the_tables_gets_them_and_a_large_frame_or_no_memory_is_refused() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 1 << 18).unwrap();
    let spot = stage2.find(&memory, gfn(700)).unwrap();
    let large = OwnedFrame::claim(Hfn::new(0x400), PageSize::Large);
    let refused = stage2.map_unique_at(&mut memory, spot, large).unwrap_err();
    assert_eq!(refused.error, Bug::WrongSize(gfn(700)).into());
    memory.allocations_left = Some(1);
    let refused = stage2.map_unique_at(&mut memory, spot, small(9)).unwrap_err();
    assert_eq!((refused.error, refused.frame), (Error::HostShort, small(9)));
    memory.allocations_left = None;
    let pending = stage2.map_unique_at(&mut memory, spot, small(9)).unwrap();
    assert!(pending.finish().unwrap().is_empty());
    stage2.audit(&memory).unwrap();
    let beyond = stage2.find(&memory, gfn(GFN_LIMIT)).unwrap();
    assert_eq!(beyond.mapping().page, Page::Hole);
    let refused = stage2.map_unique_at(&mut memory, beyond, small(9)).unwrap_err();
    assert_eq!(refused.error, Bug::OutOfRange(gfn(GFN_LIMIT)).into());
}

#[test]
fn the_last_owner_keeps_the_frame_and_the_share_comes_out_once() {
    let mut world = World::new();
    for who in 0..3 {
        let frame = world.fresh();
        world.step(who, &Op::Unique(7, frame, Way::Walk), None).unwrap();
        world.step(who, &Op::Freeze(7), None).unwrap();
    }
    world.step(0, &Op::Share(7), None).unwrap();
    let (&shared, _) = world.shares.first_key_value().unwrap();
    for who in 1..3 {
        world.step(who, &Op::MergeInto(7, shared), None).unwrap();
    }
    assert_eq!(world.shares[&shared], 3);
    let copy = world.fresh();
    world.step(0, &Op::Part(7, Offer::Copy(copy)), None).unwrap();
    world.replace(1);
    assert_eq!(world.shares[&shared], 1);
    world.step(2, &Op::Part(7, Offer::Same), None).unwrap();
    assert!(world.shares.is_empty());
    assert!(world.guests[2].owned.contains(&(shared, PageSize::Small)));
    world.step(2, &Op::Use(7, true), None).unwrap();
    world.end();
}

#[test]
fn shared_and_frozen_pages_do_not_collapse() {
    for last in [Op::Freeze(9), Op::Share(9)] {
        let mut world = World::new();
        let first = world.fresh();
        world.fill(0, 0, |n| first + n);
        world.step(0, &Op::Freeze(9), None).unwrap();
        let _ = world.step(0, &last, None);
        let refused = world.step(0, &Op::Collapse(0), None);
        assert_eq!(refused, Err(Bug::WrongState(gfn(0)).into()));
        world.end();
    }
}
