//! Whatever a guest does to its virtio devices: no panic, bounded work, no memory but what it named, and nothing that a
//! reset does not mend.

mod support;

use std::fs;
use std::path::Path;

use proptest::collection;
use proptest::prelude::{ProptestConfig, any, proptest};
use support::{Reached, drive};

fn add(total: &mut Reached, one: Reached) {
    total.used += one.used;
    total.broken += one.broken;
    total.stalled += one.stalled;
    total.interrupts += one.interrupts;
    total.work = total.work.max(one.work);
    total.inflated += one.inflated;
    total.reported += one.reported;
    total.plugged += one.plugged;
    total.printed += one.printed;
    total.heard += one.heard;
    total.randoms += one.randoms;
    total.requests += one.requests;
    total.cleared += one.cleared;
}

/// SplitMix64: the same guests in every run.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut value = *state;
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[test]
fn random_guests_harm_nobody() {
    let mut total = Reached::default();
    let mut state = 4;
    for _ in 0..160 {
        let length = random(&mut state) % 1500;
        let mut guest = vec![0];
        guest.extend((0..length).map(|_| (random(&mut state) & 0xff) as u8));
        add(&mut total, drive(&guest));
    }
    println!("{total:?}");
    let done = [
        total.used,
        total.broken,
        total.interrupts,
        total.stalled,
        total.requests,
        total.cleared,
        total.plugged,
    ];
    assert!(done.iter().all(|done| *done > 0), "{total:?}");
}

/// Inputs that the fuzzer found to reach what others do not.
#[test]
fn guests_of_the_corpus_harm_nobody() {
    let mut total = Reached::default();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for file in fs::read_dir(corpus).expect("a corpus") {
        let guest = fs::read(file.expect("a file").path()).expect("a readable file");
        add(&mut total, drive(&guest));
    }
    println!("{total:?}");
    // Every kind of device has done its work for one of them.
    let done = [
        total.inflated,
        total.reported,
        total.plugged,
        total.printed,
        total.heard,
        total.randoms,
        total.requests,
    ];
    assert!(done.iter().all(|done| *done > 0), "{total:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_guest_harms_its_board(guest in collection::vec(any::<u8>(), 0..800)) {
        drive(&guest);
    }
}
