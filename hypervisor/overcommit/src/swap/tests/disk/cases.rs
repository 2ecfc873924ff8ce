//! The store with a disk that works.

use std::vec::Vec;

use super::world::{Fate, World, half, noise, partly};
use crate::swap::{Coming, Direction, DiskPlan, DiskState, Location, NotHad, NotKept, Step, Store};
use pleat_types::SlotReference;

/// Keeps the pages of so many seeds, all of which there is room for.
pub fn keep_noise(world: &mut World, seeds: std::ops::Range<u64>) -> Vec<SlotReference> {
    seeds
        .map(|seed| world.keep(&noise(seed), None).unwrap())
        .collect()
}

#[test]
fn without_a_disk_nothing_has_changed() {
    let mut world = World::new(1, 0, 0);
    assert_eq!(world.keep(&noise(1), None), Err(NotKept::Incompressible));
    let first = world.keep(&half(1), None).unwrap();
    let second = world.keep(&half(2), None).unwrap();
    assert_eq!(world.keep(&half(3), None), Err(NotKept::PoolFull));
    assert_eq!((world.write_back(), world.issue()), (Step::Nothing, None));
    assert!(!world.store.wants_write_back() && world.store.is_disk_idle());
    assert_eq!(world.store.disk_state(), DiskState::None);
    assert!(world.content(first.slot()).unwrap() == half(1));
    world.release(first);
    world.release(second);
    world.audit();
}

#[test]
fn what_would_be_alone_in_a_frame_of_the_pool_is_packed_only_beside_others() {
    let mut world = World::new(10, 0, 0);
    let long = || partly(1, 2500);
    assert_eq!(world.keep(&long(), None), Err(NotKept::Incompressible));
    assert_eq!(world.store.pool().frames, 0);
    let short = world.keep(&partly(2, 1000), None).unwrap();
    let beside = world.keep(&long(), None).unwrap();
    assert_eq!(world.store.pool().frames, 1);
    assert!(world.content(beside.slot()).unwrap() == long());
    assert_eq!(world.keep(&long(), None), Err(NotKept::Incompressible));
    world.release(short);
    world.release(beside);
    world.audit();
}

#[test]
fn contents_go_where_they_fit_first() {
    let mut world = World::new(1, 100, 0);
    let word = world.keep(&[3; 4096], None).unwrap();
    let packed = world.keep(&half(1), None).unwrap();
    let beside = world.keep(&half(2), None).unwrap();
    let staged = [
        world.keep(&noise(1), None).unwrap(),
        world.keep(&half(3), None).unwrap(),
    ];
    let counts = *world.store.slots();
    assert_eq!(
        (counts.filled, counts.packed, counts.staged, counts.disk),
        (1, 2, 2, 0)
    );
    assert_eq!(world.issue(), None, "two are no full request");
    assert!(
        world.content(staged[0].slot()).unwrap() == noise(1),
        "from its buffer"
    );
    world.settle();
    assert_eq!((world.store.slots().staged, world.store.slots().disk), (0, 2));
    assert_eq!(world.store.blocks().used, 2);
    for (reference, content) in [(word, [3; 4096]), (packed, half(1)), (beside, half(2))]
        .into_iter()
        .chain(staged.into_iter().zip([noise(1), half(3)]))
    {
        assert!(world.fetch(reference.slot()).unwrap() == content);
        world.release(reference);
    }
    world.audit();
    assert_eq!((world.store.slots().slots(), world.store.blocks().used), (0, 0));
}

#[test]
fn without_a_pool_the_disk_has_all() {
    let mut world = World::new(0, 300, 0);
    let mut kept = Vec::new();
    for seed in 0..200 {
        kept.push(loop {
            match world.keep(&half(seed), None) {
                Ok(reference) => break reference,
                Err(error) => assert_eq!(error, NotKept::Later),
            }
            world.issue().unwrap();
            world.finish(Fate::Done);
        });
    }
    world.settle();
    assert_eq!((world.store.slots().disk, world.store.pool().frames), (200, 0));
    assert_eq!(
        world.store.disk_work().write_requests,
        7,
        "six full ones, and the rest"
    );
    for (seed, reference) in (0..).zip(kept) {
        assert!(world.fetch(reference.slot()).unwrap() == half(seed));
        world.release(reference);
    }
    world.audit();
}

#[test]
fn a_full_cluster_is_written_while_the_other_fills() {
    let mut world = World::new(0, 100, 0);
    let mut kept = keep_noise(&mut world, 0..31);
    assert_eq!(world.issue(), None);
    assert!(world.store.is_disk_idle());
    kept.extend(keep_noise(&mut world, 31..32));
    assert!(!world.store.is_disk_idle());
    let request = world.issue().unwrap();
    assert_eq!(
        (request.direction, request.first, request.frames.len()),
        (Direction::Write, 0, 32)
    );
    kept.extend(keep_noise(&mut world, 32..64));
    assert_eq!(world.keep(&noise(64), None), Err(NotKept::Later));
    assert_eq!(world.issue(), None, "one at a time");
    assert!(
        world.content(kept[0].slot()).unwrap() == noise(0),
        "while it is being written"
    );
    // Some go while they are in flight, some while they wait.
    for n in [40, 20, 3] {
        world.release(kept.remove(n));
        world.store.audit(&world.memory).unwrap();
    }
    assert_eq!(world.store.blocks().used, 32);
    world.finish(Fate::Done);
    assert_eq!((world.store.blocks().used, world.store.slots().disk), (30, 30));
    world.settle();
    assert_eq!(world.store.blocks().used, 61);
    for reference in kept {
        world.release(reference);
    }
    world.audit();
    assert_eq!(world.store.blocks().free, 100);
}

#[test]
fn the_disk_gets_no_plain_bytes_and_no_number_twice() {
    let mut world = World::new(0, 100, 0);
    let kept: Vec<_> = (0..2).map(|_| world.keep(&half(9), None).unwrap()).collect();
    world.settle();
    assert!(world.disk.blocks[0] != half(9) && world.disk.blocks[0] != world.disk.blocks[1]);
    let write = |world: &World, n: usize| match world.store.get(&world.memory, kept[n].slot()) {
        Ok(slot) => match slot.location {
            Location::Disk(place) => place.write,
            other => panic!("{other:?}"),
        },
        Err(bug) => panic!("{bug:?}"),
    };
    assert_ne!(write(&world, 0), write(&world, 1));
}

#[test]
fn a_full_disk_takes_no_more() {
    let mut world = World::new(0, 40, 0);
    let mut kept = keep_noise(&mut world, 0..40);
    assert_eq!(
        world.keep(&noise(40), None),
        Err(NotKept::PoolFull),
        "each staged one has its block"
    );
    assert_eq!(world.keep(&half(40), None), Err(NotKept::PoolFull));
    world.settle();
    assert_eq!(world.store.blocks().free, 0);
    assert_eq!(world.keep(&noise(40), None), Err(NotKept::PoolFull));
    world.release(kept.pop().unwrap());
    kept.push(world.keep(&noise(40), None).unwrap());
    world.settle();
    assert!(world.fetch(kept[39].slot()).unwrap() == noise(40));
    world.audit();
}

#[test]
fn the_pool_moves_on_to_the_disk() {
    let mut world = World::new(4, 100, 0);
    let mut kept = Vec::new();
    while !world.store.wants_write_back() {
        kept.push(world.keep(&half(kept.len() as u64), None).unwrap());
    }
    let mut freed = 0;
    while world.store.slots().packed > 0 {
        freed += u64::from(matches!(world.write_back(), Step::Freed(_)));
        world.audit();
    }
    assert_eq!((freed, world.store.pool().frames), (4, 0));
    assert_eq!(world.store.work().written_back, kept.len() as u64);
    assert_eq!(world.write_back(), Step::Nothing);
    world.settle();
    for (seed, reference) in (0..).zip(kept) {
        assert!(world.fetch(reference.slot()).unwrap() == half(seed));
        world.release(reference);
    }
    world.audit();
}

#[test]
fn reads_come_first_but_not_only() {
    let mut world = World::new(0, 200, 0);
    let kept = keep_noise(&mut world, 0..20);
    world.settle();
    let waiting = keep_noise(&mut world, 100..132);
    let mut directions = Vec::new();
    for (n, reference) in (0..).zip(&kept) {
        let slot = reference.slot();
        assert_eq!(world.content(slot), Err(NotHad::OnDisk(n)));
        assert_eq!(world.want(slot), Coming::Soon);
        directions.push(world.issue().unwrap().direction);
        world.finish(Fate::Done);
        if world.want(slot) != Coming::Here {
            world.issue();
            world.finish(Fate::Done);
        }
        assert!(world.content(slot).unwrap() == noise(u64::from(n)));
    }
    assert_eq!(
        directions
            .iter()
            .position(|direction| *direction == Direction::Write),
        Some(8)
    );
    assert_eq!(world.store.slots().disk, 52);
    drop(waiting);
}

#[test]
fn more_readers_than_buffers_all_get_their_turn() {
    let mut world = World::new(0, 200, 0);
    let kept = keep_noise(&mut world, 0..30);
    world.settle();
    // One is wanted by somebody who never asks for it.
    assert_eq!(world.want(kept[29].slot()), Coming::Soon);
    let mut left: Vec<usize> = (0..29).collect();
    for _ in 0..200 {
        left.retain(|n| match world.want(kept[*n].slot()) {
            Coming::Here => {
                assert!(world.content(kept[*n].slot()).unwrap() == noise(*n as u64));
                false
            }
            Coming::Soon | Coming::Later => true,
        });
        world.issue();
        world.finish(Fate::Done);
        world.store.audit(&world.memory).unwrap();
    }
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(world.store.disk_work().reads, 30, "each of them once");
}

#[test]
fn after_the_last_number_nothing_is_written() {
    let mut world = World::new(0, 200, 0);
    world.store.skip_writes((1 << 32) - 2);
    let kept = keep_noise(&mut world, 0..2);
    assert_eq!(world.keep(&noise(3), None), Err(NotKept::PoolFull));
    world.settle();
    for (seed, reference) in (0..).zip(&kept) {
        assert!(world.fetch(reference.slot()).unwrap() == noise(seed));
    }
    world.audit();
}

#[test]
fn a_disk_that_gets_too_few_frames_is_none() {
    let mut memory = crate::swap::tests::memory::Memory::new(100);
    let plan = DiskPlan {
        blocks: 1000,
        clean_frames: 1,
    };
    for count in [0, 10, 70, plan.frames() - 1] {
        let mut store = Store::new();
        store.begin([1; 32], 0);
        let mut frames = (0..count as u64).map(pleat_types::Hfn::new);
        assert_eq!(
            store.begin_disk(&mut memory, [2; 32], plan, || frames.next()),
            None
        );
        assert_eq!(store.disk_state(), DiskState::None);
        let mut held = 0;
        store.for_each_frame(&memory, |_| held += 1).unwrap();
        assert_eq!(held, count);
    }
}

#[test]
fn contents_that_nobody_asks_for_do_not_block_others() {
    let mut world = World::new(0, 200, 0);
    let kept = keep_noise(&mut world, 0..9);
    world.settle();
    for reference in &kept[..8] {
        assert_eq!(world.want(reference.slot()), Coming::Soon);
        world.issue().unwrap();
        world.finish(Fate::Done);
    }
    let mut refused = 0;
    while world.want(kept[8].slot()) == Coming::Later {
        refused += 1;
        assert_eq!(
            world.want(kept[7].slot()),
            Coming::Here,
            "it is not sent away at once"
        );
    }
    assert_eq!(refused, 64);
    assert!(world.fetch(kept[8].slot()).unwrap() == noise(8));
    // The oldest had to go. It comes again.
    assert!(world.fetch(kept[0].slot()).unwrap() == noise(0));
    world.audit();
}
