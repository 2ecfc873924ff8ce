//! Random merges and breaks against a model that has the true set of pages for each shared frame.

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use proptest::collection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::memory::Memory;
use super::{FRAMES, machine, owner, records};
use crate::ledger::{Counts, Error, Ledger, Owner, Purpose, Released};
use pleat_types::{Hfn, OwnedFrame, PageSize, Share};

const GUESTS: u16 = 4;
const PAGES: u64 = 700;

#[derive(Clone, Debug)]
enum Op {
    /// Two pages become equal.
    Merge(u16, u64),
    /// So many pages in a row join a shared frame.
    Join(usize, u16, u64, u64),
    /// So many pages, by their place among those that share something, are written.
    Break(usize, usize),
    /// All pages of a guest go.
    End(u16),
}

struct World<'m> {
    ledger: Ledger<'m>,
    memory: Memory,
    /// Which frame each page maps.
    pages: BTreeMap<Owner, Hfn>,
    before: Counts,
}

impl World<'_> {
    fn frames(&self) -> Vec<Hfn> {
        let frames: BTreeSet<_> = self.pages.values().copied().collect();
        frames.into_iter().collect()
    }

    fn sharers(&self, frame: Hfn) -> BTreeSet<Owner> {
        let maps = self.pages.iter().filter(|(_, its)| **its == frame);
        maps.map(|(page, _)| *page).collect()
    }

    fn note(&mut self, frame: Hfn, pages: &[Owner], donor: OwnedFrame) {
        self.pages.extend(pages.iter().map(|page| (*page, frame)));
        let is_live = |_: &mut _, page: Owner| self.pages.get(&page) == Some(&frame);
        let back = self
            .ledger
            .note_sharers(&mut self.memory, frame, pages, Some(donor), is_live);
        if let Some(donor) = back.unwrap() {
            self.ledger.release(donor).unwrap();
        }
    }

    fn merge(&mut self, first: Owner, second: Owner) {
        [first, second].into_iter().for_each(|page| self.leave(page));
        let frame = self.ledger.allocate(first, Purpose::Demand).unwrap();
        let donor = self.ledger.allocate(second, Purpose::Demand).unwrap();
        let hfn = frame.first();
        self.ledger.share(frame).unwrap();
        assert_eq!(self.ledger.add_share(hfn), Ok(Share::claim(hfn)));
        self.note(hfn, &[first, second], donor);
    }

    fn join(&mut self, frame: Hfn, page: Owner) {
        if self.pages.get(&page) == Some(&frame) {
            return;
        }
        self.leave(page);
        let donor = self.ledger.allocate(page, Purpose::Demand).unwrap();
        match self.ledger.add_share(frame) {
            Ok(share) => {
                assert_eq!(share, Share::claim(frame));
                self.note(frame, &[page], donor);
            }
            // The last page that it had was the one that left.
            Err(error) => {
                assert!(matches!(error, Error::Bug(_)) && self.sharers(frame).is_empty());
                self.ledger.release(donor).unwrap();
            }
        }
    }

    /// The page has a frame of its own afterwards, and gives it back: by a copy when others share its
    /// frame, now and then by owning the frame when not.
    fn leave(&mut self, page: Owner) {
        let Some(frame) = self.pages.remove(&page) else {
            return;
        };
        let share = Share::claim(frame);
        if self.ledger.sharers(frame) == 1 && page.gfn.get().is_multiple_of(2) {
            self.ledger.own_share(&mut self.memory, share, page).unwrap();
            assert_eq!(self.ledger.owner(frame), Some(page));
            let owned = OwnedFrame::claim(frame, PageSize::Small);
            return self.ledger.release(owned).unwrap();
        }
        let expected = match self.sharers(frame).len() {
            0 => Released::Freed,
            _ => Released::Kept,
        };
        let released = self.ledger.release_share(&mut self.memory, share);
        assert_eq!(released, Ok(expected));
    }

    fn perform(&mut self, op: &Op) {
        match *op {
            Op::Merge(guest, gfn) => self.merge(owner(guest, gfn), owner(guest, (gfn + 1) % PAGES)),
            Op::Join(which, guest, gfn, count) => {
                let frames = self.frames();
                if let Some(frame) = frames.get(which % frames.len().max(1)) {
                    let pages = (gfn..gfn + count).map(|gfn| owner(guest, gfn % PAGES));
                    pages.for_each(|page| self.join(*frame, page));
                }
            }
            Op::Break(which, count) => {
                let pages: Vec<_> = self.pages.keys().copied().collect();
                let start = which % pages.len().max(1);
                let written = pages.into_iter().cycle().skip(start).take(count);
                written.for_each(|page| self.leave(page));
            }
            Op::End(guest) => {
                let pages: Vec<_> = self.pages.keys().copied().collect();
                let its = pages.into_iter().filter(|page| page.guest.0 == guest);
                its.for_each(|page| self.leave(page));
            }
        }
    }

    fn check(&self) {
        self.ledger.audit().unwrap();
        self.ledger.audit_lists(&self.memory).unwrap();
        let frames = self.frames();
        for frame in &frames {
            let expected = self.sharers(*frame);
            let mut listed = BTreeSet::new();
            let visit = |page| {
                listed.insert(page);
            };
            self.ledger.for_each_sharer(&self.memory, *frame, visit).unwrap();
            assert!(listed.is_superset(&expected), "{frame}");
            assert_eq!(usize::try_from(self.ledger.sharers(*frame)), Ok(expected.len()));
        }
        assert_eq!(usize::try_from(self.ledger.shares()), Ok(self.pages.len()));
        let counts = *self.ledger.counts();
        assert_eq!(counts.shared, frames.len() as u64);
        assert_eq!(counts.free + counts.shared + counts.lists, self.before.free);
        if frames.is_empty() {
            assert_eq!(counts, self.before);
        }
    }
}

fn operation() -> impl Strategy<Value = Op> {
    let (guest, gfn) = (0..GUESTS, 0..PAGES);
    prop_oneof![
        4 => (guest.clone(), gfn.clone()).prop_map(|(guest, gfn)| Op::Merge(guest, gfn)),
        6 => (any::<usize>(), guest.clone(), gfn.clone(), 1..8_u64)
            .prop_map(|(which, guest, gfn, count)| Op::Join(which, guest, gfn, count)),
        3 => (any::<usize>(), guest.clone(), gfn, 1..PAGES)
            .prop_map(|(which, guest, gfn, count)| Op::Join(which, guest, gfn, count)),
        4 => (any::<usize>(), 1..8_usize).prop_map(|(which, count)| Op::Break(which, count)),
        2 => (any::<usize>(), 1..900_usize).prop_map(|(which, count)| Op::Break(which, count)),
        1 => guest.prop_map(Op::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_sequence_of_merges_and_breaks_agrees_with_the_model(
        operations in collection::vec(operation(), 1..60),
    ) {
        let mut records = records();
        let ledger = machine(&mut records);
        let before = *ledger.counts();
        let memory = Memory::new(FRAMES);
        let mut world = World { ledger, memory, pages: BTreeMap::new(), before };
        for op in operations {
            world.perform(&op);
            world.check();
        }
        (0..GUESTS).for_each(|guest| world.perform(&Op::End(guest)));
        world.check();
    }
}
