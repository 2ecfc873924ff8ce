//! Bits that flip in frames of the disk tier: the audit finds them, contents are right or reported, and nothing panics.

use std::vec::Vec;

use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use proptest::sample::Index;

use super::world::{Fate, World, noise, page};
use crate::ledger::Key;
use crate::swap::{Coming, PURSE};
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, SlotReference};

/// Contents on the disk, on their way there and back, and clean copies.
fn busy() -> (World, Vec<SlotReference>) {
    let mut world = World::new(0, 100, 1);
    let mut kept: Vec<_> = (0..20)
        .map(|seed| world.keep(&noise(seed), None).unwrap())
        .collect();
    world.settle();
    for gfn in 0..5 {
        world.release_returned(kept.remove(0), page(0, gfn));
    }
    for reference in &kept[..3] {
        assert_eq!(world.want(reference.slot()), Coming::Soon);
        world.issue().unwrap();
        world.finish(Fate::Done);
    }
    kept.extend((20..30).map(|seed| world.keep(&noise(seed), None).unwrap()));
    world.audit();
    (world, kept)
}

fn frames(world: &World) -> Vec<Hfn> {
    let mut frames = Vec::new();
    let visit = |frame| frames.push(frame);
    world.store.for_each_frame(&world.memory, visit).unwrap();
    frames
}

/// All that the store does with a disk, whatever it says.
fn use_it(world: &mut World, kept: Vec<SlotReference>) {
    let World { store, memory, .. } = world;
    for n in 0..3 {
        for (seed, reference) in (5..).zip(&kept) {
            let _ = store.want(memory, reference.slot());
            if let Ok(content) = store.content(memory, reference.slot()) {
                assert!(*content == noise(seed), "another content");
            }
        }
        store.hurry();
        for _ in 0..40 {
            if let Ok(Some(request)) = store.next_request(memory) {
                assert!(request.frames.len() <= 32);
            }
            let _ = store.finished(memory, Ok(()));
        }
        memory.overwrite(Hfn::new(0), &noise(n));
        let _ = store.keep(memory, &FrozenFrame::claim(Hfn::new(0)), Key(0), Some(page(0, n)));
        let _ = store.write_back(memory);
    }
    for (gfn, reference) in (0..).zip(kept) {
        let _ = store.release_returned(memory, reference, page(0, gfn));
    }
    let _ = store.audit(memory);
}

#[test]
fn a_block_or_an_entry_that_changes_is_found() {
    let (mut world, kept) = busy();
    // The last frames are the two of the blocks and the one of clean copies.
    let all = frames(&world);
    let (map, clean) = (all[all.len() - 3], all[all.len() - 1]);
    let entry = (0..512)
        .find(|word| world.memory.load_entry(clean, *word) != 0)
        .unwrap();
    for (frame, word) in [(map, 0), (map, 1), (clean, entry)] {
        let before = world.memory.load_entry(frame, word);
        for bit in [0, 20, 31, 35] {
            world.memory.store_entry(frame, word, before ^ 1 << bit);
            assert!(world.store.audit(&world.memory).is_err(), "{frame} {word} {bit}");
        }
        world.memory.store_entry(frame, word, before);
        world.audit();
    }
    drop(kept);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_is_in_a_frame_nothing_panics(
        which in any::<Index>(),
        bit in 0..FRAME_SIZE * 8,
        seed in any::<u64>(),
        is_flip in any::<bool>(),
    ) {
        let (mut world, kept) = busy();
        let mut all = frames(&world);
        // But the root of the table of slots, behind the purse: it names frames, and not each number is one.
        all.remove(PURSE);
        let frame = *which.get(&all);
        if is_flip {
            world.memory.flip(frame, bit);
        } else {
            world.memory.overwrite(frame, &noise(seed));
        }
        prop_assert!(all.len() > 70);
        use_it(&mut world, kept);
    }
}
