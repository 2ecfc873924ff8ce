//! Shared frames, their counts and their lists: directed cases.

use std::collections::BTreeSet;
use std::vec::Vec;

use super::memory::Memory;
use super::{FRAMES, machine, owner, records};
use crate::ledger::{Bug, Error, FrameState, Key, Ledger, MAX_SHARERS, Owner, Purpose, Released};
use pleat_types::{GuestId, Hfn, PageSize};

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
        .note_sharers(&mut memory, frame, &[first, second], donor, |_| true)
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
    let last = pleat_types::Share::claim(frame);
    ledger.own_share(&mut memory, last, second).unwrap();
    assert_eq!(ledger.state(frame), FrameState::Guest(second, PageSize::Small));
    assert_eq!(
        (ledger.owner(frame), ledger.key(frame)),
        (Some(second), Some(Key(77)))
    );
    ledger.audit().unwrap();
    let owned = pleat_types::OwnedFrame::claim(frame, PageSize::Small);
    assert_eq!(ledger.release(owned), Err(Bug::Indexed(frame)));
    ledger.clear_indexed(frame).unwrap();
    assert_eq!((ledger.key(frame), ledger.last_key(frame)), (None, Some(Key(77))));
    ledger
        .release(pleat_types::OwnedFrame::claim(frame, PageSize::Small))
        .unwrap();
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
