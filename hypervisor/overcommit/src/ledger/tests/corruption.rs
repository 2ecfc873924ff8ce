//! The audit must find a record that was changed behind the ledger's back.

use std::vec::Vec;

use proptest::prelude::{any, prop_assert, proptest};
use proptest::sample::Index;
use zerocopy::IntoBytes;

use super::{machine, owner, records};
use crate::ledger::record::State;
use crate::ledger::{Corruption, FrameRecord, Ledger, Purpose};
use pleat_types::{GuestId, Hfn};

/// The low five bits of a record's last word after the state and the mark of the index.
const ORDER_SHIFT: u32 = 5;

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

/// The bits of a record that mean something to the audit: bit 0 is the lowest of its first word. The
/// page, the key and the changes of a guest's frame, and whether it is in the index, are for others.
fn meaningful(record: &FrameRecord) -> Vec<usize> {
    let has_guest = [State::Table, State::Guest, State::Vcpu]
        .into_iter()
        .any(|state| record.is(state));
    let of_guest = 64 + 10..64 + 20;
    let is_frame = record.is(State::Guest) && record.order() == 0;
    (0..96)
        .filter(|bit| !has_guest || !of_guest.contains(bit))
        .filter(|bit| !record.is(State::Guest) || *bit >= 32)
        .filter(|bit| !is_frame || (64..68).contains(bit) || (69..74).contains(bit) || *bit >= 64 + 23)
        .collect()
}

proptest! {
    #[test]
    fn a_flipped_bit_is_found(frame in any::<Index>(), bit in any::<Index>()) {
        let mut records = records();
        let ledger = busy(&mut records);
        let frame = frame.index(ledger.records.len());
        let record = &mut ledger.records[frame];
        let bits = meaningful(record);
        let bit = bits[bit.index(bits.len())];
        record.as_mut_bytes()[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ledger.audit().is_err(), "bit {}", bit);
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
    let order = 1 << ORDER_SHIFT;
    ledger.records[18].as_mut_bytes()[8] |= order;
    ledger.release(upper).unwrap();
    ledger.records[18].as_mut_bytes()[8] &= !order;
    assert_eq!(ledger.audit(), Err(Corruption::Unmerged(Hfn::new(18))));
}

#[test]
fn a_wrong_count_is_found() {
    let mut records = records();
    let mut ledger = busy(&mut records);
    ledger.counts.tables += 1;
    assert_eq!(ledger.audit(), Err(Corruption::Miscounted));
}
