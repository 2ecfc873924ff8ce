//! The audit must find a record that was changed behind the ledger's back.

use std::vec::Vec;

use proptest::prelude::{any, prop_assert, proptest};
use proptest::sample::Index;
use zerocopy::IntoBytes;

use super::{machine, owner, records};
use crate::ledger::record::State;
use crate::ledger::{Corruption, FrameRecord, Ledger, Purpose};
use pleat_types::{GuestId, Hfn};

const LINK: usize = 0;
const OTHER: usize = 4;
const STATE: usize = 12;
const ORDER: usize = 13;

/// A ledger with blocks of all kinds and free lists that are longer than one.
fn busy(records: &mut [FrameRecord]) -> Ledger<'_> {
    let mut ledger = machine(records);
    let frames: Vec<_> = (0..300)
        .map(|n| ledger.allocate(owner(1, n), Purpose::Demand).unwrap())
        .collect();
    let _ = ledger.allocate_large(owner(2, 512), Purpose::Demand).unwrap();
    for frame in frames.into_iter().filter(|frame| frame.first().get() % 3 == 0) {
        ledger.release(frame).unwrap();
    }
    ledger.allocate_table(GuestId(1), Purpose::Demand).unwrap();
    ledger.allocate_vcpu(GuestId(1)).unwrap();
    ledger.audit().unwrap();
    ledger
}

/// The bytes of a record that mean something to the audit.
fn meaningful(record: &FrameRecord) -> Vec<usize> {
    match record.state() {
        Some(State::Free) => [STATE, ORDER]
            .into_iter()
            .chain(LINK..LINK + 4)
            .chain(OTHER..OTHER + 4)
            .collect(),
        Some(State::Tail) => [STATE].into(),
        _ => [STATE, ORDER].into(),
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_is_found(frame in any::<Index>(), byte in any::<Index>(), bit in 0..8_u32) {
        let mut records = records();
        let ledger = busy(&mut records);
        let frame = frame.index(ledger.records.len());
        let record = &mut ledger.records[frame];
        let bytes = meaningful(record);
        let byte = bytes[byte.index(bytes.len())];
        record.as_mut_bytes()[byte] ^= 1 << bit;
        prop_assert!(ledger.audit().is_err(), "byte {}", byte);
    }
}

#[test]
fn a_circle_in_a_free_list_is_found() {
    let mut records = records();
    let ledger = busy(&mut records);
    let head = ledger.buddy.head(0);
    let second = ledger.records[super::super::at(head)].next();
    ledger.records[super::super::at(second)].set_next(head);
    assert_eq!(ledger.audit(), Err(Corruption::BrokenList(0)));
}

#[test]
fn halves_that_did_not_merge_are_found() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let held: Vec<_> = (0..8)
        .map(|n| ledger.allocate(owner(1, n), Purpose::Demand).unwrap())
        .collect();
    let mut pair: Vec<_> = held
        .into_iter()
        .filter(|frame| frame.first().get() / 2 == 9)
        .collect();
    let (upper, lower) = (pair.pop().unwrap(), pair.pop().unwrap());
    ledger.release(lower).unwrap();
    // It does not look like the other half while that comes back.
    ledger.records[18].as_mut_bytes()[ORDER] = 5;
    ledger.release(upper).unwrap();
    ledger.records[18].as_mut_bytes()[ORDER] = 0;
    assert_eq!(ledger.audit(), Err(Corruption::Unmerged(Hfn::new(18))));
}

#[test]
fn a_wrong_count_is_found() {
    let mut records = records();
    let mut ledger = busy(&mut records);
    ledger.counts.tables += 1;
    assert_eq!(ledger.audit(), Err(Corruption::Miscounted));
}
