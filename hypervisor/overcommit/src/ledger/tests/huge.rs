//! Blocks of 1 GiB: directed cases, and random operations against a model with one state for each 2 MiB.

use std::vec;
use std::vec::Vec;

use proptest::collection;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};

use super::owner;
use crate::ledger::{
    Bug, Corruption, Error, FrameRecord, FrameState, HUGE_ORDER, Ledger, MAX_ORDER, Owner, Purpose, Region,
};
use pleat_types::{GuestId, Hfn, OwnedFrame, PageSize};

pub const HUGE: u64 = 1 << HUGE_ORDER;
pub const LARGE: u64 = 1 << MAX_ORDER;
/// Two whole GiB, the second one usable throughout, and 3 MiB of a third.
const FRAMES: u64 = 2 * HUGE + 768;
/// What lies in the first GiB from its start on.
const IMAGE: u64 = 100;

pub fn records() -> Vec<FrameRecord> {
    vec![FrameRecord::RESERVED; usize::try_from(FRAMES).unwrap()]
}

pub fn machine(records: &mut [FrameRecord]) -> Ledger<'_> {
    let mut ledger = Ledger::new(records).unwrap();
    ledger.add_region(Hfn::new(0), FRAMES, Region::Usable).unwrap();
    ledger.add_region(Hfn::new(0), IMAGE, Region::Image).unwrap();
    ledger
}

pub fn claim(first: u64, size: PageSize) -> OwnedFrame {
    OwnedFrame::claim(Hfn::new(first), size)
}

#[test]
fn a_gib_is_found_where_all_of_it_is_free_and_comes_back_whole() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let before = (*ledger.counts(), ledger.free_blocks(MAX_ORDER));
    let block = ledger.allocate_huge(owner(1, HUGE), Purpose::Demand).unwrap();
    assert_eq!(block, claim(HUGE, PageSize::Huge), "not in the GiB of the image");
    assert_eq!(
        (ledger.counts().guests, ledger.charged_to(GuestId(1))),
        (HUGE, HUGE)
    );
    assert_eq!(ledger.free_blocks(MAX_ORDER), before.1 - 512);
    for offset in [0, 1, 511, 512, 1 << 17, HUGE - 1] {
        let state = FrameState::Guest(owner(1, HUGE + offset), PageSize::Huge);
        assert_eq!(ledger.state(Hfn::new(HUGE + offset)), state, "{offset}");
    }
    assert_eq!(ledger.state(Hfn::new(HUGE - 1)), FrameState::Free);
    assert_eq!(ledger.state(Hfn::new(2 * HUGE)), FrameState::Free);
    ledger.audit().unwrap();
    assert_eq!(
        ledger.allocate_huge(owner(1, 0), Purpose::Relief),
        Err(Error::HostShort),
        "there is no other one"
    );
    ledger.release(block).unwrap();
    ledger.audit().unwrap();
    assert_eq!((*ledger.counts(), ledger.free_blocks(MAX_ORDER)), before);
}

#[test]
fn a_gib_that_came_back_is_broken_up_last() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let block = ledger.allocate_huge(owner(1, HUGE), Purpose::Demand).unwrap();
    let mut held: Vec<_> = (0..5)
        .map(|n| {
            ledger
                .allocate_large(owner(2, n * LARGE), Purpose::Demand)
                .unwrap()
        })
        .collect();
    ledger.release(block).unwrap();
    ledger.release(held.pop().unwrap()).unwrap();
    ledger.audit().unwrap();
    // 511 blocks of the first GiB, of which four are held, and the one behind the second GiB.
    for n in 0..511 - 4 + 1 {
        let large = ledger
            .allocate_large(owner(2, (5 + n) * LARGE), Purpose::Demand)
            .unwrap();
        assert!(!(HUGE..2 * HUGE).contains(&large.first().get()), "{n}");
    }
    let again = ledger.allocate_huge(owner(1, HUGE), Purpose::Demand).unwrap();
    ledger.audit().unwrap();
    assert_eq!(ledger.free_blocks(MAX_ORDER), 0);
    ledger.release(again).unwrap();
    ledger.audit().unwrap();
    let large = ledger.allocate_large(owner(1, 0), Purpose::Demand).unwrap();
    assert_eq!(large.first(), Hfn::new(HUGE), "the lowest of it first");
    ledger.audit().unwrap();
}

#[test]
fn one_frame_in_use_or_a_reserve_keeps_a_gib_from_being_given() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    ledger.set_reserve(ledger.counts().free - HUGE + 1);
    let refused = ledger.allocate_huge(owner(1, 0), Purpose::Demand);
    assert_eq!(refused, Err(Error::HostShort), "the reserve");
    let block = ledger.allocate_huge(owner(1, 0), Purpose::Relief).unwrap();
    ledger.release(block).unwrap();
    ledger.set_reserve(0);
    let last = Hfn::new(2 * HUGE - 1);
    ledger.add_region(last, 1, Region::Metadata).unwrap();
    let refused = ledger.allocate_huge(owner(1, 0), Purpose::Demand);
    assert_eq!(refused, Err(Error::HostShort), "its last frame");
    ledger.audit().unwrap();
}

#[test]
fn a_gib_is_split_into_large_blocks_and_small_frames_and_joined_again() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let first = ledger
        .allocate_huge(owner(2, HUGE), Purpose::Demand)
        .unwrap()
        .first();
    let part = Hfn::new(HUGE + 7 * LARGE);
    let state = |ledger: &Ledger<'_>| ledger.state(Hfn::new(part.get() + 3));
    let not = |frame| Err(Bug::NotThat(frame));
    let its = owner(2, HUGE + 7 * LARGE + 3);
    assert_eq!(ledger.split(part, PageSize::Large), not(part), "a tail");
    ledger.split(first, PageSize::Huge).unwrap();
    assert_eq!(state(&ledger), FrameState::Guest(its, PageSize::Large));
    assert_eq!(ledger.release(claim(HUGE, PageSize::Huge)), not(first));
    assert_eq!(ledger.split(first, PageSize::Huge), not(first), "twice");
    ledger.split(part, PageSize::Large).unwrap();
    assert_eq!(state(&ledger), FrameState::Guest(its, PageSize::Small));
    assert_eq!(ledger.join(first, PageSize::Huge), not(part), "a part in parts");
    ledger.audit().unwrap();
    ledger.join(part, PageSize::Large).unwrap();
    ledger.join(first, PageSize::Huge).unwrap();
    assert_eq!(state(&ledger), FrameState::Guest(its, PageSize::Huge));
    ledger.audit().unwrap();
    ledger.release(claim(HUGE, PageSize::Huge)).unwrap();
    assert_eq!(
        (ledger.counts().guests, ledger.counts().free),
        (0, FRAMES - IMAGE)
    );
}

#[test]
fn a_damaged_gib_is_found() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let _ = ledger.allocate_huge(owner(2, HUGE), Purpose::Demand).unwrap();
    let (head, tail) = (
        usize::try_from(HUGE).unwrap(),
        usize::try_from(2 * HUGE - 1).unwrap(),
    );
    let whole = ledger.records[tail];
    ledger.records[tail] = FrameRecord::RESERVED;
    let found = Corruption::BrokenBlock(Hfn::new(HUGE));
    assert_eq!(ledger.audit(), Err(found), "its last record");
    ledger.records[tail] = whole;
    ledger.audit().unwrap();
    let record = ledger.records[head];
    ledger.records[head] = FrameRecord::owned(record.owner(), HUGE_ORDER - 1).unwrap();
    let found = Corruption::BadRecord(Hfn::new(HUGE));
    assert_eq!(ledger.audit(), Err(found), "a size that no page has");
}

#[derive(Clone, Debug)]
enum Op {
    Allocate(PageSize),
    /// What is owned at its place among all that is owned.
    Release(usize),
    Split(u64, PageSize),
    Join(u64, PageSize),
}

/// What 2 MiB of memory are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    Free,
    /// Owned, as part of a block of this size.
    Owned(Owner, PageSize),
    /// Split, or not all of it free.
    Pieces,
}

/// Blocks are numbered by 2 MiB.
struct World<'m> {
    ledger: Ledger<'m>,
    blocks: Vec<Block>,
    /// Gives every allocation pages of its own.
    next: u64,
}

fn index(block: u64) -> usize {
    usize::try_from(block).unwrap()
}

impl World<'_> {
    fn is_free(&self, first: u64, count: u64) -> bool {
        let range = self.blocks.get(index(first)..index(first + count));
        range.is_some_and(|range| range.iter().all(|block| *block == Block::Free))
    }

    fn give(&mut self, first: u64, size: PageSize, owner: Owner) {
        for n in 0..size.frames() / LARGE {
            let gfn = owner.gfn.checked_add(n * LARGE).unwrap();
            self.blocks[index(first + n)] = Block::Owned(Owner { gfn, ..owner }, size);
        }
    }

    fn allocate(&mut self, size: PageSize) {
        let owner = owner(1, self.next * HUGE);
        self.next += 1;
        let count = size.frames() / LARGE;
        let result = match size {
            PageSize::Huge => self.ledger.allocate_huge(owner, Purpose::Demand),
            _ => self.ledger.allocate_large(owner, Purpose::Demand),
        };
        match result {
            Ok(frame) => {
                assert!(frame.first().get().is_multiple_of(size.frames()) && frame.size() == size);
                let first = frame.first().get() / LARGE;
                assert!(self.is_free(first, count));
                self.give(first, size, owner);
            }
            Err(error) => {
                assert_eq!(error, Error::HostShort);
                let mut starts = (0..self.blocks.len() as u64).step_by(index(count));
                assert!(
                    !starts.any(|first| self.is_free(first, count)),
                    "{size:?} is there"
                );
            }
        }
    }

    /// A block of this size starts here.
    fn owned(&self, first: u64, size: PageSize) -> Option<Owner> {
        let is_aligned = (first * LARGE).is_multiple_of(size.frames());
        match self.blocks.get(index(first)) {
            Some(Block::Owned(owner, its)) if *its == size && is_aligned => Some(*owner),
            _ => None,
        }
    }

    fn release(&mut self, which: usize) {
        let all = (0..self.blocks.len() as u64)
            .flat_map(|first| [PageSize::Large, PageSize::Huge].map(|size| (first, size)));
        let all: Vec<_> = all
            .filter(|(first, size)| self.owned(*first, *size).is_some())
            .collect();
        let Some(&(first, size)) = all.get(which % all.len().max(1)) else {
            return;
        };
        self.ledger.release(claim(first * LARGE, size)).unwrap();
        let end = first + size.frames() / LARGE;
        self.blocks[index(first)..index(end)].fill(Block::Free);
    }

    fn split(&mut self, first: u64, size: PageSize) {
        let owner = self.owned(first, size);
        let result = self.ledger.split(Hfn::new(first * LARGE), size);
        assert_eq!(result.is_ok(), owner.is_some(), "{first} {size:?}");
        match (owner, size) {
            (Some(owner), PageSize::Huge) => {
                for n in 0..LARGE {
                    let gfn = owner.gfn.checked_add(n * LARGE).unwrap();
                    self.give(first + n, PageSize::Large, Owner { gfn, ..owner });
                }
            }
            (Some(_), _) => self.blocks[index(first)] = Block::Pieces,
            (None, _) => {}
        }
    }

    fn join(&mut self, first: u64, size: PageSize) {
        let frame = Hfn::new(first * LARGE);
        let owner = match size {
            PageSize::Huge => self.owned(first, PageSize::Large).filter(|owner| {
                let expected = |n: u64| owner.gfn.checked_add(n * LARGE).unwrap();
                let is_next = |n: u64| {
                    self.owned(first + n, PageSize::Large)
                        == Some(Owner {
                            gfn: expected(n),
                            ..*owner
                        })
                };
                first.is_multiple_of(512) && (0..512).all(is_next)
            }),
            // Split ones are whole: nothing here gives single frames away.
            _ => match self.ledger.state(frame) {
                FrameState::Guest(owner, PageSize::Small) => Some(owner),
                _ => None,
            },
        };
        let result = self.ledger.join(frame, size);
        assert_eq!(result.is_ok(), owner.is_some(), "{first} {size:?}");
        if let Some(owner) = owner {
            self.give(first, size, owner);
        }
    }

    fn check(&self) {
        for (block, state) in (0..).zip(&self.blocks) {
            for frame in [block * LARGE, block * LARGE + 300] {
                let expected = match *state {
                    Block::Free => FrameState::Free,
                    Block::Owned(owner, size) => {
                        let gfn = owner.gfn.checked_add(frame - block * LARGE).unwrap();
                        FrameState::Guest(Owner { gfn, ..owner }, size)
                    }
                    Block::Pieces => continue,
                };
                assert_eq!(self.ledger.state(Hfn::new(frame)), expected, "{frame}");
            }
        }
        let counts = self.ledger.counts();
        assert_eq!((counts.sum(), counts.total), (FRAMES, FRAMES));
    }
}

fn operation() -> impl Strategy<Value = Op> {
    let size = || prop_oneof![Just(PageSize::Large), Just(PageSize::Huge)];
    // Around the starts of the three GiB, where something happens.
    let block = || (0..3_u64, 0..3_u64).prop_map(|(gib, n)| gib * 512 + n);
    prop_oneof![
        4 => size().prop_map(Op::Allocate),
        3 => (0..2000_usize).prop_map(Op::Release),
        3 => (block(), size()).prop_map(|(block, size)| Op::Split(block, size)),
        4 => (block(), size()).prop_map(|(block, size)| Op::Join(block, size)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_sequence_agrees_with_the_model(operations in collection::vec(operation(), 1..40)) {
        let mut records = records();
        let ledger = machine(&mut records);
        let blocks = (0..FRAMES / LARGE).map(|block| match block {
            0 => Block::Pieces,
            _ => Block::Free,
        });
        let mut world = World { ledger, blocks: blocks.collect(), next: 1 };
        for op in operations {
            match op {
                Op::Allocate(size) => world.allocate(size),
                Op::Release(which) => world.release(which),
                Op::Split(block, size) => world.split(block, size),
                Op::Join(block, size) => world.join(block, size),
            }
            world.check();
        }
        world.ledger.audit().unwrap();
    }
}
