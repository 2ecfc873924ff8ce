//! The index takes its memory when it is made, and neither asks for any nor gives any back afterwards: the
//! hypervisor's allocator serves the boot only. Counted, over everything that the index can do.

#![forbid(unsafe_code)]

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use pleat_overcommit::merge::{Index, Inserted, Key, Keys};
use pleat_types::Hfn;

const FRAMES: u32 = 5000;

struct Records(Vec<Option<Key>>);

impl Records {
    fn at(&mut self, frame: Hfn) -> &mut Option<Key> {
        &mut self.0[usize::try_from(frame.get()).unwrap()]
    }
}

impl Keys for Records {
    fn frames(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }

    fn key(&self, frame: Hfn) -> Option<Key> {
        self.0[usize::try_from(frame.get()).unwrap()]
    }

    fn enter(&mut self, frame: Hfn, key: Key) -> Option<()> {
        *self.at(frame) = Some(key);
        Some(())
    }

    fn leave(&mut self, frame: Hfn) {
        *self.at(frame) = None;
    }
}

fn frames() -> impl Iterator<Item = Hfn> {
    (0..u64::from(FRAMES)).map(Hfn::new)
}

fn fill(index: &mut Index, records: &mut Records, key: impl Fn(u64) -> Key) -> usize {
    frames()
        .filter(|frame| index.insert(records, *frame, key(frame.get())) == Inserted::Full)
        .count()
}

fn hashed(n: u64) -> Key {
    Key(u32::try_from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap())
}

/// Fills it until it is full, empties it in several ways, moves frames to other keys.
fn use_it(index: &mut Index, records: &mut Records) {
    for round in 0..20 {
        let refused = fill(index, records, |n| hashed(n * 20 + round));
        assert!(refused > 0, "it was never full");
        let found = frames().map(|frame| index.find(records, hashed(frame.get())).count());
        black_box(found.sum::<usize>());
        let goes = |frame: &Hfn| round % 3 == 0 || !frame.get().is_multiple_of(round + 2);
        frames()
            .filter(goes)
            .for_each(|frame| index.remove(records, frame));
        fill(index, records, |n| Key(u32::try_from(n % 3).unwrap()));
        index.audit(records).unwrap();
    }
}

#[test]
fn all_memory_is_taken_at_the_start() {
    let mut records = Records(vec![None; FRAMES as usize]);
    let mut made = None;
    let at_start = measure(|| made = Index::new(u64::from(FRAMES)));
    assert_eq!((at_start.count_total, at_start.count_current), (1, 1));
    let mut index = made.unwrap();
    let bytes = u64::try_from(index.bytes()).unwrap();
    assert_eq!(at_start.bytes_total, bytes);

    let later = measure(|| use_it(&mut index, &mut records));
    assert_eq!(later, AllocationInfo::default());
}
