//! The table of slots, case by case.

use std::vec::Vec;

use super::memory::Memory;
use crate::ledger::Key;
use crate::swap::{
    Bug, Error, Fingerprint, Location, MAX_REFERENCES, Place, Released, Slot, SlotCounts, Slots,
};
use pleat_types::Hfn;

pub fn slot(location: Location, references: u32) -> Slot {
    Slot {
        location,
        references,
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
        slot(Location::Disk(u32::MAX), 3),
        Slot {
            key: Key(0),
            ..slot(Location::Staged(0), 4)
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
    let disk = slot(Location::Disk(5), 9);
    assert_eq!(slots.allocate(&mut memory, disk), Ok(131_072));
    for number in (0..131_072).step_by(127) {
        let word = Location::Filled(u64::from(number));
        assert_eq!(slots.get(&memory, number).unwrap().location, word);
    }
    assert_eq!(slots.get(&memory, 131_072), Ok(disk));
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
    let second = slots.allocate(&mut memory, slot(Location::Disk(7), 1)).unwrap();
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
    let disk = Released::Last(Location::Disk(7));
    assert_eq!(slots.release_reference(&mut memory, second), Ok(disk));
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
    let staged = slot(Location::Staged(3), 2);
    let number = slots.allocate(&mut memory, staged).unwrap();
    let before = slots.set_location(&mut memory, number, Location::Disk(9));
    assert_eq!(before, Ok(Location::Staged(3)));
    let expected = Slot {
        location: Location::Disk(9),
        ..staged
    };
    assert_eq!(slots.get(&memory, number), Ok(expected));
    assert_eq!((slots.counts().staged, slots.counts().disk), (0, 1));
    slots.audit(&memory).unwrap();
}

#[test]
fn numbers_that_are_no_slot_are_refused() {
    let mut memory = Memory::new(4);
    let mut slots = table(&mut memory, 2);
    let number = slots.allocate(&mut memory, slot(Location::Disk(1), 1)).unwrap();
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
        let refused = slots.allocate(&mut memory, slot(Location::Disk(1), references));
        assert_eq!(refused, Err(Error::Bug(Bug::BadReferences(references))));
    }
    let most = slots.allocate(&mut memory, slot(Location::Disk(1), MAX_REFERENCES));
    let refused = slots.add_reference(&mut memory, most.unwrap());
    assert_eq!(refused, Err(Error::TooManyReferences));
    slots.audit(&memory).unwrap();
}
