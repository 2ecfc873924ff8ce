//! Blocks of 1 GiB that come back in parts.

use super::huge::{HUGE, LARGE, claim, machine, records};
use super::owner;
use crate::ledger::{FrameState, Ledger, MAX_ORDER, Purpose};
use pleat_types::{Hfn, PageSize};

#[test]
fn a_gib_comes_back_in_parts_of_both_sizes() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let before = (*ledger.counts(), ledger.free_blocks(MAX_ORDER));
    let first = ledger
        .allocate_huge(owner(2, HUGE), Purpose::Demand)
        .unwrap()
        .first()
        .get();
    let state = |ledger: &Ledger<'_>, n: u64| ledger.state(Hfn::new(first + n));
    let its = |n: u64, size| FrameState::Guest(owner(2, HUGE + n), size);
    ledger.release(claim(first + 5 * LARGE, PageSize::Large)).unwrap();
    assert_eq!(state(&ledger, 5 * LARGE + 9), FrameState::Free);
    assert_eq!(state(&ledger, 6 * LARGE + 9), its(6 * LARGE + 9, PageSize::Large));
    ledger.release(claim(first + HUGE - 1, PageSize::Small)).unwrap();
    assert_eq!(state(&ledger, HUGE - 1), FrameState::Free);
    assert_eq!(state(&ledger, HUGE - 2), its(HUGE - 2, PageSize::Small));
    assert_eq!(ledger.counts().free, before.0.free - HUGE + LARGE + 1);
    ledger.audit().unwrap();
    // Twice; larger than what is left of it; where nothing of that size begins.
    for (frame, size) in [
        (first + 5 * LARGE, PageSize::Large),
        (first + 5 * LARGE + 1, PageSize::Small),
        (first + HUGE - LARGE, PageSize::Large),
        (first, PageSize::Huge),
        (first + 1, PageSize::Large),
    ] {
        assert!(ledger.release(claim(frame, size)).is_err(), "{frame} {size:?}");
    }
    for n in 0..511 {
        if n != 5 {
            ledger.release(claim(first + n * LARGE, PageSize::Large)).unwrap();
        }
    }
    for n in HUGE - LARGE..HUGE - 1 {
        ledger.release(claim(first + n, PageSize::Small)).unwrap();
    }
    ledger.audit().unwrap();
    assert_eq!((*ledger.counts(), ledger.free_blocks(MAX_ORDER)), before);
}

/// One frame of a GiB that was never split.
#[test]
fn a_single_frame_of_a_gib_comes_back() {
    let mut records = records();
    let mut ledger = machine(&mut records);
    let first = ledger
        .allocate_huge(owner(2, HUGE), Purpose::Demand)
        .unwrap()
        .first()
        .get();
    let frame = first + 300 * LARGE + 77;
    ledger.release(claim(frame, PageSize::Small)).unwrap();
    for (n, size) in [
        (0, PageSize::Large),
        (300 * LARGE, PageSize::Small),
        (300 * LARGE + 78, PageSize::Small),
        (301 * LARGE, PageSize::Large),
    ] {
        let its = FrameState::Guest(owner(2, HUGE + n), size);
        assert_eq!(ledger.state(Hfn::new(first + n)), its);
    }
    assert_eq!(ledger.state(Hfn::new(frame)), FrameState::Free);
    ledger.audit().unwrap();
}
