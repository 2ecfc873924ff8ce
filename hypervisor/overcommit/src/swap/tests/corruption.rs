//! Bits that flip in frames of the pool or of the table: errors may come of it, but no panic.

use std::vec::Vec;

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use proptest::sample::Index;

use super::memory::Memory;
use super::{
    Numbers,
    slots::{disk, slot},
};
use crate::swap::{Bug, Error, Location, Place, Pool, Slots, Step};
use pleat_types::{FRAME_SIZE, FrameMemory, Hfn};

const FRAMES: u64 = 24;

/// Some objects with holes between them, in the first frames.
fn busy(memory: &mut Memory) -> (Pool, Vec<Place>) {
    let (mut pool, mut numbers) = (Pool::new(), Numbers(5));
    let mut places = Vec::new();
    let mut frames = (0..FRAMES / 2).map(Hfn::new);
    let mut donor = frames.next();
    loop {
        let length = 20 + numbers.below(1500);
        match pool.store(memory, 1, &numbers.bytes(length), &mut donor) {
            Ok(place) => places.push(place),
            Err(error) => {
                assert_eq!(error, Error::Full);
                break;
            }
        }
        donor = donor.or_else(|| frames.next());
    }
    for place in places.iter().step_by(3) {
        assert_eq!(pool.free(memory, *place), Ok(None));
    }
    let mut n = 0;
    places.retain(|_| {
        n += 1;
        n % 3 != 1
    });
    pool.audit(memory).unwrap();
    (pool, places)
}

/// Everything that the store does.
fn use_pool(pool: &mut Pool, memory: &mut Memory, places: &[Place]) -> Result<(), Bug> {
    let mut out = [0; FRAME_SIZE];
    let mut result = Ok(());
    for place in places {
        result = result.and(pool.load(memory, *place, &mut out).map(|_| ()));
    }
    for n in 0..6 {
        let mut donor = Some(Hfn::new(FRAMES - 1 - n));
        match pool.store(memory, 9, &[9; 700], &mut donor) {
            Err(Error::Bug(bug)) => result = result.and(Err(bug)),
            other => assert!(other.is_ok()),
        }
    }
    let mut moved = Vec::new();
    for _ in 0..8 {
        let step = pool.compact(memory, |_, _, from, to| {
            moved.push((from, to));
            Ok(())
        });
        if step != Ok(Step::Nothing) {
            result = result.and(step.map(|_| ()));
        }
    }
    for place in places {
        let mut moves = moved.iter().filter(|(from, _)| from == place);
        let place = moves.next_back().map_or(*place, |(_, to)| *to);
        // One that moved twice is not there: that is no finding.
        let _ = pool.free(memory, place);
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_flipped_bit_in_the_pool_is_found_or_in_an_object(
        which in any::<Index>(),
        is_header in any::<bool>(),
        bit in 0..FRAME_SIZE * 8,
    ) {
        let mut memory = Memory::new(usize::try_from(FRAMES).unwrap());
        let (mut pool, places) = busy(&mut memory);
        let frame = which.get(&places).frame();
        let bit = if is_header { bit % (24 * 8) } else { bit };
        memory.flip(frame, bit);
        let is_found = pool.audit(&memory).is_err();
        prop_assert!(is_found || !is_header, "bit {}", bit);
        let used = use_pool(&mut pool, &mut memory, &places);
        prop_assert!(is_found || used.is_ok(), "{:?}", used);
    }

    #[test]
    fn whatever_is_in_a_frame_of_the_pool_nothing_panics(
        seed in any::<u64>(),
        keep in 0..3_usize,
        which in any::<Index>(),
    ) {
        let mut memory = Memory::new(usize::try_from(FRAMES).unwrap());
        let (mut pool, places) = busy(&mut memory);
        let frame = which.get(&places).frame();
        let mut content: [u8; FRAME_SIZE] = Numbers(seed).bytes(FRAME_SIZE).try_into().unwrap();
        // A header that is one, and a directory that is none; or all of it is none.
        let mut old = [0; FRAME_SIZE];
        memory.read_frame(frame, &mut old);
        content[..keep * 12].copy_from_slice(&old[..keep * 12]);
        memory.overwrite(frame, &content);
        prop_assert!(pool.audit(&memory).is_err());
        let _ = use_pool(&mut pool, &mut memory, &places);
    }

    #[test]
    fn whatever_is_in_a_frame_of_slots_nothing_panics(
        seed in any::<u64>(),
        bit in 0..FRAME_SIZE * 8,
        is_flip in any::<bool>(),
    ) {
        let mut memory = Memory::new(4);
        let mut slots = Slots::new();
        (0..2).for_each(|frame| slots.add_frame(&mut memory, Hfn::new(frame)).unwrap());
        for n in 0..128 {
            slots.allocate(&mut memory, slot(disk(n, n), 1 + n % 3)).unwrap();
        }
        for n in (0..128).step_by(3) {
            let _ = slots.release_reference(&mut memory, n).unwrap();
        }
        if is_flip {
            memory.flip(Hfn::new(1), bit);
        } else {
            memory.overwrite(Hfn::new(1), &Numbers(seed).bytes(FRAME_SIZE).try_into().unwrap());
        }
        let _ = slots.audit(&memory);
        for n in 0..130 {
            let _ = slots.get(&memory, n);
            let _ = slots.add_reference(&mut memory, n);
            let _ = slots.set_location(&mut memory, n, Location::Filled(1));
            let _ = slots.release_reference(&mut memory, n);
            let _ = slots.allocate(&mut memory, slot(disk(n, n), 1));
        }
    }
}
