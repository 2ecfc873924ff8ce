//! Frames that come back in rows.

use std::vec::Vec;

use super::{FRAMES, machine, owner, records};
use crate::ledger::{Bug, FrameState, Ledger, MAX_ORDER, Purpose, Row};
use pleat_types::{Hfn, OwnedFrame, PageSize};

fn small(frame: u64) -> OwnedFrame {
    OwnedFrame::claim(Hfn::new(frame), PageSize::Small)
}

/// The frames `first..first + count`, named from the middle to both ends.
fn row(first: u64, count: u64) -> Row {
    let mut row = Row::EMPTY;
    let middle = first + count / 2;
    let frames = (middle..first + count).chain((first..middle).rev());
    frames.for_each(|frame| row.push(small(frame)).unwrap());
    assert_eq!(row.frames(), count);
    row
}

/// A ledger whose usable frames are all owned, and how it was before.
fn full<'m>(ledger: &mut Ledger<'m>) -> Vec<u64> {
    let mut frames = Vec::new();
    while let Ok(frame) = ledger.allocate(owner(1, 7), Purpose::Demand) {
        frames.push(frame.first().get());
    }
    frames.sort_unstable();
    frames
}

#[test]
fn a_row_is_what_lies_side_by_side() {
    let mut row = Row::EMPTY;
    row.push(small(7)).unwrap();
    for apart in [5, 7, 9, u64::MAX] {
        assert_eq!(row.push(small(apart)), Err(small(apart)), "{apart}");
    }
    let large = || OwnedFrame::claim(Hfn::new(512), PageSize::Large);
    assert_eq!(row.push(large()), Err(large()));
    row.push(small(8)).unwrap();
    row.push(small(6)).unwrap();
    assert_eq!(row.frames(), 3);
    let mut last = Row::EMPTY;
    last.push(small(u64::MAX)).unwrap();
    assert_eq!(last.push(small(0)), Err(small(0)), "it does not go round");
}

/// In rows of whatever length and place, all becomes what it was.
#[test]
fn rows_come_back_as_their_frames_do() {
    for length in [1, 2, 3, 7, 64, 100, 511, 600] {
        let (mut one, mut each) = (records(), records());
        let (mut ledger, mut other) = (machine(&mut one), machine(&mut each));
        let before: Vec<_> = (0..=MAX_ORDER).map(|order| ledger.free_blocks(order)).collect();
        let frames = full(&mut ledger);
        assert_eq!(full(&mut other), frames);
        let rows: Vec<_> = frames.chunk_by(|one, next| one + 1 == *next).collect();
        for part in rows.iter().flat_map(|row| row.chunks(length)) {
            ledger.release_row(row(part[0], part.len() as u64)).unwrap();
            part.iter()
                .for_each(|frame| other.release(small(*frame)).unwrap());
            assert_eq!(ledger.counts(), other.counts());
            for order in 0..=MAX_ORDER {
                assert_eq!(ledger.free_blocks(order), other.free_blocks(order), "{order}");
            }
        }
        ledger.audit().unwrap();
        let after: Vec<_> = (0..=MAX_ORDER).map(|order| ledger.free_blocks(order)).collect();
        assert_eq!(after, before);
    }
}

/// What is wrong in a row is named, and the rest of it comes back.
#[test]
fn a_row_with_something_else_in_it_comes_back_without_that() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    ledger.release_row(Row::EMPTY).unwrap();
    let block = ledger.allocate_large(owner(2, 512), Purpose::Demand).unwrap();
    let first = block.first().get();
    let frames = full(&mut ledger);
    let before = *ledger.counts();
    // Some of a large block, whose mapping was split, and the frame before it.
    assert!(frames.contains(&(first - 1)));
    ledger.release_row(row(first - 1, 10)).unwrap();
    assert_eq!(ledger.counts().free, before.free + 10);
    // One of them is free already.
    let twice = ledger.release_row(row(first + 8, 3));
    assert_eq!(twice, Err(Bug::NotThat(Hfn::new(first + 8))));
    assert_eq!(ledger.state(Hfn::new(first + 10)), FrameState::Free);
    assert_eq!(ledger.counts().free, before.free + 12);
    for (first, count) in [(FRAMES - 1, 2), (FRAMES, 1), (u64::MAX - 3, 2)] {
        assert!(ledger.release_row(row(first, count)).is_err(), "{first}");
    }
    ledger.audit().unwrap();
}
