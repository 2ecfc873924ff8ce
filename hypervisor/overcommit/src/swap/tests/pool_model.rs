//! Random operations on the pool against a map from slots to bytes.

use std::collections::{BTreeMap, HashMap};
use std::vec::Vec;

use proptest::collection;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::Index;

use super::Numbers;
use super::memory::Memory;
use crate::swap::{Error, MAX_OBJECT, Place, Pool, Step};
use pleat_types::{FRAME_SIZE, Hfn};

const FRAMES: u64 = 600;

#[derive(Clone, Debug)]
enum Op {
    /// An object with so many bytes.
    Store(usize),
    /// An object, by its place among those that there are.
    Free(Index),
    /// So many of those that there are.
    FreeMany(Index, usize),
    Compact,
}

struct World {
    pool: Pool,
    memory: Memory,
    free: Vec<Hfn>,
    objects: BTreeMap<u32, (Place, Vec<u8>)>,
    next: u32,
    numbers: Numbers,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            pool: Pool::new(),
            memory: Memory::new(usize::try_from(FRAMES).unwrap()),
            free: (0..FRAMES).map(Hfn::new).collect(),
            objects: BTreeMap::new(),
            next: 0,
            numbers: Numbers(seed),
        }
    }

    fn store(&mut self, length: usize) {
        let bytes = self.numbers.bytes(length);
        let mut donor = self.free.pop();
        let (has_room, had_donor) = (self.pool.has_room(length), donor.is_some());
        let stored = self.pool.store(&mut self.memory, self.next, &bytes, &mut donor);
        assert_eq!(
            donor.is_some(),
            had_donor && has_room,
            "a donor is taken only without room"
        );
        self.free.extend(donor);
        match stored {
            Ok(place) => {
                self.objects.insert(self.next, (place, bytes));
                self.next += 1;
            }
            Err(error) => assert!(error == Error::Full && self.free.is_empty()),
        }
    }

    fn free(&mut self, which: usize) {
        let slot = self.objects.keys().nth(which % self.objects.len().max(1));
        if let Some(slot) = slot.copied() {
            let (place, _) = self.objects.remove(&slot).unwrap();
            self.free.extend(self.pool.free(&mut self.memory, place).unwrap());
        }
    }

    fn compact(&mut self) -> Step {
        let objects = &mut self.objects;
        let step = self.pool.compact(&mut self.memory, |_, slot, from, to| {
            let (place, _) = objects.get_mut(&slot).unwrap();
            assert!(*place == from && from != to);
            *place = to;
            Ok(())
        });
        if let Ok(Step::Freed(frame)) = step {
            self.free.push(frame);
        }
        step.unwrap()
    }

    /// Until there is nothing to gain; how many steps that took.
    fn compact_all(&mut self) -> usize {
        let steps = core::iter::repeat_with(|| self.compact());
        steps.take_while(|step| *step != Step::Nothing).count()
    }

    fn perform(&mut self, op: &Op) {
        match op {
            Op::Store(length) => self.store(*length),
            Op::Free(which) => self.free(which.index(1 << 20)),
            Op::FreeMany(which, count) => {
                (0..*count).for_each(|n| self.free(which.index(1 << 20) + n * 7));
            }
            Op::Compact => {
                self.compact();
            }
        }
    }

    fn check(&self) {
        self.pool.audit(&self.memory).unwrap();
        let counts = self.pool.counts();
        assert_eq!(counts.frames + self.free.len() as u64, FRAMES);
        assert_eq!(counts.objects, self.objects.len() as u64);
        let mut out = [0; FRAME_SIZE];
        for (slot, (place, bytes)) in &self.objects {
            let length = self.pool.load(&self.memory, *place, &mut out).unwrap();
            assert!(out[..length] == **bytes, "slot {slot}");
            assert_eq!(self.pool.slot(&self.memory, *place), Ok(*slot));
        }
        let mut seen = HashMap::new();
        let visit = |slot, place, length| {
            seen.insert(slot, (place, length));
        };
        self.pool.for_each_object(&self.memory, visit).unwrap();
        assert_eq!(seen.len(), self.objects.len());
        let total: usize = seen.values().map(|(_, length)| length).sum();
        assert_eq!(counts.bytes, total as u64);
    }

    /// Frames for each frame's worth of bytes, in hundredths.
    fn spread(&self) -> u64 {
        let counts = self.pool.counts();
        counts.frames * 100 * FRAME_SIZE as u64 / counts.bytes.max(1)
    }

    fn is_dense(&self) -> bool {
        let counts = self.pool.counts();
        counts.frames * 100 <= counts.bytes * 125 / FRAME_SIZE as u64 + 300
    }
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 100..=3072_usize,
        2 => 1..100_usize,
        1 => 3000..=MAX_OBJECT,
    ]
}

fn operation() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => length().prop_map(Op::Store),
        3 => any::<Index>().prop_map(Op::Free),
        1 => (any::<Index>(), 1..30_usize).prop_map(|(which, count)| Op::FreeMany(which, count)),
        2 => proptest::strategy::Just(Op::Compact),
    ]
}

/// What LZ4 makes of guests' pages: many a third to a half of a page, some tiny, some as much as is let through.
fn realistic(numbers: &mut Numbers) -> usize {
    match numbers.below(10) {
        0 => 40 + numbers.below(200),
        1..=3 => 300 + numbers.below(1000),
        4..=7 => 1000 + numbers.below(1200),
        _ => 2000 + numbers.below(1072),
    }
}

#[test]
fn realistic_lengths_fill_frames() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        while world.pool.counts().frames < 400 {
            let length = realistic(&mut world.numbers);
            world.store(length);
        }
        let stored = world.spread();
        (0..world.objects.len() / 2).for_each(|n| world.free(n * 7919));
        let freed = world.spread();
        let steps = world.compact_all();
        world.check();
        let compacted = world.spread();
        std::println!("spread: {stored} % stored, {freed} % half freed, {compacted} % after {steps} steps");
        assert!(stored < 115 && world.is_dense() && compacted < 115);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_agrees_with_the_model(seed in any::<u64>(), operations in collection::vec(operation(), 1..150)) {
        let mut world = World::new(seed);
        for op in operations {
            world.perform(&op);
            world.check();
        }
        while !world.objects.is_empty() {
            world.free(0);
        }
        world.check();
        prop_assert!(world.free.len() as u64 == FRAMES);
    }

    #[test]
    fn compaction_ends_and_leaves_few_frames(seed in any::<u64>(), count in 100..500_usize, gone in 0..450_usize) {
        let mut world = World::new(seed);
        for _ in 0..count {
            let length = realistic(&mut world.numbers);
            world.store(length);
        }
        for _ in 0..gone.min(count - 20) {
            let which = world.numbers.below(count);
            world.free(which);
        }
        world.compact_all();
        world.check();
        prop_assert!(world.is_dense(), "{:?}", world.pool.counts());
    }
}
