//! Random operations; allocation fails now and then.

use std::vec::Vec;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::{collection, option};

use super::history::World;
use super::model::{GFNS, Op};
use crate::codec::Absent;
use crate::error::Error;
use pleat_types::PageSize;

fn operations() -> impl Strategy<Value = Vec<(Op, Option<usize>)>> {
    let gfn = || select(&GFNS[..]);
    let absent = || select(&[Absent::Untouched, Absent::Ballooned][..]);
    let block = || select(&[PageSize::Large, PageSize::Huge][..]);
    // A whole GiB in the balloon would take the model too long.
    let unmapping = prop_oneof![
        4 => (Just(PageSize::Small), absent()),
        2 => (Just(PageSize::Large), absent()),
        1 => (Just(PageSize::Huge), Just(Absent::Untouched)),
    ];
    let op = prop_oneof![
        3 => gfn().prop_map(Op::Zero),
        4 => gfn().prop_map(|gfn| Op::Unique(gfn, 0)),
        4 => (gfn(), block()).prop_map(|(gfn, size)| Op::Block(gfn, 0, size)),
        3 => gfn().prop_map(Op::Split),
        2 => gfn().prop_map(Op::Collapse),
        4 => (gfn(), block()).prop_map(|(gfn, size)| Op::Fold(gfn, size)),
        5 => (gfn(), unmapping).prop_map(|(gfn, (size, to))| Op::Unmap(gfn, size, to)),
        2 => (gfn(), absent(), absent()).prop_map(|(gfn, from, to)| Op::Reclassify(gfn, from, to)),
        4 => (gfn(), any::<bool>()).prop_map(|(gfn, is_write)| Op::Use(gfn, is_write)),
        1 => (1..2000_usize).prop_map(Op::Harvest),
    ];
    collection::vec((op, option::weighted(0.3, 0..3_usize)), 1..40)
}

/// Gives mappings frames of their own, and large ones their alignment.
fn prepare(world: &mut World, op: Op) -> Option<Op> {
    match op {
        Op::Unique(gfn, _) => Some(Op::Unique(gfn, world.fresh())),
        Op::Block(gfn, _, size) => {
            let gfn = gfn - gfn % size.frames();
            make_room(world, gfn, size);
            Some(Op::Block(gfn, world.fresh(), size))
        }
        Op::Unmap(gfn, size, to) => Some(Op::Unmap(gfn - gfn % size.frames(), size, to)),
        Op::Use(gfn, is_write) => {
            let possible = world.model.clone().apply(&Op::Use(gfn, is_write));
            possible.map(|()| Op::Use(gfn, is_write))
        }
        other => Some(other),
    }
}

/// The model knows no tables: those of untouched blocks are folded away where a block is to be mapped.
fn make_room(world: &mut World, gfn: u64, size: PageSize) {
    let inside = GFNS
        .into_iter()
        .filter(|other| (gfn..gfn + size.frames()).contains(other));
    for other in inside {
        let _ = world.step(&Op::Fold(other, PageSize::Large), None);
    }
    let _ = world.step(&Op::Fold(gfn, size), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sequence_agrees_with_the_model_at_every_store(operations in operations()) {
        let mut world = World::new();
        for (op, allocations) in operations {
            let Some(op) = prepare(&mut world, op) else { continue };
            let is_short = world.step(&op, allocations) == Err(Error::HostShort);
            assert!(!is_short || allocations.is_some());
            if is_short {
                // Nothing has changed, so the same succeeds or is refused once there is memory.
                assert_ne!(world.step(&op, None), Err(Error::HostShort));
            }
        }
        world.end();
    }
}
