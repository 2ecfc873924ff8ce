//! Random operations against a model that has one state for each frame and no allocator at all.

use std::vec;
use std::vec::Vec;

use proptest::collection;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{BUNDLE, FRAMES, machine, owner, records};
use crate::ledger::{Error, FrameState, Ledger, Purpose};
use pleat_types::{GuestId, Hfn, OwnedFrame, PageSize};

const GUESTS: u16 = 3;
const RESERVE: u64 = 40;

#[derive(Clone, Debug)]
enum Op {
    Allocate(u16, u64),
    Large(u16, u64),
    /// As many at once, so that memory gets short.
    Many(u16, u64, u64),
    Table(u16, bool),
    Vcpu(u16),
    /// With whatever is at the frame, or not: most of these are mistakes.
    Release(u64, PageSize),
    /// What a page owns, by its place among all that is owned.
    ReleaseOwned(usize),
    ReleaseTable(u64),
    ReleaseBundle(u64),
    GiveBundle(u64, PageSize, u16),
    Split(usize),
    Join(u64),
    Swap(bool),
    /// What a page owns, by its place among all that is owned, becomes the swap store's.
    Donate(usize),
    ReleaseSwap(u64),
}

/// The state of each frame, as [`Ledger::state`] is to say it.
struct Model {
    frames: Vec<FrameState>,
}

fn index(frame: u64) -> usize {
    usize::try_from(frame).unwrap()
}

impl Model {
    fn free(&self) -> u64 {
        self.frames
            .iter()
            .filter(|state| **state == FrameState::Free)
            .count() as u64
    }

    fn is_free(&self, first: u64, count: u64) -> bool {
        let block = self.frames.get(index(first)..index(first + count));
        block.is_some_and(|block| block.iter().all(|state| *state == FrameState::Free))
    }

    /// What a block of this size that starts here belongs to, if it is a whole one.
    fn owned(&self, first: u64, size: PageSize) -> Option<super::Owner> {
        match self.frames.get(index(first)) {
            Some(FrameState::Guest(owner, its)) if *its == size && first.is_multiple_of(size.frames()) => {
                Some(*owner)
            }
            _ => None,
        }
    }

    /// The large block that holds a frame, if one does, is in parts from now on.
    fn split_around(&mut self, frame: u64) -> bool {
        let is_large = |state: &FrameState| matches!(state, FrameState::Guest(_, PageSize::Large));
        let has_block = self.frames.get(index(frame)).is_some_and(is_large);
        if has_block {
            let first = index(frame - frame % 512);
            for state in &mut self.frames[first..first + 512] {
                if let FrameState::Guest(_, size) = state {
                    *size = PageSize::Small;
                }
            }
        }
        has_block
    }

    fn all_owned(&self) -> Vec<(u64, PageSize)> {
        let sizes = [PageSize::Small, PageSize::Large];
        let all = (0..FRAMES).flat_map(|frame| sizes.map(|size| (frame, size)));
        all.filter(|(frame, size)| self.owned(*frame, *size).is_some())
            .collect()
    }

    fn give(&mut self, first: u64, size: PageSize, to: super::Owner) {
        for n in 0..size.frames() {
            let gfn = to.gfn.checked_add(n).unwrap();
            self.frames[index(first + n)] = FrameState::Guest(super::Owner { gfn, ..to }, size);
        }
    }

    fn clear(&mut self, first: u64, count: u64) {
        self.frames[index(first)..index(first + count)].fill(FrameState::Free);
    }
}

struct World<'m> {
    ledger: Ledger<'m>,
    model: Model,
}

impl World<'_> {
    /// What is allocated was free, and nothing is refused that there is room for.
    fn allocate(&mut self, guest: u16, gfn: u64, size: PageSize) {
        let owner = owner(guest, gfn);
        let result = match size {
            PageSize::Small => self.ledger.allocate(owner, Purpose::Demand),
            _ => self.ledger.allocate_large(owner, Purpose::Demand),
        };
        let count = size.frames();
        let is_plenty = self.model.free() >= RESERVE + count;
        match result {
            Ok(frame) => {
                let first = frame.first().get();
                assert!(is_plenty && first.is_multiple_of(count) && self.model.is_free(first, count));
                self.model.give(first, size, owner);
            }
            Err(error) => {
                assert_eq!(error, Error::HostShort);
                let mut starts = (0..FRAMES).filter(|first| first.is_multiple_of(count));
                let is_possible = starts.any(|first| self.model.is_free(first, count));
                assert!(
                    !is_plenty || !is_possible,
                    "refused {size:?} though there was one"
                );
            }
        }
    }

    fn take(&mut self, result: Result<Hfn, Error>, state: FrameState, left: u64) {
        match result {
            Ok(frame) => {
                assert!(self.model.is_free(frame.get(), 1) && self.model.free() > left);
                self.model.frames[index(frame.get())] = state;
            }
            Err(error) => assert!(error == Error::HostShort && self.model.free() <= left),
        }
    }

    fn release(&mut self, first: u64, size: PageSize) {
        let is_part = size == PageSize::Small && self.model.split_around(first);
        let is_right = is_part || self.model.owned(first, size).is_some();
        let result = self.ledger.release(OwnedFrame::claim(Hfn::new(first), size));
        assert_eq!(result.is_ok(), is_right, "{first} {size:?}");
        if is_right {
            self.model.clear(first, size.frames());
        }
    }

    fn give_bundle(&mut self, first: u64, size: PageSize, guest: u16) {
        let block = self.model.frames.get(index(first)..index(first + size.frames()));
        let is_bundle = block.is_some_and(|block| block.iter().all(|state| *state == FrameState::Bundle));
        let is_right = is_bundle && first.is_multiple_of(size.frames());
        let owner = owner(guest, first);
        let result = self.ledger.give_bundle(Hfn::new(first), size, owner);
        assert_eq!(result.is_ok(), is_right, "{first} {size:?}");
        if is_right {
            self.model.give(first, size, owner);
        }
    }

    fn split(&mut self, which: usize) {
        let large: Vec<_> = self
            .model
            .all_owned()
            .into_iter()
            .filter(|(_, size)| *size == PageSize::Large)
            .collect();
        let Some((first, _)) = large.get(which % large.len().max(1)).copied() else {
            return;
        };
        self.ledger.split(Hfn::new(first), PageSize::Large).unwrap();
        assert!(self.model.split_around(first));
    }

    fn join(&mut self, first: u64) {
        let is_right = first.is_multiple_of(512)
            && self.model.owned(first, PageSize::Small).is_some_and(|head| {
                (0..512).all(|n| {
                    let expected = super::Owner {
                        gfn: head.gfn.checked_add(n).unwrap(),
                        ..head
                    };
                    first + n < FRAMES && self.model.owned(first + n, PageSize::Small) == Some(expected)
                })
            });
        let result = self.ledger.join(Hfn::new(first), PageSize::Large);
        assert_eq!(result.is_ok(), is_right, "{first}");
        if is_right {
            let head = self.model.owned(first, PageSize::Small).unwrap();
            self.model.give(first, PageSize::Large, head);
        }
    }

    fn donate(&mut self, which: usize) {
        let owned = self.model.all_owned();
        let Some((first, size)) = owned.get(which % owned.len().max(1)).copied() else {
            return;
        };
        let donated = self
            .ledger
            .donate_to_swap(OwnedFrame::claim(Hfn::new(first), size));
        assert_eq!(donated.is_ok(), size == PageSize::Small);
        if donated.is_ok() {
            self.model.frames[index(first)] = FrameState::Swap;
        }
    }

    /// Gives one frame back that must be in this state.
    fn give_back(&mut self, frame: u64, is_right: bool, is_ok: bool) {
        assert_eq!(is_ok, is_right, "{frame}");
        if is_right {
            self.model.clear(frame, 1);
        }
    }

    fn perform(&mut self, op: &Op) {
        match *op {
            Op::Allocate(guest, gfn) => self.allocate(guest, gfn, PageSize::Small),
            Op::Large(guest, gfn) => self.allocate(guest, gfn, PageSize::Large),
            Op::Many(guest, gfn, count) => {
                (0..count).for_each(|n| self.allocate(guest, gfn + n, PageSize::Small));
            }
            Op::Table(guest, is_relief) => {
                let (purpose, left) = purpose_of(is_relief);
                let result = self.ledger.allocate_table(GuestId(guest), purpose);
                self.take(result, FrameState::Table(GuestId(guest)), left);
            }
            Op::Vcpu(guest) => {
                let result = self.ledger.allocate_vcpu(GuestId(guest));
                self.take(result, FrameState::Vcpu(GuestId(guest)), RESERVE);
            }
            Op::Release(frame, size) => self.release(frame, size),
            Op::ReleaseOwned(which) => {
                let owned = self.model.all_owned();
                if let Some((first, size)) = owned.get(which % owned.len().max(1)) {
                    self.release(*first, *size);
                }
            }
            Op::ReleaseTable(frame) => {
                let is_right = matches!(self.model.frames[index(frame)], FrameState::Table(_));
                let is_ok = self.ledger.release_table(Hfn::new(frame)).is_ok();
                self.give_back(frame, is_right, is_ok);
            }
            Op::ReleaseBundle(frame) => {
                let is_right = self.model.frames[index(frame)] == FrameState::Bundle;
                let is_ok = self.ledger.release_bundle(Hfn::new(frame)).is_ok();
                self.give_back(frame, is_right, is_ok);
            }
            Op::GiveBundle(first, size, guest) => self.give_bundle(first, size, guest),
            Op::Split(which) => self.split(which),
            Op::Join(first) => self.join(first),
            Op::Swap(is_relief) => {
                let (purpose, left) = purpose_of(is_relief);
                let result = self.ledger.allocate_swap(purpose);
                self.take(result, FrameState::Swap, left);
            }
            Op::Donate(which) => self.donate(which),
            Op::ReleaseSwap(frame) => {
                let is_right = self.model.frames[index(frame)] == FrameState::Swap;
                let is_ok = self.ledger.release_swap(Hfn::new(frame)).is_ok();
                self.give_back(frame, is_right, is_ok);
            }
        }
    }

    fn check(&self) {
        self.ledger.audit().unwrap();
        for frame in 0..FRAMES {
            assert_eq!(
                self.ledger.state(Hfn::new(frame)),
                self.model.frames[index(frame)],
                "{frame}"
            );
        }
        let counts = self.ledger.counts();
        assert_eq!((counts.free, counts.sum()), (self.model.free(), FRAMES - 1));
        for guest in (0..GUESTS).map(GuestId) {
            let is_its = |state: &&FrameState| match state {
                FrameState::Guest(owner, _) => owner.guest == guest,
                FrameState::Table(whose) | FrameState::Vcpu(whose) => *whose == guest,
                _ => false,
            };
            assert_eq!(
                self.ledger.charged_to(guest),
                self.model.frames.iter().filter(is_its).count() as u64
            );
        }
    }
}

fn purpose_of(is_relief: bool) -> (Purpose, u64) {
    if is_relief {
        (Purpose::Relief, 0)
    } else {
        (Purpose::Demand, RESERVE)
    }
}

fn operation() -> impl Strategy<Value = Op> {
    let guest = 0..GUESTS;
    let gfn = 0..4096_u64;
    let size = prop_oneof![4 => Just(PageSize::Small), 1 => Just(PageSize::Large)];
    let bundle = prop_oneof![Just(BUNDLE.0), BUNDLE.0 - 2..BUNDLE.0 + BUNDLE.1 + 2];
    let block = (0..4_u64).prop_map(|block| block * 512);
    prop_oneof![
        4 => (guest.clone(), gfn.clone()).prop_map(|(guest, gfn)| Op::Allocate(guest, gfn)),
        3 => (guest.clone(), gfn.clone()).prop_map(|(guest, gfn)| Op::Large(guest, gfn)),
        2 => (guest.clone(), gfn, 1..400_u64).prop_map(|(guest, gfn, count)| Op::Many(guest, gfn, count)),
        2 => (guest.clone(), any::<bool>()).prop_map(|(guest, is_relief)| Op::Table(guest, is_relief)),
        1 => guest.clone().prop_map(Op::Vcpu),
        2 => (0..FRAMES, size.clone()).prop_map(|(frame, size)| Op::Release(frame, size)),
        6 => any::<usize>().prop_map(Op::ReleaseOwned),
        2 => (0..64_u64).prop_map(Op::ReleaseTable),
        2 => bundle.clone().prop_map(Op::ReleaseBundle),
        2 => (bundle, size, guest).prop_map(|(first, size, guest)| Op::GiveBundle(first, size, guest)),
        2 => any::<usize>().prop_map(Op::Split),
        2 => block.prop_map(Op::Join),
        2 => any::<bool>().prop_map(Op::Swap),
        2 => any::<usize>().prop_map(Op::Donate),
        2 => (0..64_u64).prop_map(Op::ReleaseSwap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_sequence_agrees_with_the_model(operations in collection::vec(operation(), 1..40)) {
        let mut records = records();
        let mut ledger = machine(&mut records);
        ledger.set_reserve(RESERVE);
        let frames = (0..FRAMES).map(|frame| ledger.state(Hfn::new(frame))).collect();
        let mut world = World { ledger, model: Model { frames } };
        for op in operations {
            world.perform(&op);
            world.check();
        }
    }
}
