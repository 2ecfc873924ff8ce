//! Directed cases of ranges that leave: pieces, ends within something larger, tables that come back.

use std::vec::Vec;

use super::cases::empty;
use super::discarding::free_tables;
use super::memory::FakeMemory;
use super::op::GIB;
use super::sharing::{gfn, map};
use crate::codec::{Absent, GFN_LIMIT};
use crate::discard_range::RangeDiscarded;
use crate::error::{Bug, Error};
use crate::flush::{ProcessorSet, Retired};
use crate::table::Stage2;
use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize};

/// Ranges that leave in pieces; how many pieces there were, and what came out.
fn discard_all(
    memory: &mut FakeMemory,
    stage2: &mut Stage2,
    range: (u64, u64),
    to: Absent,
) -> (usize, Vec<Retired>) {
    all_pieces(memory, stage2, range, |stage2, memory, at, left| {
        stage2.discard_range(memory, at, left, to)
    })
}

/// The same for ranges in which devices change as well; what came out.
fn blank_all(memory: &mut FakeMemory, stage2: &mut Stage2, range: (u64, u64)) -> Vec<Retired> {
    all_pieces(memory, stage2, range, Stage2::blank_range).1
}

fn all_pieces(
    memory: &mut FakeMemory,
    stage2: &mut Stage2,
    range: (u64, u64),
    act: impl Fn(&mut Stage2, &mut FakeMemory, Gfn, u64) -> Result<RangeDiscarded, Error>,
) -> (usize, Vec<Retired>) {
    let end = gfn(range.0 + range.1);
    let (mut at, mut pieces, mut retired) = (gfn(range.0), 0, Vec::new());
    while at < end {
        let done = act(stage2, memory, at, end.get() - at.get()).unwrap();
        assert!(done.next > at);
        at = done.next;
        pieces += 1;
        retired.extend(done.pending.settle(|_| {}));
        stage2.audit(memory).unwrap();
    }
    (pieces, retired)
}

#[test]
fn what_is_unplugged_returns_its_tables_and_can_be_promised_again() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    let before = (*stage2.counters(), memory.live_tables());
    // A region of virtio-mem, plugged by blocks of 2 MiB; of all sizes, and some not touched.
    for turn in 0..3 {
        for block in 0..1024 {
            stage2
                .promise(&mut memory, gfn(3 * GIB + block * 512), 512)
                .unwrap();
        }
        map(&mut memory, &mut stage2, 3 * GIB);
        stage2.map_zero(&mut memory, gfn(3 * GIB + 1)).unwrap();
        for n in [3, 700] {
            let block = OwnedFrame::claim(Hfn::new((n + 1) << 18), PageSize::Large);
            stage2
                .map_large(&mut memory, gfn(3 * GIB + n * 512), block)
                .unwrap();
        }
        let pages = [3 * GIB + 4 * 512, 4 * GIB + 9].map(gfn);
        let done = stage2.discard(&mut memory, &pages, Absent::Ballooned).unwrap();
        assert!(done.pending.finish().unwrap().is_empty());
        let mut frames = 0;
        let mut unplug = |memory: &mut FakeMemory, first, count| {
            let (_, retired) = discard_all(memory, &mut stage2, (first, count), Absent::Hole);
            frames += free_tables(memory, retired).len();
        };
        match turn {
            0 => unplug(&mut memory, 3 * GIB, 2 * GIB),
            1 => (0..1024).for_each(|n| unplug(&mut memory, 3 * GIB + n * 512, 512)),
            _ => (0..1024)
                .rev()
                .for_each(|n| unplug(&mut memory, 3 * GIB + n * 512, 512)),
        }
        assert_eq!(frames, 3);
        assert_eq!((*stage2.counters(), memory.live_tables()), before, "{turn}");
    }
}

#[test]
fn memory_alone_becomes_a_hole_and_holes_and_devices_stay() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 300).unwrap();
    stage2.mark_device(&mut memory, gfn(400), 10).unwrap();
    for number in [0, 299] {
        map(&mut memory, &mut stage2, number);
    }
    let before = *stage2.counters();
    // All of a table at once: nothing in it changes.
    for (first, count, bad) in [(0, 512, 300), (400, 10, 400), (300, 5, 300)] {
        memory.take_log();
        let refused = stage2.discard_range(&mut memory, gfn(first), count, Absent::Hole);
        assert_eq!(refused.unwrap_err(), Bug::WrongState(gfn(bad)).into());
        assert!(memory.take_log().is_empty());
    }
    assert_eq!(*stage2.counters(), before);
    for (first, count) in [(GFN_LIMIT, 1), (GFN_LIMIT - 1, 2), (1, u64::MAX)] {
        let refused = stage2.discard_range(&mut memory, gfn(first), count, Absent::Hole);
        assert_eq!(refused.unwrap_err(), Bug::OutOfRange(gfn(first)).into());
    }
    // Piece by piece: it ends before the first page that is none.
    let (_, retired) = discard_all(&mut memory, &mut stage2, (0, 2048), Absent::Untouched);
    assert_eq!(free_tables(&mut memory, retired).len(), 2);
    assert_eq!((stage2.counters().untouched, stage2.counters().device), (300, 10));
    let piece = stage2
        .discard_range(&mut memory, gfn(200), 150, Absent::Hole)
        .unwrap();
    assert_eq!((piece.next, piece.released), (gfn(300), 100));
    assert!(piece.pending.finish().unwrap().is_empty());
    stage2.audit(&memory).unwrap();
}

#[test]
fn what_was_kept_over_a_device_goes_back_to_it_or_reads_as_zeros() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.mark_device(&mut memory, gfn(0), 3 * GIB).unwrap();
    let before = (*stage2.counters(), memory.live_tables());
    let write = |memory: &mut FakeMemory, stage2: &mut Stage2, number| {
        stage2
            .reclassify(memory, gfn(number), Absent::Device, Absent::Untouched)
            .unwrap();
        map(memory, stage2, number);
    };
    for number in [0, 5, 511, 600, GIB] {
        write(&mut memory, &mut stage2, number);
    }
    // A page among others; what is a device already has nothing to lose.
    let (_, retired) = discard_all(&mut memory, &mut stage2, (4, 3), Absent::Device);
    assert_eq!(free_tables(&mut memory, retired).len(), 1);
    assert_eq!(stage2.counters().device, 3 * GIB - 4);
    // Zeros over a part of a table with a page, over whole tables without any, and over 1 GiB.
    let retired = blank_all(&mut memory, &mut stage2, (500, 20));
    assert_eq!(free_tables(&mut memory, retired).len(), 1);
    assert_eq!((stage2.counters().untouched, stage2.counters().unique), (20, 3));
    assert_eq!(blank_all(&mut memory, &mut stage2, (2 * GIB, GIB)), []);
    assert_eq!(stage2.counters().untouched, GIB + 20);
    assert!(blank_all(&mut memory, &mut stage2, (0, 2)).len() == 1);
    // All of it is the device's again, and no table is left but those of before.
    let (pieces, retired) = discard_all(&mut memory, &mut stage2, (0, 3 * GIB), Absent::Device);
    assert_eq!(free_tables(&mut memory, retired).len(), 2);
    assert_eq!((*stage2.counters(), memory.live_tables()), before);
    assert!(pieces < 8, "{pieces}");
    // A hole is neither: it stays, and becomes no device.
    for (first, count) in [(3 * GIB, 5), (3 * GIB + 7, 512)] {
        let refused = Err(Bug::WrongState(gfn(first)).into());
        assert_eq!(blank_all(&mut memory, &mut stage2, (first, count)), []);
        assert_eq!(*stage2.counters(), before.0);
        let discarded = stage2.discard_range(&mut memory, gfn(first), count, Absent::Device);
        assert_eq!(discarded.map(drop), refused);
    }
}

#[test]
fn a_range_that_cuts_something_large_waits_for_a_table() {
    for to in [Absent::Untouched, Absent::Hole] {
        let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
        stage2.promise(&mut memory, gfn(0), 2 * GIB).unwrap();
        for n in 0..2 {
            let block = OwnedFrame::claim(Hfn::new((5 + n) * GIB), PageSize::Huge);
            stage2.map_huge(&mut memory, gfn(n * GIB), block).unwrap();
        }
        memory.allocations_left = Some(1);
        // The upper half of the first GiB, the second one, as much as two tables are too much for.
        let range = (GIB / 2, GIB / 2 + 512 + 1);
        let mut at = gfn(range.0);
        let mut frames = Vec::new();
        let end = gfn(range.0 + range.1);
        loop {
            match stage2.discard_range(&mut memory, at, end.get() - at.get(), to) {
                Ok(piece) => {
                    at = piece.next;
                    frames.extend(piece.pending.settle(|_| {}));
                }
                Err(error) => {
                    assert_eq!(error, Error::HostShort);
                    break;
                }
            }
            stage2.audit(&memory).unwrap();
        }
        assert_eq!((at, frames.len()), (gfn(GIB), 256));
        memory.allocations_left = None;
        let (_, rest) = discard_all(&mut memory, &mut stage2, (at.get(), 513), to);
        let expected = [(6 * GIB, PageSize::Large), (6 * GIB + 512, PageSize::Small)];
        let expected = expected.map(|(frame, size)| Retired::Frame(OwnedFrame::claim(Hfn::new(frame), size)));
        assert_eq!(rest, expected);
        assert_eq!(stage2.counters().large, 256 + 510);
    }
}

#[test]
fn a_huge_mapping_goes_as_one_and_a_piece_is_bounded() {
    let (mut memory, mut stage2) = empty(ProcessorSet::one(0));
    stage2.promise(&mut memory, gfn(0), 2 * GIB).unwrap();
    let block = OwnedFrame::claim(Hfn::new(5 * GIB), PageSize::Huge);
    stage2.map_huge(&mut memory, gfn(0), block).unwrap();
    for n in 0..8 * 512 {
        map(&mut memory, &mut stage2, GIB + n);
    }
    let (pieces, retired) = discard_all(&mut memory, &mut stage2, (0, 2 * GIB), Absent::Untouched);
    // 512 for the large one, 512 for each of eight tables: 1024 or a little more in a piece.
    assert_eq!(pieces, 5);
    assert_eq!(
        retired[0],
        Retired::Frame(OwnedFrame::claim(Hfn::new(5 * GIB), PageSize::Huge))
    );
    assert_eq!(free_tables(&mut memory, retired).len(), 1 + 8 * 512);
    assert_eq!(
        (stage2.counters().untouched, stage2.counters().tables),
        (2 * GIB, [0, 0, 1, 1])
    );
}
