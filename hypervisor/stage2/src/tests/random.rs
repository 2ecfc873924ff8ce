//! Random operations of several guests; allocation fails now and then.

use std::vec::Vec;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::{collection, option};

use super::model::base;
use super::op::{GFNS, GIB, Offer, Op, Way};
use super::world::World;
use crate::codec::{Absent, GFN_LIMIT};
use crate::error::Error;
use pleat_types::PageSize;

/// Where the guests meet.
const POPULAR: [u64; 4] = [0, 511, 512, 1023];

#[derive(Clone, Debug)]
enum Action {
    Op(Op, Option<usize>),
    /// The guest dies.
    End,
}

fn mapping() -> impl Strategy<Value = Op> {
    let gfn = || select(&GFNS[..]);
    let absent = || select(&[Absent::Untouched, Absent::Ballooned][..]);
    let block = || select(&[PageSize::Large, PageSize::Huge][..]);
    // A whole GiB in the balloon would take the model too long.
    let unmapping = prop_oneof![
        4 => (Just(PageSize::Small), absent()),
        2 => (Just(PageSize::Large), absent()),
        1 => (Just(PageSize::Huge), Just(Absent::Untouched)),
    ];
    prop_oneof![
        3 => gfn().prop_map(Op::Zero),
        4 => (gfn(), way()).prop_map(|(gfn, way)| Op::Unique(gfn, 0, way)),
        4 => (gfn(), block()).prop_map(|(gfn, size)| Op::Block(gfn, 0, size)),
        3 => gfn().prop_map(Op::Split),
        2 => gfn().prop_map(Op::Collapse),
        4 => (gfn(), any::<u64>()).prop_map(|(gfn, uses)| Op::Gather(gfn, uses)),
        4 => (gfn(), block()).prop_map(|(gfn, size)| Op::Fold(gfn, size)),
        5 => (gfn(), unmapping).prop_map(|(gfn, (size, to))| Op::Unmap(gfn, size, to)),
        2 => (gfn(), absent(), absent()).prop_map(|(gfn, from, to)| Op::Reclassify(gfn, from, to)),
    ]
}

fn offer() -> impl Strategy<Value = Offer> {
    const REFUSED: [Offer; 4] = [Offer::Large(0), Offer::Original, Offer::Zero, Offer::Nothing];
    prop_oneof![
        3 => Just(Offer::Copy(0)),
        3 => Just(Offer::Same),
        2 => select(&REFUSED[..]),
    ]
}

fn way() -> impl Strategy<Value = Way> {
    select(&[Way::Walk, Way::Spot][..])
}

fn sharing() -> impl Strategy<Value = Op> {
    let gfn = || select(&POPULAR[..]);
    prop_oneof![
        1 => select(&GFNS[..]).prop_map(Op::Freeze),
        1 => gfn().prop_map(Op::Thaw),
        3 => gfn().prop_map(Op::Share),
        5 => (gfn(), any::<u64>()).prop_map(|(gfn, which)| Op::MergeInto(gfn, which)),
        1 => gfn().prop_map(Op::MergeIntoZero),
        6 => (gfn(), offer()).prop_map(|(gfn, offer)| Op::Part(gfn, offer)),
        1 => (select(&GFNS[..]), offer()).prop_map(|(gfn, offer)| Op::Part(gfn, offer)),
        1 => gfn().prop_map(|gfn| Op::Unmap(gfn, PageSize::Small, Absent::Untouched)),
    ]
}

fn swapping() -> impl Strategy<Value = Op> {
    let gfn = || prop_oneof![1 => select(&GFNS[..]), 3 => select(&POPULAR[..])];
    let slot = || 0..3_u32;
    prop_oneof![
        3 => (gfn(), slot()).prop_map(|(gfn, slot)| Op::SwapOut(gfn, slot)),
        2 => (gfn(), slot()).prop_map(|(gfn, slot)| Op::SwapOutShare(gfn, slot)),
        2 => gfn().prop_map(|gfn| Op::SwapIn(gfn, 0)),
        2 => (gfn(), any::<u64>()).prop_map(|(gfn, which)| Op::SwapInShare(gfn, which)),
    ]
}

fn using() -> impl Strategy<Value = Op> {
    let gfn = || prop_oneof![1 => select(&GFNS[..]), 3 => select(&POPULAR[..])];
    let ends = select(
        &[
            (0, GFN_LIMIT),
            (0, 512),
            (512, 2048),
            (1, 513),
            (1 << 18, 1 << 19),
        ][..],
    );
    prop_oneof![
        9 => (gfn(), any::<bool>()).prop_map(|(gfn, is_write)| Op::Use(gfn, is_write)),
        3 => (1..2000_usize).prop_map(Op::Age),
        4 => ends.prop_map(|(from, end)| Op::Sweep(from, end)),
        2 => gfn().prop_map(Op::TakeAccessed),
        1 => gfn().prop_map(Op::MarkWritten),
        1 => gfn().prop_map(Op::OweCalm),
    ]
}

/// Pages that no view looks at, and numbers that no page has.
const MORE: [u64; 6] = [5, 6, 600, 1500, GFN_LIMIT, u64::MAX];
/// Whole blocks, parts of them, more than one, and holes and devices among them.
const RANGES: [(u64, u64); 12] = [
    (0, 512),
    (512, 512),
    (0, 1024),
    (500, 600),
    (513, 1),
    (1536, 1024),
    (2900, 200),
    (GIB - 700, 188),
    (GIB - 512, 512),
    (GIB, 1024),
    (GIB + 600, 400),
    (2 * GIB - 512, 512),
];

fn leaving() -> impl Strategy<Value = Op> {
    let gfn = || prop_oneof![3 => select(&GFNS[..]), 1 => select(&MORE[..])];
    let pages = || collection::vec(gfn(), 0..8);
    let to = || select(&[Absent::Untouched, Absent::Ballooned][..]);
    let hole = || select(&[Absent::Untouched, Absent::Ballooned, Absent::Hole][..]);
    let range = || select(&RANGES[..]);
    prop_oneof![
        4 => (pages(), to()).prop_map(|(pages, to)| Op::Discard(pages, to)),
        3 => pages().prop_map(Op::Deflate),
        4 => (range(), hole()).prop_map(|((first, count), to)| Op::DiscardRange(first, count, to)),
        2 => range().prop_map(|(first, count)| Op::Promise(first, count)),
    ]
}

fn actions() -> impl Strategy<Value = Vec<(usize, Action)>> {
    let op = prop_oneof![4 => mapping(), 4 => sharing(), 6 => using(), 3 => leaving(), 4 => swapping()];
    let action = prop_oneof![
        40 => (op, option::weighted(0.3, 0..3_usize)).prop_map(|(op, left)| Action::Op(op, left)),
        1 => Just(Action::End),
    ];
    collection::vec((0..3_usize, action), 1..70)
}

/// Gives mappings frames of their own, and large ones their alignment; `None` for what no caller would do.
fn prepare(world: &mut World, who: usize, op: Op) -> Option<Op> {
    match op {
        Op::Unique(gfn, _, way) => Some(Op::Unique(gfn, world.fresh(), way)),
        Op::Part(gfn, offer) => {
            make_shared(world, who, gfn);
            let offer = prepare_offer(world, who, gfn, offer)?;
            Some(Op::Part(gfn, offer))
        }
        Op::Gather(gfn, uses) => {
            make_parts(world, who, gfn - gfn % 512, uses);
            Some(Op::Gather(gfn - gfn % 512, world.fresh()))
        }
        Op::Block(gfn, _, size) => {
            let gfn = gfn - gfn % size.frames();
            make_room(world, who, gfn, size);
            Some(Op::Block(gfn, world.fresh(), size))
        }
        Op::Unmap(gfn, size, to) => Some(Op::Unmap(gfn - gfn % size.frames(), size, to)),
        Op::Use(gfn, _) => {
            make_owned(world, who, gfn);
            let possible = world.guests[who].model.clone().apply(&op);
            possible.map(|()| op)
        }
        Op::SwapIn(gfn, _) => Some(Op::SwapIn(gfn, world.fresh())),
        Op::SwapOutShare(gfn, _) => {
            make_shared(world, who, gfn);
            Some(op)
        }
        Op::SwapInShare(gfn, which) => {
            let frame = any_shared(world, which)?;
            Some(Op::SwapInShare(gfn, frame))
        }
        Op::Thaw(gfn) | Op::Share(gfn) | Op::MergeIntoZero(gfn) | Op::SwapOut(gfn, _) => {
            make_frozen(world, who, gfn)?;
            Some(op)
        }
        Op::MergeInto(gfn, which) => {
            make_frozen(world, who, gfn)?;
            let frame = any_shared(world, which);
            Some(frame.map_or(Op::Share(gfn), |frame| Op::MergeInto(gfn, frame)))
        }
        Op::Discard(ref pages, _) => {
            for gfn in pages.iter().step_by(2).filter(|gfn| **gfn < GFN_LIMIT) {
                make_owned(world, who, *gfn);
            }
            Some(op)
        }
        // The model has no place for what was never promised.
        Op::Promise(first, count) => (first..first + count).all(|gfn| base(gfn) == 1).then_some(op),
        other => Some(other),
    }
}

fn prepare_offer(world: &mut World, who: usize, gfn: u64, offer: Offer) -> Option<Offer> {
    match offer {
        Offer::Copy(_) => Some(Offer::Copy(world.fresh())),
        Offer::Large(_) => Some(Offer::Large(world.fresh())),
        Offer::Same => {
            let shared = world.guests[who].model.shared_frame(gfn);
            // Only the last one may keep it.
            let is_last = shared.is_none_or(|frame| world.shares[&frame] == 1);
            is_last.then_some(offer)
        }
        _ => Some(offer),
    }
}

/// One of the frames that are shared.
fn any_shared(world: &World, which: u64) -> Option<u64> {
    let count = world.shares.len().max(1);
    let which = usize::try_from(which % count as u64).unwrap();
    world.shares.keys().nth(which).copied()
}

/// A page that owns its frame, if it can.
fn make_owned(world: &mut World, who: usize, gfn: u64) {
    let frame = world.fresh();
    let _ = world.step(who, &Op::Unique(gfn, frame, Way::Walk), None);
}

/// A page that shares its frame, or did already, if it can.
fn make_shared(world: &mut World, who: usize, gfn: u64) {
    if make_frozen(world, who, gfn).is_some() {
        let _ = world.step(who, &Op::Share(gfn), None);
    }
}

/// A page that is write-protected, if it can be.
fn make_frozen(world: &mut World, who: usize, gfn: u64) -> Option<()> {
    make_owned(world, who, gfn);
    let _ = world.step(who, &Op::Freeze(gfn), None);
    world.guests[who].frozen.contains_key(&gfn).then_some(())
}

/// 512 pages that own their frames, if they can; not all of them one after another. Two bits of `uses` for each of
/// those that are looked at say how it was used.
fn make_parts(world: &mut World, who: usize, first: u64, uses: u64) {
    if world.guests[who].model.owned_frames(first).is_some() {
        return;
    }
    let inside = GFNS.into_iter().filter(|gfn| (first..first + 512).contains(gfn));
    for gfn in inside.clone() {
        let _ = world.step(who, &Op::Unmap(gfn, PageSize::Small, Absent::Untouched), None);
    }
    make_room(world, who, first, PageSize::Large);
    let block = world.fresh();
    let _ = world.step(who, &Op::Block(first, block, PageSize::Large), None);
    let _ = world.step(who, &Op::Split(first), None);
    for (index, gfn) in inside.enumerate() {
        let _ = world.step(who, &Op::Unmap(gfn, PageSize::Small, Absent::Untouched), None);
        make_owned(world, who, gfn);
        let used = match (uses >> (2 * index)) & 3 {
            0 => continue,
            1 => Op::Use(gfn, false),
            2 => Op::Use(gfn, true),
            _ => Op::OweCalm(gfn),
        };
        if world.guests[who].model.clone().apply(&used).is_some() {
            world.step(who, &used, None).unwrap();
        }
    }
}

/// The model knows no tables: those of untouched blocks are folded away where a block is to be mapped.
fn make_room(world: &mut World, who: usize, gfn: u64, size: PageSize) {
    let inside = GFNS
        .into_iter()
        .filter(|other| (gfn..gfn + size.frames()).contains(other));
    for other in inside {
        let _ = world.step(who, &Op::Fold(other, PageSize::Large), None);
    }
    let _ = world.step(who, &Op::Fold(gfn, size), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_agrees_with_the_model_at_every_store(actions in actions()) {
        let mut world = World::new();
        for (who, action) in actions {
            let Action::Op(op, allocations) = action else {
                world.replace(who);
                continue;
            };
            let Some(op) = prepare(&mut world, who, op) else { continue };
            let is_short = world.step(who, &op, allocations) == Err(Error::HostShort);
            assert!(!is_short || allocations.is_some());
            if is_short {
                // Nothing has changed, so the same succeeds or is refused once there is memory.
                assert_ne!(world.step(who, &op, None), Err(Error::HostShort));
            }
        }
        world.end();
    }
}
