//! The tree of free blocks against a set.

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::collection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;

use crate::swap::disk::blocks::{Blocks, MAX_BLOCKS, Run, weigh};
use crate::swap::tests::memory::Memory;
use crate::swap::{Bug, Corruption};
use pleat_types::{FrameMemory, Hfn};

fn blocks(count: u32) -> (Blocks, Memory) {
    let frames = Blocks::frames_for(count);
    let mut memory = Memory::new(frames as usize);
    let mut blocks = Blocks::new();
    let mut free = (0..u64::from(frames)).map(Hfn::new);
    blocks.begin(&mut memory, count, &mut || free.next()).unwrap();
    assert_eq!(free.next(), None, "just as many");
    (blocks, memory)
}

#[test]
fn the_frames_of_the_tree_are_few() {
    assert_eq!(Blocks::frames_for(1), 2);
    assert_eq!(Blocks::frames_for(1 << 18), 8 + 1, "1 GiB");
    assert_eq!(Blocks::frames_for(MAX_BLOCKS), 512 + 8);
}

#[test]
fn runs_follow_each_other_to_the_end() {
    for count in [1, 63, 64, 65, 4096, 4097, 40_000] {
        let (mut blocks, mut memory) = blocks(count);
        let mut next = 0;
        while let Some(run) = blocks.allocate_run(&mut memory, 32) {
            assert_eq!((run.first, run.count), (next, 32.min(count - next)));
            next += run.count;
        }
        assert_eq!((next, blocks.free_count()), (count, 0));
        assert_eq!(blocks.audit(&memory).unwrap().0, count);
    }
}

#[test]
fn of_holes_a_long_one_is_taken() {
    let (mut blocks, mut memory) = blocks(1000);
    while blocks.allocate_run(&mut memory, 32).is_some() {}
    let holes = [10, 20, 21, 500, 501, 502, 503, 999];
    for block in holes {
        blocks.free(&mut memory, block).unwrap();
    }
    assert_eq!(
        blocks.allocate_run(&mut memory, 2),
        Some(Run { first: 20, count: 2 })
    );
    assert_eq!(
        blocks.allocate_run(&mut memory, 32),
        Some(Run { first: 500, count: 4 })
    );
    // Round the end, and one at a time.
    assert_eq!(
        blocks.allocate_run(&mut memory, 5).map(|run| run.first),
        Some(999)
    );
    assert_eq!(blocks.allocate_run(&mut memory, 5).map(|run| run.first), Some(10));
    assert_eq!(blocks.allocate_run(&mut memory, 5), None);
    blocks.audit(&memory).unwrap();
}

#[test]
fn what_is_not_in_use_cannot_be_freed() {
    let (mut blocks, mut memory) = blocks(70);
    let run = blocks.allocate_run(&mut memory, 3).unwrap();
    blocks.free(&mut memory, run.first).unwrap();
    for block in [run.first, run.first + 3, 70, 127, u32::MAX] {
        assert_eq!(blocks.free(&mut memory, block), Err(Bug::BadBlock(block)));
    }
    assert_eq!(blocks.free_count(), 68);
}

#[test]
fn a_broken_level_is_found() {
    let (mut blocks, mut memory) = blocks(5000);
    let _ = blocks.allocate_run(&mut memory, 32);
    for (frame, word) in [(0, 0), (0, 70), (1, 0), (1, 1)] {
        let frame = Hfn::new(frame);
        let value = memory.load_entry(frame, word);
        memory.store_entry(frame, word, 0);
        assert_eq!(blocks.audit(&memory), Err(Corruption::BrokenBlocks));
        // Whatever it says: no panic.
        let _ = blocks.allocate_run(&mut memory, 1);
        memory.store_entry(frame, word, value);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Allocate(u32),
    Free(Index),
    Bad(Index),
}

fn operation() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..40_u32).prop_map(Op::Allocate),
        8 => any::<Index>().prop_map(Op::Free),
        1 => any::<Index>().prop_map(Op::Bad),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sequence_agrees_with_a_set(count in 1..900_u32, ops in collection::vec(operation(), 1..150)) {
        let (mut blocks, mut memory) = blocks(count);
        let (mut used, mut bad) = (Vec::new(), BTreeSet::new());
        for op in ops {
            match op {
                Op::Allocate(want) => match blocks.allocate_run(&mut memory, want) {
                    Some(Run { first, count: got }) => {
                        assert!(got >= 1 && got <= want.clamp(1, 32));
                        for block in first..first + got {
                            assert!(block < count && !used.contains(&block) && !bad.contains(&block));
                            used.push(block);
                        }
                    }
                    None => assert_eq!(used.len() + bad.len(), count as usize),
                },
                Op::Free(which) if !used.is_empty() => {
                    let block = used.swap_remove(which.index(used.len()));
                    blocks.free(&mut memory, block).unwrap();
                }
                Op::Bad(which) if !used.is_empty() => {
                    let block = used.swap_remove(which.index(used.len()));
                    blocks.mark_bad(block);
                    bad.insert(block);
                }
                Op::Free(_) | Op::Bad(_) => {}
            }
            let all = used.iter().chain(&bad);
            let weight = all.fold(0_u64, |sum, block| sum.wrapping_add(weigh(*block)));
            let in_use = u32::try_from(used.len() + bad.len()).unwrap();
            assert_eq!(blocks.audit(&memory), Ok((in_use, weight)));
            assert_eq!(blocks.free_count() + in_use, count);
            assert_eq!(blocks.bad_count() as usize, bad.len());
        }
    }
}
