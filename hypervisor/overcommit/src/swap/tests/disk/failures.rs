//! The store with a disk that fails.

use std::vec::Vec;

use super::world::{Fate, World, noise};
use crate::swap::{Coming, DiskError, DiskState, NotHad, NotKept};
use pleat_types::SlotReference;

/// So many contents on their way, and the first request under way.
fn begun(count: u64) -> (World, Vec<SlotReference>) {
    let mut world = World::new(0, 200, 0);
    let kept = (0..count)
        .map(|seed| world.keep(&noise(seed), None).unwrap())
        .collect();
    world.store.hurry();
    world.issue().unwrap();
    (world, kept)
}

fn assert_all_there(world: &mut World, kept: &[SlotReference]) {
    for (seed, reference) in (0..).zip(kept) {
        assert!(world.fetch(reference.slot()).unwrap() == noise(seed), "{seed}");
    }
    world.audit();
}

#[test]
fn a_torn_request_goes_again_block_by_block() {
    let (mut world, kept) = begun(32);
    world.finish(Fate::Torn(13));
    assert_eq!((world.store.slots().staged, world.store.blocks().used), (32, 32));
    assert!(world.content(kept[5].slot()).unwrap() == noise(5));
    assert_eq!(world.issue().unwrap().frames.len(), 1);
    world.settle();
    assert_eq!(
        (world.store.slots().disk, world.store.disk_work().write_requests),
        (32, 32)
    );
    assert_eq!(world.store.disk_work().transfer_errors, 1);
    assert_eq!(world.store.blocks().bad, 0);
    assert_all_there(&mut world, &kept);
}

#[test]
fn a_bad_block_is_found_and_left_alone() {
    let (mut world, kept) = begun(32);
    world.disk.bad.extend([7, 20]);
    world.settle();
    assert_eq!((world.store.blocks().bad, world.store.blocks().used), (2, 32));
    assert_eq!(world.store.disk_work().bad_sectors, 3, "the request, and both");
    assert_all_there(&mut world, &kept);
    for reference in kept {
        world.release(reference);
    }
    assert_eq!((world.store.blocks().bad, world.store.blocks().free), (2, 198));
    // Twice around: they are never used again.
    for seed in 0..400 {
        let reference = world.keep(&noise(seed), None).unwrap();
        world.settle();
        world.release(reference);
    }
    assert_eq!(world.store.disk_work().bad_sectors, 3);
}

#[test]
fn a_guest_may_die_while_its_pages_fail() {
    let (mut world, mut kept) = begun(32);
    world.release(kept.remove(31));
    world.finish(Fate::Failed(DiskError::Transfer));
    assert_eq!(world.store.blocks().used, 31);
    world.release(kept.remove(30));
    assert_eq!(
        world.store.blocks().used,
        30,
        "one that waits to go alone has a block"
    );
    world.issue().unwrap();
    world.release(kept.remove(0));
    world.disk.bad.insert(0);
    world.finish(Fate::Done);
    assert_eq!((world.store.blocks().used, world.store.blocks().bad), (29, 1));
    world.settle();
    assert_eq!(world.store.slots().disk, 29);
    world.audit();
}

#[test]
fn without_answers_nothing_is_written_any_more() {
    let (mut world, kept) = begun(40);
    world.finish(Fate::Done);
    for _ in 0..3 {
        assert_eq!(world.store.disk_state(), DiskState::Open);
        world.store.hurry();
        world.issue().unwrap();
        world.finish(Fate::Failed(DiskError::TimedOut));
    }
    assert_eq!(world.store.disk_state(), DiskState::ReadOnly);
    assert_eq!(world.keep(&noise(50), None), Err(NotKept::PoolFull));
    world.store.hurry();
    assert!(world.store.is_disk_idle() && world.issue().is_none());
    assert_eq!((world.store.slots().staged, world.store.blocks().used), (8, 32));
    assert_all_there(&mut world, &kept);
    for reference in kept {
        world.release(reference);
    }
    assert_eq!(world.store.blocks().free, 200);
    world.audit();
}

#[test]
fn a_disk_that_only_fails_is_not_written_any_more() {
    let (mut world, kept) = begun(40);
    world.disk.bad.extend(0..200);
    let mut requests = 1;
    world.finish(Fate::Done);
    while world.issue().is_some() {
        world.finish(Fate::Done);
        requests += 1;
        world.store.hurry();
    }
    assert_eq!((requests, world.store.disk_state()), (64, DiskState::ReadOnly));
    assert_all_there(&mut world, &kept);
}

#[test]
fn when_the_disk_has_gone_what_is_staged_is_left() {
    let (mut world, kept) = begun(40);
    world.finish(Fate::Done);
    assert_eq!(world.want(kept[3].slot()), Coming::Soon);
    assert_eq!(world.want(kept[4].slot()), Coming::Soon);
    world.issue().unwrap();
    world.finish(Fate::Failed(DiskError::Gone));
    assert_eq!(world.store.disk_state(), DiskState::Gone);
    for n in [3, 4, 5] {
        assert_eq!(world.want(kept[n].slot()), Coming::Here);
        assert_eq!(world.content(kept[n].slot()), Err(NotHad::Lost));
    }
    assert_eq!(world.store.disk_work().lost, 3);
    for (seed, reference) in (32..).zip(&kept[32..]) {
        assert!(world.content(reference.slot()).unwrap() == noise(seed));
    }
    assert_eq!(world.keep(&noise(50), None), Err(NotKept::PoolFull));
    for reference in kept {
        world.release(reference);
    }
    assert!(world.store.is_disk_idle());
    world.audit();
}

#[test]
fn what_is_waited_for_is_given_up_when_a_write_finds_the_disk_gone() {
    let (mut world, kept) = begun(40);
    world.finish(Fate::Done);
    world.store.hurry();
    // A write is under way when all buffers are wanted.
    world.issue().unwrap();
    for reference in &kept[..8] {
        assert_eq!(world.want(reference.slot()), Coming::Soon);
    }
    assert_eq!(world.want(kept[8].slot()), Coming::Later);
    world.finish(Fate::Failed(DiskError::Gone));
    assert!(world.store.is_disk_idle() && world.issue().is_none());
    // Who asks at once is told, and who finds no buffer, too.
    for n in [0, 8, 9] {
        assert_eq!(world.content(kept[n].slot()), Err(NotHad::Lost), "{n}");
        assert_eq!(world.want(kept[n].slot()), Coming::Here, "{n}");
        assert_eq!(world.content(kept[n].slot()), Err(NotHad::Lost), "{n}");
    }
    for reference in kept {
        world.release(reference);
    }
    world.audit();
}

#[test]
fn what_has_come_outlives_the_disk() {
    let (mut world, kept) = begun(2);
    world.settle();
    assert!(world.fetch(kept[0].slot()).unwrap() == noise(0));
    assert_eq!(world.want(kept[1].slot()), Coming::Soon);
    world.issue().unwrap();
    world.finish(Fate::Failed(DiskError::Gone));
    assert!(world.content(kept[0].slot()).unwrap() == noise(0));
    assert_eq!(world.content(kept[1].slot()), Err(NotHad::Lost));
    world.audit();
}

#[test]
fn a_read_is_tried_again_but_not_for_ever() {
    let (mut world, kept) = begun(2);
    world.settle();
    let slot = kept[1].slot();
    assert_eq!(world.want(slot), Coming::Soon);
    for _ in 0..2 {
        world.issue().unwrap();
        world.finish(Fate::Failed(DiskError::Transfer));
    }
    assert!(world.fetch(slot).unwrap() == noise(1));
    world.release(SlotReference::claim(kept[0].slot()));
    world.disk.bad.insert(1);
    // Others push it out.
    for seed in 10..18 {
        let reference = world.keep(&noise(seed), None).unwrap();
        world.settle();
        world.fetch(reference.slot()).unwrap();
    }
    assert_eq!(world.fetch(slot), Err(NotHad::Lost));
    assert_eq!(world.store.disk_work().bad_sectors, 3);
    // Who has it too is told, too.
    assert_eq!(world.fetch(slot), Err(NotHad::Lost));
    world.release(SlotReference::claim(slot));
    world.audit();
}

/// One content on the disk, of which so many reads in a row flip this bit.
fn flipped(bit: usize, reads: u32) -> (World, SlotReference) {
    let (mut world, mut kept) = begun(1);
    world.settle();
    let slot = kept[0].slot();
    for _ in 0..reads {
        assert_eq!(world.want(slot), Coming::Soon);
        world.issue().unwrap();
        world.finish(Fate::Flipped(bit));
        assert_eq!(world.want(slot), Coming::Here);
        if reads > 1 && world.store.disk_work().reads == 1 {
            assert_eq!(world.content(slot), Err(NotHad::OnDisk(0)));
        }
    }
    (world, kept.remove(0))
}

#[test]
fn a_bit_that_flips_on_its_way_is_read_again() {
    for bit in [0, 77, 4096 * 8 - 1] {
        let (mut world, kept) = flipped(bit, 1);
        assert_eq!(world.content(kept.slot()), Err(NotHad::OnDisk(0)));
        world.audit();
        assert!(world.fetch(kept.slot()).unwrap() == noise(0));
        let work = *world.store.disk_work();
        assert_eq!((work.reads, work.read_again, work.checksum_errors), (2, 1, 0));
        assert_eq!(world.store.work().damaged, 0);
        // It is there: whoever asks again gets it.
        assert!(world.content(kept.slot()).unwrap() == noise(0));
        world.release(kept);
        world.audit();
    }
}

#[test]
fn a_flipped_bit_is_never_delivered() {
    for bit in [0, 77, 4096 * 8 - 1] {
        let (mut world, kept) = flipped(bit, 2);
        assert_eq!(world.content(kept.slot()), Err(NotHad::Damaged));
        assert_eq!(
            (
                world.store.disk_work().checksum_errors,
                world.store.work().damaged
            ),
            (1, 1)
        );
        world.audit();
    }
}

#[test]
fn a_write_that_was_lost_is_found() {
    let (mut world, kept) = begun(2);
    world.finish(Fate::LostWrite);
    for reference in &kept {
        assert_eq!(world.fetch(reference.slot()), Err(NotHad::Damaged));
    }
    // What was there before is as wrong as what never was.
    let mut world = World::new(0, 1, 0);
    let first = world.keep(&noise(1), None).unwrap();
    world.settle();
    world.release(first);
    let second = world.keep(&noise(2), None).unwrap();
    world.store.hurry();
    world.issue().unwrap();
    world.finish(Fate::LostWrite);
    assert_eq!(world.fetch(second.slot()), Err(NotHad::Damaged));
}

#[test]
fn who_dies_while_its_content_is_read_leaves_nothing() {
    let (mut world, kept) = begun(3);
    world.settle();
    let [first, second, third] = <[SlotReference; 3]>::try_from(kept).unwrap();
    for reference in [&first, &second] {
        assert_eq!(world.want(reference.slot()), Coming::Soon);
    }
    world.issue().unwrap();
    world.release(first);
    world.release(second);
    // The slot and the block are another content's now.
    let next = world.keep(&noise(9), None).unwrap();
    world.finish(Fate::Done);
    world.settle();
    assert!(world.fetch(next.slot()).unwrap() == noise(9));
    assert!(world.fetch(third.slot()).unwrap() == noise(2));
    assert_eq!(world.store.disk_work().reads, 3);
    world.audit();
}

#[test]
fn a_disk_that_goes_during_a_write_takes_nothing_along() {
    let (mut world, kept) = begun(40);
    world.finish(Fate::Failed(DiskError::Gone));
    assert_eq!((world.store.slots().staged, world.store.blocks().used), (40, 0));
    assert_all_there(&mut world, &kept);
}

#[test]
fn what_has_no_block_because_some_were_bad_waits() {
    let mut world = World::new(0, 4, 0);
    world.disk.bad.insert(2);
    let mut kept: Vec<_> = (0..4)
        .map(|seed| world.keep(&noise(seed), None).unwrap())
        .collect();
    world.settle();
    assert_eq!((world.store.slots().disk, world.store.slots().staged), (3, 1));
    assert!(world.store.is_disk_idle(), "there is nothing that it could do");
    assert_eq!(world.keep(&noise(4), None), Err(NotKept::PoolFull));
    assert_all_there(&mut world, &kept);
    world.release(kept.remove(0));
    world.settle();
    assert_eq!((world.store.slots().disk, world.store.slots().staged), (3, 0));
    world.audit();
}
