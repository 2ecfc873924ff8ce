//! The table of slots, case by case.

use std::vec::Vec;

use super::memory::Memory;
use crate::ledger::{Key, Owner};
use crate::swap::{
    Bug, DiskPlace, Error, Fingerprint, Location, MAX_REFERENCES, Place, Released, Slot, SlotCounts, Slots,
    StagedPlace,
};
use pleat_types::{Gfn, GuestId, Hfn};

pub fn disk(block: u32, write: u32) -> Location {
    Location::Disk(DiskPlace { block, write })
}

fn staged(buffer: u32, write: u32) -> Location {
    Location::Staged(StagedPlace { buffer, write })
}

pub fn slot(location: Location, references: u32) -> Slot {
    Slot {
        location,
        references,
        stamp: 0,
        key: Key(0x8765_4321),
        fingerprint: Fingerprint(*b"0123456789abcdef"),
    }
}

fn table(memory: &mut Memory, frames: u64) -> Slots {
    let mut slots = Slots::new();
    for frame in 0..frames {
        slots.add_frame(memory, Hfn::new(frame)).unwrap();
    }
    slots
}

#[test]
fn all_that_a_slot_has_comes_back() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let all = [
        slot(Location::Filled(u64::MAX), 1),
        slot(Location::Filled(0), MAX_REFERENCES),
        slot(Location::Packed(Place::from_bits(0xffff_ffff_ffff).unwrap()), 2),
        slot(disk(u32::MAX, u32::MAX), 3),
        Slot {
            key: Key(0),
            ..slot(staged(0, u32::MAX), 4)
        },
    ];
    for (number, slot) in (0..).zip(all) {
        assert_eq!(slots.allocate(&mut memory, slot), Ok(number));
    }
    for (number, slot) in (0..).zip(all) {
        assert_eq!(slots.get(&memory, number), Ok(slot));
    }
    let expected = SlotCounts {
        filled: 2,
        packed: 1,
        disk: 1,
        staged: 1,
        clean: 0,
        references: u64::from(MAX_REFERENCES) + 10,
    };
    assert_eq!((*slots.counts(), slots.counts().slots()), (expected, 5));
    slots.audit(&memory).unwrap();
}

#[test]
fn a_table_asks_for_frames() {
    let mut memory = Memory::new(8);
    let mut slots = Slots::new();
    let word = slot(Location::Filled(1), 1);
    assert_eq!(slots.allocate(&mut memory, word), Err(Error::Full));
    for frame in 0..2 {
        assert!(slots.needs_frame(), "a root, and a frame of records");
        slots.add_frame(&mut memory, Hfn::new(frame)).unwrap();
    }
    for number in 0..128 {
        assert!(!slots.needs_frame());
        assert_eq!(slots.allocate(&mut memory, word), Ok(number));
    }
    assert!(slots.needs_frame());
    assert_eq!(slots.allocate(&mut memory, word), Err(Error::Full));
    slots.add_frame(&mut memory, Hfn::new(7)).unwrap();
    assert_eq!(slots.allocate(&mut memory, word), Ok(128));
    let mut frames = Vec::new();
    slots.for_each_frame(&memory, |frame| frames.push(frame.get()));
    assert_eq!((slots.frames(), &frames[..]), (3, &[0, 1, 7][..]));
    let far = Hfn::new(u64::from(u32::MAX));
    assert_eq!(
        slots.add_frame(&mut memory, far),
        Err(Error::Bug(Bug::BadFrame(far)))
    );
    slots.audit(&memory).unwrap();
}

#[test]
fn a_second_root_comes_after_131072_slots() {
    let mut memory = Memory::new(1030);
    let mut slots = table(&mut memory, 1025);
    for number in 0..131_072 {
        let word = slot(Location::Filled(u64::from(number)), 1);
        assert_eq!(slots.allocate(&mut memory, word), Ok(number));
    }
    for frame in [1025, 1026] {
        assert!(slots.needs_frame());
        slots.add_frame(&mut memory, Hfn::new(frame)).unwrap();
    }
    let far = slot(disk(5, 6), 9);
    assert_eq!(slots.allocate(&mut memory, far), Ok(131_072));
    for number in (0..131_072).step_by(127) {
        let word = Location::Filled(u64::from(number));
        assert_eq!(slots.get(&memory, number).unwrap().location, word);
    }
    assert_eq!(slots.get(&memory, 131_072), Ok(far));
    slots.audit(&memory).unwrap();
}

#[test]
fn no_frame_is_taken_when_the_table_is_as_large_as_it_gets() {
    // The same frame again and again: nothing is looked up.
    let mut memory = Memory::new(2);
    let mut slots = Slots::new();
    let (root, leaf) = (Hfn::new(0), Hfn::new(1));
    for n in 0..64 * 1025 {
        let frame = if n % 1025 == 0 { root } else { leaf };
        slots.add_frame(&mut memory, frame).unwrap();
    }
    assert_eq!(slots.add_frame(&mut memory, leaf), Err(Error::Full));
}

#[test]
fn the_last_page_frees_a_slot() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let word = slot(Location::Filled(1), 2);
    let first = slots.allocate(&mut memory, word).unwrap();
    let second = slots.allocate(&mut memory, slot(disk(7, 8), 1)).unwrap();
    slots.add_reference(&mut memory, first).unwrap();
    for expected in [
        Released::Kept,
        Released::Kept,
        Released::Last(Location::Filled(1)),
    ] {
        assert_eq!(slots.release_reference(&mut memory, first), Ok(expected));
        slots.audit(&memory).unwrap();
    }
    assert_eq!(slots.get(&memory, first), Err(Bug::NoSlot(first)));
    let last = Released::Last(disk(7, 8));
    assert_eq!(slots.release_reference(&mut memory, second), Ok(last));
    assert_eq!(*slots.counts(), SlotCounts::default());
    // The last one that was freed is the first that is used again.
    assert_eq!(slots.allocate(&mut memory, word), Ok(second));
    assert_eq!(slots.allocate(&mut memory, word), Ok(first));
    slots.audit(&memory).unwrap();
}

#[test]
fn a_slot_moves() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let before = slot(staged(3, 4), 2);
    let number = slots.allocate(&mut memory, before).unwrap();
    let was = slots.set_location(&mut memory, number, disk(9, 4));
    assert_eq!(was, Ok(staged(3, 4)));
    let expected = Slot {
        location: disk(9, 4),
        ..before
    };
    assert_eq!(slots.get(&memory, number), Ok(expected));
    assert_eq!((slots.counts().staged, slots.counts().disk), (0, 1));
    slots.audit(&memory).unwrap();
}

#[test]
fn numbers_that_are_no_slot_are_refused() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let number = slots.allocate(&mut memory, slot(disk(1, 0), 1)).unwrap();
    let _ = slots.release_reference(&mut memory, number).unwrap();
    for number in [number, 1, 127, 128, 131_072, 1 << 23, u32::MAX] {
        let bug = Bug::NoSlot(number);
        assert_eq!(slots.get(&memory, number), Err(bug));
        assert_eq!(slots.add_reference(&mut memory, number), Err(Error::Bug(bug)));
        assert_eq!(slots.release_reference(&mut memory, number), Err(bug));
        assert_eq!(
            slots.set_location(&mut memory, number, Location::Filled(0)),
            Err(bug)
        );
    }
    for references in [0, MAX_REFERENCES + 1] {
        let refused = slots.allocate(&mut memory, slot(disk(1, 0), references));
        assert_eq!(refused, Err(Error::Bug(Bug::BadReferences(references))));
    }
    let most = slots.allocate(&mut memory, slot(disk(1, 0), MAX_REFERENCES));
    let refused = slots.add_reference(&mut memory, most.unwrap());
    assert_eq!(refused, Err(Error::TooManyReferences));
    slots.audit(&memory).unwrap();
}

#[test]
fn a_stamp_is_only_in_the_pool() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let packed = Location::Packed(Place::from_bits(0xffff_ffff_ffff).unwrap());
    let stamped = Slot {
        stamp: 0xfedc,
        ..slot(packed, 1)
    };
    let number = slots.allocate(&mut memory, stamped).unwrap();
    assert_eq!(slots.get(&memory, number), Ok(stamped));
    assert_eq!(slots.set_location(&mut memory, number, disk(1, 2)), Ok(packed));
    assert_eq!(slots.get(&memory, number).unwrap().stamp, 0);
}

#[test]
fn a_slot_that_is_nobodys_waits_for_its_page() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let number = slots.allocate(&mut memory, slot(disk(1, 2), 1)).unwrap();
    let place = DiskPlace { block: 1, write: 2 };
    let fingerprint = slot(disk(1, 2), 1).fingerprint;
    let page = Owner {
        guest: GuestId(3),
        gfn: Gfn::new(4),
    };
    slots.retire(&mut memory, number, page).unwrap();
    slots.audit(&memory).unwrap();
    assert_eq!(
        slots.clean(&memory, number),
        Ok((place, fingerprint.bound_to(page)))
    );
    assert_eq!((slots.counts().clean, slots.counts().references), (1, 0));
    let bug = Bug::NoSlot(number);
    assert_eq!(slots.get(&memory, number), Err(bug), "no page may name it");
    assert_eq!(slots.add_reference(&mut memory, number), Err(Error::Bug(bug)));
    assert_eq!(slots.release_reference(&mut memory, number), Err(bug));
    assert_eq!(slots.retire(&mut memory, number, page), Err(bug));
    slots.revive(&mut memory, number, Key(7), fingerprint).unwrap();
    let revived = Slot {
        key: Key(7),
        ..slot(disk(1, 2), 1)
    };
    assert_eq!(slots.get(&memory, number), Ok(revived));
    assert_eq!(slots.discard(&mut memory, number), Err(bug), "a page has it");
    slots.retire(&mut memory, number, page).unwrap();
    assert_eq!(slots.discard(&mut memory, number), Ok(1));
    slots.audit(&memory).unwrap();
    assert_eq!(*slots.counts(), SlotCounts::default());
    let word = slots.allocate(&mut memory, slot(Location::Filled(1), 2));
    assert!(
        slots.retire(&mut memory, word.unwrap(), page).is_err(),
        "only one on the disk"
    );
}

#[test]
fn the_oldest_of_the_pool_is_found() {
    let mut memory = Memory::new(6);
    let mut slots = table(&mut memory, 4);
    let place = |n: u64| Place::from_bits(n).unwrap();
    // The clock wraps: the n-th is older the lower n is.
    for n in 0..300_u16 {
        let packed = Slot {
            stamp: n.wrapping_add(65_400),
            ..slot(Location::Packed(place(u64::from(n))), 1)
        };
        slots.allocate(&mut memory, packed).unwrap();
    }
    for n in (0..300).filter(|n| n % 10 != 3) {
        slots.set_location(&mut memory, n, disk(n, 0)).unwrap();
    }
    let now = 65_400_u16.wrapping_add(300);
    let mut found = || slots.oldest_packed(&memory, now).map(|(number, _)| number);
    assert_eq!(
        [found(), found(), found(), found()],
        [Some(3), Some(73), Some(133), Some(193)]
    );
    // The fifth look comes round the end.
    assert_eq!(found(), Some(3));
}
