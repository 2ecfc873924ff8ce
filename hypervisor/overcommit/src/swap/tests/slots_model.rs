//! Random operations on the table of slots against a map.

use std::collections::BTreeMap;

use proptest::collection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::Index;

use super::memory::Memory;
use crate::ledger::Key;
use crate::swap::{Bug, DiskPlace, Error, Fingerprint, Location, Place, Released, Slot, Slots, StagedPlace};
use pleat_types::Hfn;

/// A root, and three frames of records.
const FRAMES: u64 = 4;

#[derive(Clone, Debug)]
enum Op {
    Allocate(Slot, usize),
    Move(Index, Location),
    Add(Index),
    Release(Index, usize),
}

struct World {
    slots: Slots,
    memory: Memory,
    frames: u64,
    model: BTreeMap<u32, Slot>,
}

impl World {
    fn number(&self, which: &Index) -> Option<u32> {
        let count = self.model.len();
        (count > 0).then(|| *self.model.keys().nth(which.index(count)).unwrap())
    }

    fn allocate(&mut self, slot: Slot) {
        if self.slots.needs_frame() && self.frames < FRAMES {
            let frame = Hfn::new(self.frames);
            self.slots.add_frame(&mut self.memory, frame).unwrap();
            self.frames += 1;
        }
        match self.slots.allocate(&mut self.memory, slot) {
            Ok(number) => assert_eq!(self.model.insert(number, slot), None),
            Err(error) => {
                assert_eq!(error, Error::Full);
                assert_eq!(self.model.len() as u64, self.frames.saturating_sub(1) * 128);
            }
        }
    }

    fn release(&mut self, number: u32) {
        let slot = self.model.get_mut(&number).unwrap();
        slot.references -= 1;
        let expected = match slot.references {
            0 => Released::Last(slot.location),
            _ => Released::Kept,
        };
        if slot.references == 0 {
            self.model.remove(&number);
        }
        let released = self.slots.release_reference(&mut self.memory, number);
        assert_eq!(released, Ok(expected));
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Allocate(slot, count) => (0..*count).for_each(|_| self.allocate(*slot)),
            Op::Move(which, location) => {
                if let Some(number) = self.number(which) {
                    let slot = self.model.get_mut(&number).unwrap();
                    let before = self.slots.set_location(&mut self.memory, number, *location);
                    assert_eq!(before, Ok(slot.location));
                    slot.location = *location;
                }
            }
            Op::Add(which) => {
                if let Some(number) = self.number(which) {
                    self.slots.add_reference(&mut self.memory, number).unwrap();
                    self.model.get_mut(&number).unwrap().references += 1;
                }
            }
            Op::Release(which, count) => {
                for _ in 0..*count {
                    if let Some(number) = self.number(which) {
                        self.release(number);
                    }
                }
            }
        }
    }

    fn check(&self) {
        self.slots.audit(&self.memory).unwrap();
        let mut seen = BTreeMap::new();
        let visit = |number, slot: &Slot| assert_eq!(seen.insert(number, *slot), None);
        self.slots.for_each(&self.memory, visit).unwrap();
        assert_eq!(seen, self.model);
        for number in 0..400 {
            let expected = self.model.get(&number).copied().ok_or(Bug::NoSlot(number));
            assert_eq!(self.slots.get(&self.memory, number), expected);
        }
        let references: u64 = self.model.values().map(|slot| u64::from(slot.references)).sum();
        assert_eq!(self.slots.counts().references, references);
        let room = self.frames.saturating_sub(1) * 128 - self.model.len() as u64;
        assert_eq!(u64::from(self.slots.room()), room);
        assert_eq!(self.slots.needs_frame(), room == 0);
    }
}

fn location() -> impl Strategy<Value = Location> {
    prop_oneof![
        any::<u64>().prop_map(Location::Filled),
        (0..1_u64 << 48).prop_map(|bits| Location::Packed(Place::from_bits(bits).unwrap())),
        any::<(u32, u32)>().prop_map(|(block, write)| Location::Disk(DiskPlace { block, write })),
        any::<(u32, u32)>().prop_map(|(buffer, write)| Location::Staged(StagedPlace { buffer, write })),
    ]
}

fn slot() -> impl Strategy<Value = Slot> {
    (location(), 1..4_u32, any::<u32>(), any::<[u8; 16]>()).prop_map(
        |(location, references, key, fingerprint)| Slot {
            location,
            references,
            stamp: 0,
            key: Key(key),
            fingerprint: Fingerprint(fingerprint),
        },
    )
}

fn operation() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (slot(), 1..4_usize).prop_map(|(slot, count)| Op::Allocate(slot, count)),
        1 => (slot(), 1..150_usize).prop_map(|(slot, count)| Op::Allocate(slot, count)),
        2 => (any::<Index>(), location()).prop_map(|(which, location)| Op::Move(which, location)),
        2 => any::<Index>().prop_map(Op::Add),
        4 => (any::<Index>(), 1..8_usize).prop_map(|(which, count)| Op::Release(which, count)),
        1 => (any::<Index>(), 1..300_usize).prop_map(|(which, count)| Op::Release(which, count)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_agrees_with_the_model(operations in collection::vec(operation(), 1..80)) {
        let memory = Memory::new(4);
        let mut world = World { slots: Slots::new(), memory, frames: 0, model: BTreeMap::new() };
        for op in operations {
            world.perform(&op);
            world.check();
        }
        let mut frames = 0;
        world.slots.for_each_frame(&world.memory, |_| frames += 1);
        prop_assert_eq!(frames, world.frames);
    }
}
