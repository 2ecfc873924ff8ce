//! Directed cases of pages that leave in batches and ranges: what needs tables, what gives them back, what is flushed.

use std::vec;
use std::vec::Vec;

use super::cases::{empty, small};
use super::memory::FakeMemory;
use super::op::{GIB, Op, Way};
use super::sharing::{SHARED, gfn, map, mixed};
use super::world::World;
use crate::codec::{Absent, GFN_LIMIT};
use crate::discard::{DISCARD_PAGES, DISCARD_ROOM};
use crate::error::Bug;
use crate::flush::{ProcessorSet, Retired};
use crate::parts::Part;
use crate::table::{Page, Stage2};
use pleat_types::{Hfn, OwnedFrame, PageSize, Share};

const TO: [Absent; 2] = [Absent::Ballooned, Absent::Untouched];

fn page(memory: &FakeMemory, stage2: &Stage2, number: u64) -> Page {
    stage2.lookup(memory, gfn(number)).unwrap().page
}

/// Gives tables back to the memory; the rest is returned.
pub fn free_tables(memory: &mut FakeMemory, retired: Vec<Retired>) -> Vec<Retired> {
    let mut rest = Vec::new();
    for retired in retired {
        match retired {
            Retired::Table(table) => memory.release(table),
            Retired::Parts(parts) => {
                let give = |_: &mut FakeMemory, part| {
                    rest.push(match part {
                        Part::Frame(frame) => Retired::Frame(frame),
                        Part::Share(share) => Retired::Share(share),
                        Part::Slot(reference) => Retired::Slot(reference),
                    });
                };
                let table = parts.drain(memory, give).unwrap();
                memory.release(table);
            }
            other => rest.push(other),
        }
    }
    rest
}

#[test]
fn each_state_leaves_in_its_own_way() {
    for to in TO {
        let (mut memory, mut stage2, _frozen) = mixed();
        // Unique, shared, zero, untouched, frozen, in a large mapping, a hole, a number that no page has; one twice.
        let pages = [0, 1, 2, 3, 4, 600, 5000, GFN_LIMIT + 1, u64::MAX, 1].map(gfn);
        let done = stage2.discard(&mut memory, &pages, to).unwrap();
        let changed = if to == Absent::Ballooned { 5 } else { 4 };
        assert_eq!((done.released, done.kept, done.refused), (changed, 1, 3));
        let mut flushes = 0;
        let retired = done.pending.settle(|_| flushes += 1);
        let share = Retired::Share(Share::claim(Hfn::new(SHARED)));
        let expected = [
            Retired::Frame(small(0x100)),
            share,
            Retired::Frame(small(0x200 + 88)),
        ];
        assert_eq!((flushes, retired.as_slice()), (1, &expected[..]));
        let state = if to == Absent::Ballooned {
            Page::Ballooned
        } else {
            Page::Untouched
        };
        for number in [0, 1, 2, 3, 600] {
            assert_eq!(page(&memory, &stage2, number), state);
        }
        assert_eq!(page(&memory, &stage2, 4), Page::Frozen(Hfn::new(0x104)));
        assert_eq!(page(&memory, &stage2, 601), Page::Unique(Hfn::new(0x200 + 89)));
        stage2.audit(&memory).unwrap();
    }
}

/// SDM 29.4.2: nothing is cached for what is absent.
#[test]
fn pages_without_a_mapping_need_no_flush() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 1024).unwrap();
    let pages = [5, 6, 700].map(gfn);
    let done = stage2.discard(&mut memory, &pages, Absent::Ballooned).unwrap();
    assert_eq!(done.released, 3);
    assert!(done.pending.finish().unwrap().is_empty());
    let done = stage2.deflate(&mut memory, &[gfn(5), gfn(5), gfn(7)]).unwrap();
    assert_eq!((done.released, done.refused), (1, 2));
    assert!(done.pending.finish().unwrap().is_empty());
    let done = stage2
        .discard_range(&mut memory, gfn(0), 8, Absent::Ballooned)
        .unwrap();
    assert_eq!((done.released, done.next), (7, gfn(8)));
    assert!(done.pending.finish().unwrap().is_empty());
    // One zero page is enough.
    stage2.map_zero(&mut memory, gfn(100)).unwrap();
    let done = stage2
        .discard(&mut memory, &[gfn(100)], Absent::Untouched)
        .unwrap();
    assert_eq!(done.pending.waiting(), ProcessorSet::one(0));
    assert!(done.pending.settle(|_| {}).is_empty());
    stage2.audit(&memory).unwrap();
}

#[test]
fn too_many_pages_are_a_mistake_and_none_is_not() {
    let (mut memory, mut stage2, _frozen) = mixed();
    let before = *stage2.counters();
    let pages = vec![gfn(0); DISCARD_PAGES + 1];
    let refused = stage2.discard(&mut memory, &pages, Absent::Ballooned);
    assert_eq!(refused.unwrap_err(), Bug::TooManyPages);
    let done = stage2.discard(&mut memory, &[], Absent::Ballooned).unwrap();
    assert!(done.pending.finish().unwrap().is_empty());
    assert!(memory.take_log().is_empty());
    assert_eq!(*stage2.counters(), before);
}

/// As many mappings of 1 GiB as a batch has pages: each costs two tables, and there are so many and no more.
#[test]
fn a_page_is_kept_where_there_is_no_table() {
    for tables in 0..5 {
        let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
        stage2.promise(&mut memory, gfn(0), 4 * GIB).unwrap();
        for n in 0..2 {
            let block = OwnedFrame::claim(Hfn::new((5 + n) * GIB), PageSize::Huge);
            stage2.map_huge(&mut memory, gfn(n * GIB), block).unwrap();
        }
        // Of the first block twice, the second time in another 2 MiB; of the second; of an untouched one.
        let pages = [7, 8, 1024, GIB + 7, 3 * GIB + 7].map(gfn);
        memory.allocations_left = Some(tables);
        let live = memory.live_tables();
        let done = stage2.discard(&mut memory, &pages, Absent::Ballooned).unwrap();
        let (released, used) = [(0, 0), (0, 0), (2, 2), (3, 3), (3, 3)][tables];
        assert_eq!((done.released, done.kept), (released, 5 - released), "{tables}");
        let retired = done.pending.settle(|_| {});
        assert_eq!(retired.len() as u64, released);
        assert_eq!(memory.live_tables(), live + used);
        stage2.audit(&memory).unwrap();
        memory.allocations_left = None;
        let done = stage2.discard(&mut memory, &pages, Absent::Ballooned).unwrap();
        assert_eq!((done.released, done.kept), (5 - released, 0));
        let _ = done.pending.settle(|_| {});
        stage2.audit(&memory).unwrap();
    }
}

/// All that a batch can bring out at once: a frame for each page, and tables as long as there is room.
#[test]
fn a_batch_that_empties_more_tables_than_it_has_room_for_leaves_them() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    let blocks = DISCARD_PAGES as u64;
    stage2.promise(&mut memory, gfn(0), blocks * 512).unwrap();
    // One page in each 2 MiB; the 511 others are in the balloon already.
    for n in 0..blocks {
        map(&mut memory, &mut stage2, n * 512 + n);
        let others: Vec<_> = (0..512).filter(|m| *m != n).map(|m| gfn(n * 512 + m)).collect();
        for part in others.chunks(DISCARD_PAGES) {
            let done = stage2.discard(&mut memory, part, Absent::Ballooned).unwrap();
            assert!(done.pending.finish().unwrap().is_empty());
        }
    }
    let pages: Vec<_> = (0..blocks).map(|n| gfn(n * 512 + n)).collect();
    let done = stage2.discard(&mut memory, &pages, Absent::Ballooned).unwrap();
    assert_eq!((done.released, done.kept), (blocks, 0));
    let retired: Vec<_> = done.pending.settle(|_| {}).into_iter().collect();
    assert_eq!(retired.len(), DISCARD_ROOM);
    let frames = free_tables(&mut memory, retired);
    assert_eq!(frames.len(), DISCARD_PAGES);
    let left = blocks - (DISCARD_ROOM - DISCARD_PAGES) as u64;
    assert_eq!(stage2.counters().tables[0], left);
    stage2.audit(&memory).unwrap();
    // Those are folded with whatever is done there next; deflating a page of a folded one takes a table again.
    for n in [0, blocks - 1] {
        let before = stage2.counters().tables[0];
        let done = stage2.deflate(&mut memory, &[gfn(n * 512 + 9)]).unwrap();
        assert_eq!(
            (done.released, stage2.counters().ballooned),
            (1, blocks * 512 - 1)
        );
        assert!(done.pending.finish().unwrap().is_empty());
        let done = stage2
            .discard(&mut memory, &[gfn(n * 512 + 9)], Absent::Ballooned)
            .unwrap();
        let retired: Vec<_> = done.pending.settle(|_| {}).into_iter().collect();
        assert!(free_tables(&mut memory, retired).is_empty());
        assert!(stage2.counters().tables[0] <= before);
        stage2.audit(&memory).unwrap();
    }
}

/// A batch is the same as its pages one by one, in whatever order.
#[test]
fn a_batch_is_the_same_as_its_pages_one_by_one() {
    let pages = [
        0,
        511,
        512,
        1,
        1023,
        0,
        1536,
        GIB,
        GIB - 1,
        GIB + 512,
        513,
        2047,
        GIB,
    ];
    let prepare = || {
        let mut world = World::new();
        for (gfn, size) in [(512, PageSize::Large), (GIB, PageSize::Huge)] {
            let block = world.fresh();
            world.step(0, &Op::Block(gfn, block, size), None).unwrap();
        }
        for who in [0, 1] {
            for page in [0, 1] {
                let frame = world.fresh();
                world
                    .step(who, &Op::Unique(page, frame, Way::Walk), None)
                    .unwrap();
            }
            world.step(who, &Op::Freeze(1), None).unwrap();
        }
        world.step(0, &Op::Share(1), None).unwrap();
        let shared = *world.shares.first_key_value().unwrap().0;
        world.step(1, &Op::MergeInto(1, shared), None).unwrap();
        world.step(0, &Op::Zero(1536), None).unwrap();
        world
    };
    for to in TO {
        let (mut one, mut other) = (prepare(), prepare());
        one.step(0, &Op::Discard(pages.to_vec(), to), None).unwrap();
        for page in pages.iter().rev() {
            other.step(0, &Op::Discard(vec![*page], to), None).unwrap();
        }
        assert_eq!(one.guests[0].stage2.counters(), other.guests[0].stage2.counters());
        assert_eq!(
            one.guests[0].views(&one.memory),
            other.guests[0].views(&other.memory)
        );
        one.step(0, &Op::Deflate(pages.to_vec()), None).unwrap();
        assert_eq!(one.guests[0].stage2.counters().ballooned, 0);
        one.end();
        other.end();
    }
}
