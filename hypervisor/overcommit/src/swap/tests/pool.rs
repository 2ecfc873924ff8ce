//! The pool, case by case.

use std::vec;
use std::vec::Vec;

use super::memory::Memory;
use crate::swap::{Bug, Error, MAX_OBJECT, Place, Pool, PoolCounts, Step};
use pleat_types::{FRAME_SIZE, Hfn};

fn store(pool: &mut Pool, memory: &mut Memory, slot: u32, length: usize, frame: u64) -> Place {
    let bytes = vec![u8::try_from(slot).unwrap(); length];
    let mut donor = Some(Hfn::new(frame));
    let place = pool.store(memory, slot, &bytes, &mut donor).unwrap();
    pool.audit(memory).unwrap();
    place
}

fn assert_there(pool: &Pool, memory: &Memory, slot: u32, length: usize, place: Place) {
    let mut out = [0xff; FRAME_SIZE];
    assert_eq!(pool.load(memory, place, &mut out), Ok(length));
    assert!(out[..length].iter().all(|byte| u32::from(*byte) == slot));
    assert!(
        out[length..].iter().all(|byte| *byte == 0xff),
        "only as many bytes"
    );
    assert_eq!(pool.slot(memory, place), Ok(slot));
}

fn no_move(_: &mut Memory, _: u32, _: Place, _: Place) -> Result<(), Bug> {
    panic!("nothing is to move");
}

#[test]
fn a_donor_is_taken_only_without_room() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(4));
    assert_eq!(pool.store(&mut memory, 1, &[1; 100], &mut None), Err(Error::Full));
    let mut donor = Some(Hfn::new(2));
    let first = pool.store(&mut memory, 1, &[1; 3000], &mut donor).unwrap();
    assert_eq!(donor, None);
    donor = Some(Hfn::new(3));
    let second = pool.store(&mut memory, 2, &[2; 900], &mut donor).unwrap();
    assert_eq!(donor, Some(Hfn::new(3)), "there was room");
    assert_eq!((first.frame(), second.frame()), (Hfn::new(2), Hfn::new(2)));
    let third = pool.store(&mut memory, 3, &[3; 900], &mut donor).unwrap();
    assert_eq!((donor, third.frame()), (None, Hfn::new(3)));
    assert_eq!(
        *pool.counts(),
        PoolCounts {
            frames: 2,
            objects: 3,
            bytes: 4800
        }
    );
    assert_there(&pool, &memory, 1, 3000, first);
    assert_there(&pool, &memory, 2, 900, second);
    assert_eq!(pool.free(&mut memory, third), Ok(Some(Hfn::new(3))));
    assert_eq!(pool.free(&mut memory, first), Ok(None));
    assert_eq!(pool.free(&mut memory, second), Ok(Some(Hfn::new(2))));
    assert_eq!(*pool.counts(), PoolCounts::default());
    pool.audit(&memory).unwrap();
}

#[test]
fn lengths_that_are_none_are_refused() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(4));
    let mut donor = Some(Hfn::new(1));
    for length in [0, MAX_OBJECT + 1, FRAME_SIZE * 20] {
        let refused = pool.store(&mut memory, 1, &vec![0; length], &mut donor);
        assert_eq!(refused, Err(Error::Bug(Bug::BadLength(length))));
    }
    let mut far = Some(Hfn::new(u64::from(u32::MAX)));
    let refused = pool.store(&mut memory, 1, &[1], &mut far);
    assert_eq!(
        refused,
        Err(Error::Bug(Bug::BadFrame(Hfn::new(u64::from(u32::MAX)))))
    );
    assert!(donor.is_some() && far.is_some());
    let place = pool.store(&mut memory, 1, &[1; MAX_OBJECT], &mut donor).unwrap();
    assert_there(&pool, &memory, 1, MAX_OBJECT, place);
    let mut short = [0; 100];
    assert_eq!(
        pool.load(&memory, place, &mut short),
        Err(Bug::BadLength(MAX_OBJECT))
    );
}

#[test]
fn a_place_means_nothing_after_its_object() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(4));
    let first = store(&mut pool, &mut memory, 1, 1000, 1);
    let second = store(&mut pool, &mut memory, 2, 1000, 2);
    assert_eq!(pool.free(&mut memory, first), Ok(None));
    let mut out = [0; FRAME_SIZE];
    assert_eq!(pool.load(&memory, first, &mut out), Err(Bug::NoObject(first)));
    assert_eq!(pool.free(&mut memory, first), Err(Bug::NoObject(first)));
    assert_eq!(pool.free(&mut memory, second), Ok(Some(Hfn::new(1))));
    assert_eq!(
        pool.load(&memory, second, &mut out),
        Err(Bug::BrokenFrame(Hfn::new(1)))
    );
    assert_eq!(pool.slot(&memory, second), Err(Bug::BrokenFrame(Hfn::new(1))));
    assert_eq!(pool.free(&mut memory, second), Err(Bug::BrokenFrame(Hfn::new(1))));
    let never = Place::from_bits(0x0123_0000_0003).unwrap();
    assert_eq!(never.frame(), Hfn::new(3));
    assert_eq!(pool.free(&mut memory, never), Err(Bug::BrokenFrame(Hfn::new(3))));
    pool.audit(&memory).unwrap();
}

#[test]
fn places_are_numbers_of_48_bits() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(4));
    let place = store(&mut pool, &mut memory, 1, 10, 3);
    let other = store(&mut pool, &mut memory, 2, 10, 3);
    assert_eq!((place.to_bits(), other.to_bits()), (3, 1 << 32 | 3));
    assert_eq!(Place::from_bits(other.to_bits()), Some(other));
    assert_eq!(Place::from_bits(1 << 48), None);
}

#[test]
fn holes_are_closed_when_room_is_wanted() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(4));
    let places: Vec<_> = (0..4)
        .map(|slot| store(&mut pool, &mut memory, slot, 1000, 1))
        .collect();
    // Two holes that are not side by side.
    for gone in [0, 2] {
        assert_eq!(pool.free(&mut memory, places[gone]), Ok(None));
    }
    let place = store(&mut pool, &mut memory, 9, 1900, 2);
    assert_eq!(place.frame(), Hfn::new(1));
    assert_there(&pool, &memory, 1, 1000, places[1]);
    assert_there(&pool, &memory, 3, 1000, places[3]);
    assert_there(&pool, &memory, 9, 1900, place);
}

#[test]
fn tiny_objects_fill_a_frame() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(4));
    let mut places = Vec::new();
    let mut donor = Some(Hfn::new(1));
    while let Ok(place) = pool.store(&mut memory, 7, &[7], &mut donor) {
        places.push(place);
    }
    pool.audit(&memory).unwrap();
    // 9 bytes each; the last 64 bytes of room are not looked for.
    assert!(places.len() > 440 && pool.counts().frames == 1);
    let last = places.pop().unwrap();
    for place in places {
        assert_eq!(pool.free(&mut memory, place), Ok(None));
    }
    // Its entry is the last one and cannot move; the directory is as long as it was.
    let again = store(&mut pool, &mut memory, 1, 300, 2);
    assert_eq!(again.frame(), Hfn::new(1));
    assert_eq!(pool.free(&mut memory, last), Ok(None));
    let large = store(&mut pool, &mut memory, 2, 3600, 2);
    assert_eq!(large.frame(), Hfn::new(1), "the directory is short again");
}

#[test]
fn compaction_empties_a_frame_and_tells() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(8));
    // Three frames with 3,000 bytes and room for 1,000, and one with two objects that fit there.
    let mut places: Vec<_> = (0..3)
        .map(|slot| store(&mut pool, &mut memory, slot, 3000, u64::from(slot)))
        .collect();
    let mut gone = Vec::from([5, 6, 7].map(|slot| store(&mut pool, &mut memory, slot, 1000, 7)));
    gone.push(store(&mut pool, &mut memory, 8, 2000, 3));
    places.extend([3, 4].map(|slot| store(&mut pool, &mut memory, slot, 1000, 7)));
    assert!(places[3..].iter().all(|place| place.frame() == Hfn::new(3)));
    for place in gone {
        assert_eq!(pool.free(&mut memory, place), Ok(None));
    }
    let mut moves = Vec::new();
    let step = pool.compact(&mut memory, |_, slot, from, to| {
        moves.push((slot, from, to));
        Ok(())
    });
    assert_eq!(step, Ok(Step::Freed(Hfn::new(3))));
    pool.audit(&memory).unwrap();
    let expected = PoolCounts {
        frames: 3,
        objects: 5,
        bytes: 11_000,
    };
    assert_eq!((*pool.counts(), moves.len()), (expected, 2));
    for (slot, from, to) in moves {
        assert_eq!(places[slot as usize], from);
        places[slot as usize] = to;
    }
    for (slot, place) in (0..).zip(&places) {
        let length = if slot < 3 { 3000 } else { 1000 };
        assert_there(&pool, &memory, slot, length, *place);
    }
    assert_eq!(pool.compact(&mut memory, no_move), Ok(Step::Nothing));
}

#[test]
fn what_fits_nowhere_is_left_where_it_is() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(8));
    for slot in 0..6 {
        store(&mut pool, &mut memory, slot, 2100, u64::from(slot));
    }
    assert_eq!(pool.counts().frames, 6);
    assert_eq!(pool.compact(&mut memory, no_move), Ok(Step::Nothing));
    pool.audit(&memory).unwrap();
}

#[test]
fn a_step_that_empties_no_frame_moves_what_it_can() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(8));
    let full = store(&mut pool, &mut memory, 0, 3000, 0);
    let spread = [1, 2].map(|slot| store(&mut pool, &mut memory, slot, 900, 1 + u64::from(slot / 2)));
    let half = [3, 4].map(|slot| store(&mut pool, &mut memory, slot, 900, 2));
    assert_eq!(spread[0].frame(), full.frame());
    assert!(half.iter().all(|place| place.frame() == spread[1].frame()));
    // One of three fits where one was.
    pool.free(&mut memory, spread[0]).unwrap();
    let step = pool.compact(&mut memory, |_, _, _, _| Ok(()));
    assert_eq!(step, Ok(Step::Moved));
    pool.audit(&memory).unwrap();
    assert_eq!(pool.compact(&mut memory, no_move), Ok(Step::Nothing));
}

#[test]
fn two_frames_with_little_become_one() {
    for length in [1, 30, 500, 2000] {
        let (mut pool, mut memory) = (Pool::new(), Memory::new(9));
        let first = store(&mut pool, &mut memory, 1, length, 1);
        let large = store(&mut pool, &mut memory, 2, MAX_OBJECT - length - 8 - 64, 8);
        let filled = store(&mut pool, &mut memory, 3, MAX_OBJECT, 2);
        let second = store(&mut pool, &mut memory, 4, length, 3);
        pool.free(&mut memory, large).unwrap();
        pool.free(&mut memory, filled).unwrap();
        assert_ne!(first.frame(), second.frame());
        let Ok(Step::Freed(frame)) = pool.compact(&mut memory, |_, _, _, _| Ok(())) else {
            panic!("two times {length} bytes fit one frame");
        };
        assert!([first.frame(), second.frame()].contains(&frame));
        assert_eq!(pool.counts().frames, 1);
        pool.audit(&memory).unwrap();
        assert_eq!(pool.compact(&mut memory, no_move), Ok(Step::Nothing));
    }
}

#[test]
fn an_object_stays_if_nobody_notes_where_it_goes() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(8));
    let first = store(&mut pool, &mut memory, 1, 2000, 1);
    let large = store(&mut pool, &mut memory, 2, 2000, 1);
    let second = store(&mut pool, &mut memory, 3, 1000, 2);
    pool.free(&mut memory, large).unwrap();
    let before = *pool.counts();
    let step = pool.compact(&mut memory, |_, slot, _, _| Err(Bug::NoSlot(slot)));
    assert_eq!(step, Err(Bug::NoSlot(3)));
    assert_eq!(*pool.counts(), before);
    pool.audit(&memory).unwrap();
    assert_there(&pool, &memory, 1, 2000, first);
    assert_there(&pool, &memory, 3, 1000, second);
}

#[test]
fn every_frame_and_object_is_visited() {
    let (mut pool, mut memory) = (Pool::new(), Memory::new(9));
    for slot in 0..9 {
        store(&mut pool, &mut memory, slot, 1500, u64::from(slot));
    }
    let (mut frames, mut slots) = (Vec::new(), Vec::new());
    pool.for_each_frame(&memory, |frame| frames.push(frame)).unwrap();
    pool.for_each_object(&memory, |slot, place, length| {
        assert_eq!((pool.slot(&memory, place), length), (Ok(slot), 1500));
        slots.push(slot);
    })
    .unwrap();
    slots.sort_unstable();
    frames.sort_unstable();
    assert_eq!(slots, (0..9).collect::<Vec<_>>());
    frames.dedup();
    assert_eq!(frames.len() as u64, pool.counts().frames);
}
