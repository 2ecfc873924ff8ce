//! Copies on the disk of what pages have in frames again.

use super::cases::keep_noise;
use super::world::{World, noise, page};
use crate::swap::NotKept;
use pleat_types::SlotReference;

#[test]
fn a_page_that_comes_back_unchanged_is_not_written_again() {
    let mut world = World::new(0, 100, 1);
    let (owner, other) = (page(1, 77), page(2, 77));
    let first = world.keep(&noise(1), Some(owner)).unwrap();
    world.settle();
    for round in 1..4 {
        let slot = world.store.slots().disk;
        assert_eq!(slot, 1);
        let reference = SlotReference::claim(first.slot());
        assert!(world.fetch(reference.slot()).unwrap() == noise(1));
        world.release_returned(reference, owner);
        world.audit();
        assert_eq!(
            (world.store.slots().clean, world.store.slots().references),
            (1, 0)
        );
        assert!(world.keep(&noise(1), Some(other)).is_ok_and(|reference| {
            let is_new = reference.slot() != first.slot();
            world.release(reference);
            is_new
        }));
        assert_eq!(world.keep(&noise(1), Some(owner)).unwrap().slot(), first.slot());
        assert_eq!(world.store.disk_work().clean_hits, round);
        world.audit();
    }
    assert_eq!(world.store.disk_work().writes, 1);
    // Changed, it is another content.
    world.release_returned(SlotReference::claim(first.slot()), owner);
    let changed = world.keep(&noise(2), Some(owner)).unwrap();
    assert_ne!(changed.slot(), first.slot());
    world.settle();
    assert_eq!(world.store.disk_work().writes, 2);
    world.release_returned(changed, owner);
    assert_eq!(
        (world.store.slots().clean, world.store.disk_work().clean_dropped),
        (1, 1)
    );
    world.audit();
}

#[test]
fn a_clean_copy_is_its_pages_alone() {
    let mut world = World::new(0, 100, 1);
    let owner = page(1, 77);
    let first = world.keep(&noise(1), Some(owner)).unwrap();
    world.settle();
    world.fetch(first.slot()).unwrap();
    world.release_returned(SlotReference::claim(first.slot()), owner);
    // The table has 1,024 places: some of these pages, of the same and of another guest, have that of the owner.
    for other in (0..1000).flat_map(|gfn| [page(2, gfn), page(1, 1000 + gfn)]) {
        let reference = world.keep(&noise(1), Some(other)).unwrap();
        assert_ne!(reference.slot(), first.slot(), "{other:?}");
        world.release(reference);
    }
    assert_eq!(
        (world.store.slots().clean, world.store.disk_work().clean_hits),
        (1, 0)
    );
    assert_eq!(world.keep(&noise(1), Some(owner)).unwrap().slot(), first.slot());
    assert!(world.fetch(first.slot()).unwrap() == noise(1));
    world.audit();
}

#[test]
fn a_clean_copy_whose_block_is_spoken_for_is_not_used_again() {
    let mut world = World::new(0, 2, 1);
    let owner = page(1, 77);
    let first = world.keep(&noise(1), Some(owner)).unwrap();
    world.settle();
    world.fetch(first.slot()).unwrap();
    world.release_returned(first, owner);
    // One block is free, and the clean copy has the other: both are for these.
    let staged = keep_noise(&mut world, 2..4);
    assert_eq!(world.keep(&noise(1), Some(owner)), Err(NotKept::PoolFull));
    while world.store.slots().staged > 0 {
        let before = world.store.slots().staged;
        world.settle();
        assert!(
            world.store.slots().staged < before,
            "what is staged finds its block"
        );
    }
    for (seed, reference) in (2..).zip(staged) {
        assert!(world.fetch(reference.slot()).unwrap() == noise(seed));
    }
    world.audit();
}

#[test]
fn clean_copies_give_up_their_blocks() {
    let mut world = World::new(0, 64, 2);
    for seed in 0..64 {
        let reference = world.keep(&noise(seed), None).unwrap();
        world.settle();
        world.release_returned(reference, page(0, seed));
    }
    assert_eq!((world.store.slots().clean, world.store.blocks().free), (64, 0));
    let mut kept = keep_noise(&mut world, 100..132);
    // The places of two frames: two requests look at all of them.
    while world.store.slots().staged > 0 {
        world.settle();
    }
    assert_eq!((world.store.slots().clean, world.store.slots().disk), (32, 32));
    kept.extend(keep_noise(&mut world, 132..164));
    while world.store.slots().staged > 0 {
        world.settle();
    }
    assert_eq!((world.store.slots().clean, world.store.slots().disk), (0, 64));
    assert_eq!(world.keep(&noise(1), None), Err(NotKept::PoolFull));
    for (seed, reference) in (100..).zip(kept) {
        assert!(world.fetch(reference.slot()).unwrap() == noise(seed));
    }
    world.audit();
}
