//! Directed cases of gathering: what is refused, and what the block has to say of the pages that it replaces.

use super::cases::small;
use super::op::{Op, Way};
use super::sharing::gfn;
use super::world::World;
use crate::codec::{Absent, GFN_LIMIT};
use crate::error::Bug;
use crate::table::Page;
use pleat_types::{Hfn, OwnedFrame, PageSize};

const BLOCK: u64 = 0x4_0000;

/// Guest 0 has 512 pages from 512 on, in frames that lie in the opposite order.
fn scattered() -> World {
    let mut world = World::new();
    let first = world.fresh();
    world.fill(0, 512, |n| first + 511 - n);
    world
}

#[test]
fn one_page_that_owns_no_frame_is_enough_to_refuse() {
    let mut world = scattered();
    let unmap = Op::Unmap(1023, PageSize::Small, Absent::Untouched);
    let reclassify = Op::Reclassify(1023, Absent::Untouched, Absent::Ballooned);
    let refused = |world: &mut World| {
        let error = world.step(0, &Op::Gather(512, BLOCK), None).unwrap_err();
        assert_eq!(error, Bug::WrongState(gfn(512)).into());
    };
    for op in [Op::Freeze(1023), Op::Share(1023), unmap, Op::Zero(1023)] {
        world.step(0, &op, None).unwrap();
        refused(&mut world);
    }
    let unmap = Op::Unmap(1023, PageSize::Small, Absent::Untouched);
    for op in [unmap, reclassify] {
        world.step(0, &op, None).unwrap();
        refused(&mut world);
    }
    let back = Op::Reclassify(1023, Absent::Ballooned, Absent::Untouched);
    for op in [back, Op::Unique(1023, 9, Way::Spot), Op::Gather(512, BLOCK)] {
        world.step(0, &op, None).unwrap();
    }
    // It is one mapping now, and above and around it there are no small ones.
    refused(&mut world);
    for first in [0, 1024, 1 << 18, GFN_LIMIT - 512] {
        assert!(world.step(0, &Op::Gather(first, BLOCK), None).is_err());
    }
    world.end();
}

#[test]
fn a_block_that_cannot_be_mapped_comes_back() {
    let mut world = scattered();
    let block = |frame, size| OwnedFrame::claim(Hfn::new(frame), size);
    for (first, frame, error) in [
        (512, small(BLOCK), Bug::WrongSize(gfn(512))),
        (512, block(1 << 18, PageSize::Huge), Bug::WrongSize(gfn(512))),
        (512, block(BLOCK + 1, PageSize::Large), Bug::Misaligned(gfn(512))),
        (513, block(BLOCK, PageSize::Large), Bug::Misaligned(gfn(513))),
        (
            GFN_LIMIT,
            block(BLOCK, PageSize::Large),
            Bug::OutOfRange(gfn(GFN_LIMIT)),
        ),
    ] {
        let stage2 = &mut world.guests[0].stage2;
        let (first, offered) = (gfn(first), (frame.first(), frame.size()));
        let refused = stage2
            .replace_by_block(&mut world.memory, first, frame)
            .unwrap_err();
        assert_eq!(refused.error, error.into());
        assert_eq!((refused.frame.first(), refused.frame.size()), offered);
    }
    assert!(world.memory.take_log().is_empty());
    assert_eq!(
        world.step(0, &Op::Gather(513, BLOCK), None),
        Err(Bug::Misaligned(gfn(513)).into())
    );
    world.end();
}

/// Whichever page was used or owes, the block says so; one of which nothing is known owes a look of its own.
#[test]
fn the_block_knows_what_any_of_its_pages_knew() {
    for (written, owed) in [(None, 1), (Some(512), 6), (Some(789), 1), (Some(1023), 15)] {
        let mut world = scattered();
        let (memory, stage2) = (&mut world.memory, &world.guests[0].stage2);
        // Nothing, which only a calm page says: the block is looked at nevertheless.
        let before = stage2.lookup(memory, gfn(512)).unwrap();
        assert_eq!(
            (before.accessed, before.dirty, before.calm_owed),
            (false, false, 0)
        );
        if let Some(number) = written {
            let mut calm = arrayvec::ArrayVec::new();
            stage2.mark_written(memory, gfn(number)).unwrap();
            let sweep = stage2.sweep(memory, gfn(512), gfn(1024), &mut calm, |_| owed);
            assert!(sweep.unwrap().pending.settle(|_| {}).is_empty());
            let (table, index, ..) = super::oracle::place(memory, stage2.root(), number).unwrap();
            memory.set_bits(table, index, 0x300);
        }
        let stage2 = &mut world.guests[0].stage2;
        let block = OwnedFrame::claim(Hfn::new(BLOCK), PageSize::Large);
        let pending = stage2
            .replace_by_block(&mut world.memory, gfn(512), block)
            .unwrap();
        assert!(!pending.waiting().is_empty());
        assert_eq!(pending.settle(|_| {}).len(), 1);
        let mapping = stage2.lookup(&world.memory, gfn(600)).unwrap();
        assert_eq!(mapping.page, Page::Unique(Hfn::new(BLOCK + 88)));
        assert_eq!((mapping.first, mapping.level.frames()), (gfn(512), 512));
        assert_eq!(
            (mapping.accessed, mapping.dirty),
            (written.is_some(), written.is_some())
        );
        assert_eq!(mapping.calm_owed, owed);
        stage2.audit(&world.memory).unwrap();
    }
}
