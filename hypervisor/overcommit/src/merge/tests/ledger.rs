//! The index over the ledger's records.

use std::vec;
use std::vec::Vec;

use pleat_types::{Gfn, GuestId, Hfn, OwnedFrame};

use crate::ledger::{Bug, FrameRecord, Key, Ledger, Owner, Purpose, Region};
use crate::merge::{Index, Inserted, Mismatch};

const FRAMES: u64 = 2048;

fn records() -> Vec<FrameRecord> {
    vec![FrameRecord::RESERVED; 2048]
}

fn ledger(records: &mut [FrameRecord]) -> Ledger<'_> {
    let mut ledger = Ledger::new(records).unwrap();
    ledger
        .add_region(Hfn::new(8), FRAMES - 8, Region::Usable)
        .unwrap();
    ledger
}

fn allocate(ledger: &mut Ledger<'_>, gfn: u64) -> OwnedFrame {
    let owner = Owner {
        guest: GuestId(1),
        gfn: Gfn::new(gfn),
    };
    ledger.allocate(owner, Purpose::Demand).unwrap()
}

#[test]
fn a_frame_is_found_until_it_leaves_and_goes_back_only_then() {
    let mut records = records();
    let mut ledger = ledger(&mut records);
    let mut index = Index::new(FRAMES).unwrap();
    let owned = allocate(&mut ledger, 5);
    let frame = owned.first();
    assert_eq!(index.insert(&mut ledger, frame, Key(77)), Inserted::Indexed);
    assert_eq!(ledger.key(frame), Some(Key(77)));
    assert!(index.find(&ledger, Key(77)).eq([frame]));
    assert_eq!(index.find(&ledger, Key(78)).count(), 0);
    index.audit(&ledger).unwrap();
    let again = OwnedFrame::claim(frame, owned.size());
    assert_eq!(ledger.release(owned), Err(Bug::Indexed(frame)));
    index.remove(&mut ledger, frame);
    index.remove(&mut ledger, frame);
    assert_eq!(index.find(&ledger, Key(77)).count(), 0);
    assert_eq!(ledger.key(frame), None);
    ledger.release(again).unwrap();
    index.audit(&ledger).unwrap();
}

#[test]
fn it_stays_when_its_frame_becomes_shared() {
    let mut records = records();
    let mut ledger = ledger(&mut records);
    let mut index = Index::new(FRAMES).unwrap();
    let owned = allocate(&mut ledger, 5);
    let frame = owned.first();
    assert_eq!(index.insert(&mut ledger, frame, Key(77)), Inserted::Indexed);
    ledger.share(owned).unwrap();
    assert!(index.find(&ledger, Key(77)).eq([frame]));
    index.audit(&ledger).unwrap();
    index.remove(&mut ledger, frame);
    assert_eq!(ledger.key(frame), None);
    // A frame that is shared already can be inserted too.
    assert_eq!(index.insert(&mut ledger, frame, Key(78)), Inserted::Indexed);
    assert!(index.find(&ledger, Key(78)).eq([frame]));
    index.audit(&ledger).unwrap();
}

#[test]
fn only_frames_with_content_of_a_guest_get_in() {
    let mut records = records();
    let mut ledger = ledger(&mut records);
    let mut index = Index::new(FRAMES).unwrap();
    let table = ledger.allocate_table(GuestId(1), Purpose::Demand).unwrap();
    let zero = ledger.allocate_zero().unwrap();
    let free = Hfn::new(FRAMES - 1);
    for frame in [
        table,
        zero,
        free,
        Hfn::new(0),
        Hfn::new(FRAMES),
        Hfn::new(u64::MAX),
    ] {
        assert_eq!(
            index.insert(&mut ledger, frame, Key(1)),
            Inserted::Refused,
            "{frame}"
        );
    }
    assert!(index.is_empty());
    index.audit(&ledger).unwrap();
}

#[test]
fn a_record_behind_its_back_is_seen() {
    let mut records = records();
    let mut ledger = ledger(&mut records);
    let mut index = Index::new(FRAMES).unwrap();
    let frame = allocate(&mut ledger, 5).first();
    index.insert(&mut ledger, frame, Key(77));
    ledger.clear_indexed(frame).unwrap();
    let (entries, records) = (1, 0);
    assert_eq!(index.audit(&ledger), Err(Mismatch::Stray { entries, records }));
    // It is not proposed then.
    assert_eq!(index.find(&ledger, Key(77)).count(), 0);
    ledger.set_key(frame, Key(3)).unwrap();
    ledger.set_indexed(frame).unwrap();
    assert_eq!(index.audit(&ledger), Err(Mismatch::Missing(frame)));
}
