//! Shared frames, their counts and their lists: directed cases.

use std::collections::BTreeSet;
use std::vec::Vec;

use super::memory::Memory;
use super::{FRAMES, machine, owner, records};
use crate::ledger::{Bug, Error, FrameState, Key, Ledger, MAX_SHARERS, Owner, Purpose, Released};
use pleat_types::{GuestId, Hfn, OwnedFrame, PageSize, Share};

fn sharers(ledger: &Ledger<'_>, memory: &Memory, frame: Hfn) -> BTreeSet<Owner> {
    let mut all = BTreeSet::new();
    ledger
        .for_each_sharer(memory, frame, |page| {
            all.insert(page);
        })
        .unwrap();
    all
}

#[test]
fn two_pages_share_a_frame_and_the_last_one_owns_it_again() {
    let (mut records, mut memory) = (records(), Memory::new(FRAMES));
    let mut ledger = machine(&mut records);
    let before = *ledger.counts();
    let (first, second) = (owner(1, 10), owner(2, 20));
    let kept = ledger.allocate(first, Purpose::Demand).unwrap();
    let donor = ledger.allocate(second, Purpose::Demand).unwrap();
    let frame = kept.first();
    ledger.set_key(frame, Key(77)).unwrap();
    ledger.set_indexed(frame).unwrap();
    ledger.share(kept).unwrap();
    let share = ledger.add_share(frame).unwrap();
    assert_eq!(ledger.state(frame), FrameState::Shared { sharers: 2 });
    let donor = ledger
        .note_sharers(&mut memory, frame, &[first, second], Some(donor), |_, _| true)
        .unwrap();
    assert_eq!(donor, None, "the first list needs a frame");
    assert_eq!(sharers(&ledger, &memory, frame), [first, second].into());
    let counts = *ledger.counts();
    assert_eq!((counts.shared, counts.lists, counts.guests), (1, 1, 0));
    assert_eq!(
        (ledger.charged_to(GuestId(1)), ledger.charged_to(GuestId(2))),
        (0, 0)
    );
    ledger.audit().unwrap();
    assert_eq!(ledger.release_share(&mut memory, share), Ok(Released::Kept));
    let last = Share::claim(frame);
    ledger.own_share(&mut memory, last, second).unwrap();
    assert_eq!(ledger.state(frame), FrameState::Guest(second, PageSize::Small));
    assert_eq!(
        (ledger.owner(frame), ledger.key(frame)),
        (Some(second), Some(Key(77)))
    );
    ledger.audit().unwrap();
    let owned = OwnedFrame::claim(frame, PageSize::Small);
    assert_eq!(ledger.release(owned), Err(Bug::Indexed(frame)));
    ledger.clear_indexed(frame).unwrap();
    assert_eq!((ledger.key(frame), ledger.last_key(frame)), (None, Some(Key(77))));
    ledger.release(OwnedFrame::claim(frame, PageSize::Small)).unwrap();
    assert_eq!(*ledger.counts(), before);
    ledger.audit().unwrap();
}

#[test]
fn a_frame_has_only_so_many_sharers() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let frame = ledger.allocate(owner(1, 1), Purpose::Demand).unwrap();
    let hfn = frame.first();
    ledger.share(frame).unwrap();
    let shares: Vec<_> = (1..MAX_SHARERS).map(|_| ledger.add_share(hfn).unwrap()).collect();
    assert_eq!((ledger.sharers(hfn), shares.len()), (16_383, 16_382));
    assert_eq!(ledger.add_share(hfn), Err(Error::TooManySharers));
    ledger.audit().unwrap();
}

/// A shared frame, the pages that map it, and the memory for their lists.
struct Crowd<'m> {
    ledger: Ledger<'m>,
    memory: Memory,
    frame: Hfn,
    live: BTreeSet<Owner>,
}

impl<'m> Crowd<'m> {
    fn new(mut ledger: Ledger<'m>) -> Self {
        let first = owner(0, 0);
        let frame = ledger.allocate(first, Purpose::Demand).unwrap();
        let mut crowd = Self {
            ledger,
            memory: Memory::new(FRAMES),
            frame: frame.first(),
            live: BTreeSet::new(),
        };
        crowd.ledger.share(frame).unwrap();
        crowd.note(first);
        crowd
    }

    fn note(&mut self, page: Owner) {
        self.live.insert(page);
        let donor = self.ledger.allocate(page, Purpose::Demand).unwrap();
        let is_live = |_: &mut _, page: Owner| self.live.contains(&page);
        let back = self
            .ledger
            .note_sharers(&mut self.memory, self.frame, &[page], Some(donor), is_live)
            .unwrap();
        if let Some(donor) = back {
            self.ledger.release(donor).unwrap();
        }
    }

    /// One more page, that leaves no frame; whether it could be noted.
    fn join_without_a_frame(&mut self, page: Owner) -> Result<(), Error> {
        let share = self.ledger.add_share(self.frame).unwrap();
        let is_live = |_: &mut _, page: Owner| self.live.contains(&page);
        let noted = self
            .ledger
            .note_sharers(&mut self.memory, self.frame, &[page], None, is_live);
        match noted {
            Ok(back) => {
                assert_eq!(back, None);
                self.live.insert(page);
                Ok(())
            }
            Err(error) => {
                let released = self.ledger.release_share(&mut self.memory, share);
                assert_eq!(released, Ok(Released::Kept));
                Err(error)
            }
        }
    }

    fn join(&mut self, page: Owner) {
        let share = self.ledger.add_share(self.frame).unwrap();
        assert_eq!(share.frame(), self.frame);
        self.note(page);
    }

    fn leave(&mut self, page: Owner) -> Released {
        assert!(self.live.remove(&page));
        let share = Share::claim(self.frame);
        self.ledger.release_share(&mut self.memory, share).unwrap()
    }

    fn check(&self) {
        self.ledger.audit().unwrap();
        self.ledger.audit_lists(&self.memory).unwrap();
        let listed = sharers(&self.ledger, &self.memory, self.frame);
        assert!(listed.is_superset(&self.live));
        assert_eq!(
            usize::try_from(self.ledger.sharers(self.frame)),
            Ok(self.live.len())
        );
    }
}

/// All numbers below `count`, in an order that has nothing to do with them: 7,919 is prime.
fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n * 7919 % count)
}

#[test]
fn ten_thousand_sharers_join_and_leave_in_a_few_steps_each() {
    const PAGES: u64 = 10_000;
    let mut records = records();
    let mut crowd = Crowd::new(machine(&mut records));
    let free = crowd.ledger.counts().free;
    let before = crowd.memory.accesses();
    for n in 1..PAGES {
        let seen = crowd.memory.accesses();
        crowd.join(owner(1, n));
        // A whole frame is moved when the largest chunk of a shared frame is full.
        assert!(crowd.memory.accesses() - seen < 4096, "{n}");
    }
    assert!(crowd.memory.accesses() - before < 16 * PAGES);
    crowd.check();
    // Nothing but whole frames is left of what the list went through.
    assert_eq!(crowd.ledger.counts().lists, PAGES.div_ceil(1023));
    assert_eq!(crowd.ledger.counts().free, free + 1 - PAGES.div_ceil(1023));
    let before = crowd.memory.accesses();
    for n in shuffled(PAGES - 1).map(|n| n + 1) {
        assert_eq!(crowd.leave(owner(1, n)), Released::Kept);
    }
    assert_eq!(crowd.memory.accesses(), before, "the list is left alone");
    crowd.check();
    let before = crowd.memory.accesses();
    assert_eq!(crowd.leave(owner(0, 0)), Released::Freed);
    assert!(crowd.memory.accesses() - before < 256);
    let counts = crowd.ledger.counts();
    assert_eq!((counts.shared, counts.lists, counts.guests), (0, 0, 0));
    crowd.ledger.audit().unwrap();
    crowd.ledger.audit_lists(&crowd.memory).unwrap();
}

#[test]
fn a_page_that_leaves_no_frame_is_noted_where_there_is_room_and_else_nothing_changes() {
    let mut records = records();
    let mut crowd = Crowd::new(machine(&mut records));
    let mut refused = 0;
    for n in 1..3000 {
        let page = owner(1, n);
        let before = *crowd.ledger.counts();
        if let Err(error) = crowd.join_without_a_frame(page) {
            assert_eq!((error, *crowd.ledger.counts()), (Error::HostShort, before));
            crowd.check();
            crowd.join(page);
            refused += 1;
        }
    }
    crowd.check();
    // It grows through the classes, and then by whole frames.
    assert!((3..20).contains(&refused), "{refused}");
}

#[test]
fn pages_that_come_and_go_do_not_make_a_list_long() {
    const STEPS: u64 = 5_000;
    // Two pages are in a small chunk, 3,000 in a chain of frames.
    for pages in [2, 40, 700, 3000] {
        let mut records = records();
        let mut crowd = Crowd::new(machine(&mut records));
        (1..pages).for_each(|n| crowd.join(owner(1, n)));
        let before = crowd.memory.accesses();
        for n in 0..STEPS {
            // The same few pages again and again, and now and then one that never comes back.
            let page = owner(1, 1 + n % 3 % (pages - 1));
            crowd.leave(page);
            crowd.join(page);
            if n % 5 == 0 {
                crowd.join(owner(2, n));
                crowd.leave(owner(2, n));
            }
        }
        // Heapsort takes about 2 n log n steps of up to five accesses, for every n / 3 pages.
        let each = (crowd.memory.accesses() - before) / STEPS;
        assert!(each < 1000, "{each} accesses a page, of {pages}");
        let mut listed = 0;
        let visit = |_| listed += 1;
        crowd
            .ledger
            .for_each_sharer(&crowd.memory, crowd.frame, visit)
            .unwrap();
        // Chunks grow by up to twice, and a whole frame is only looked at when it is full.
        assert!(listed < 2 * pages + 1023, "{listed} in a list of {pages}");
        crowd.check();
    }
}

#[test]
fn mistakes_with_shares_are_bugs_and_change_nothing() {
    let (mut records, mut memory) = (records(), Memory::new(FRAMES));
    let mut ledger = machine(&mut records);
    let small = |frame| OwnedFrame::claim(frame, PageSize::Small);
    let frame = ledger.allocate(owner(1, 1), Purpose::Demand).unwrap().first();
    let other = ledger.allocate(owner(1, 2), Purpose::Demand).unwrap().first();
    let table = ledger.allocate_table(GuestId(1), Purpose::Demand).unwrap();
    let large = ledger.allocate_large(owner(1, 512), Purpose::Demand).unwrap();
    let not = Bug::NotThat;
    assert_eq!(ledger.share(small(table)), Err(not(table)));
    let block = OwnedFrame::claim(large.first(), PageSize::Large);
    assert_eq!(ledger.share(block), Err(Bug::BadBlock(large.first())));
    assert_eq!(ledger.share(small(large.first())), Err(not(large.first())));
    assert_eq!(ledger.set_key(large.first(), Key(1)), Err(not(large.first())));
    assert_eq!(ledger.add_share(frame), Err(Error::Bug(not(frame))));
    for far in [owner(64, 0), owner(0, 1 << 26), owner(63, (1 << 26) - 1)] {
        let far_frame = ledger.allocate(far, Purpose::Demand).unwrap().first();
        assert_eq!(ledger.share(small(far_frame)), Err(Bug::BadOwner(far)));
        ledger.release(small(far_frame)).unwrap();
    }
    ledger.share(small(frame)).unwrap();
    let counts = *ledger.counts();
    assert_eq!(ledger.share(small(frame)), Err(not(frame)), "twice");
    assert_eq!(ledger.release(small(frame)), Err(not(frame)), "shared");
    assert_eq!(ledger.set_changes(frame, 1), Err(not(frame)), "shared");
    let mut note = |pages: &[Owner], donor| {
        let donor = OwnedFrame::claim(donor, PageSize::Small);
        ledger.note_sharers(&mut memory, frame, pages, Some(donor), |_, _| true)
    };
    let three = [owner(1, 1), owner(1, 2), owner(1, 3)];
    assert_eq!(note(&three, other), Err(Bug::TooManyPages.into()));
    assert_eq!(note(&three[..1], table), Err(not(table).into()));
    assert_eq!(note(&three[..1], frame), Err(not(frame).into()));
    let share = ledger.add_share(frame).unwrap();
    let owned = ledger.own_share(&mut memory, share, owner(1, 1));
    assert_eq!(owned, Err(not(frame)), "two have it");
    let share = || Share::claim(frame);
    assert_eq!(ledger.release_share(&mut memory, share()), Ok(Released::Kept));
    ledger.set_indexed(frame).unwrap();
    assert_eq!(ledger.set_key(frame, Key(1)), Err(Bug::Indexed(frame)));
    let released = ledger.release_share(&mut memory, share());
    assert_eq!(released, Err(Bug::Indexed(frame)));
    assert_eq!((*ledger.counts(), ledger.sharers(frame)), (counts, 1));
    ledger.audit().unwrap();
    ledger.clear_indexed(frame).unwrap();
    assert_eq!(ledger.release_share(&mut memory, share()), Ok(Released::Freed));
    let again = ledger.release_share(&mut memory, share());
    assert_eq!(again, Err(not(frame)));
    ledger.audit().unwrap();
}

#[test]
fn parts_of_a_block_are_not_in_the_index_and_what_is_there_is_not_joined() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let first = ledger
        .allocate_large(owner(1, 512), Purpose::Demand)
        .unwrap()
        .first();
    ledger.split(first, PageSize::Large).unwrap();
    let part = Hfn::new(first.get() + 5);
    assert_eq!((ledger.key(part), ledger.changes(part)), (None, 0));
    assert_eq!(ledger.owner(part), Some(owner(1, 517)));
    ledger.set_key(part, Key(u32::MAX)).unwrap();
    ledger.set_changes(part, 9).unwrap();
    ledger.set_indexed(part).unwrap();
    assert_eq!((ledger.key(part), ledger.changes(part)), (Some(Key(u32::MAX)), 7));
    assert_eq!(ledger.join(first, PageSize::Large), Err(Bug::Indexed(part)));
    ledger.clear_indexed(part).unwrap();
    ledger.join(first, PageSize::Large).unwrap();
    assert_eq!(ledger.owner(part), Some(owner(1, 517)));
    ledger.audit().unwrap();
}
