//! The entropy device against drivers that keep to the rules, and against others.

use std::vec;
use std::vec::Vec;

use pleat_types::Gpa;

use super::{BYTES_MAX, Device, Entropy, Step, Trouble};
use crate::virtio::Queue;
use crate::virtio::queue::Direction::{FromGuest, ToGuest};
use crate::virtio::testing::{Grudging, GuestQueue};

const BUFFER: Gpa = Gpa::new(0x4000);

fn setup() -> (Grudging, GuestQueue, Queue, Entropy) {
    let guest = GuestQueue::new(Gpa::new(0x1000), 8);
    let queue = guest.enabled();
    (Grudging::new(0x2_0000), guest, queue, Entropy::new())
}

/// What [`super::super::testing::FakeHands`] gives for the n-th byte and those behind it.
fn randoms(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|n| n.to_le_bytes()[0]).collect()
}

#[test]
fn a_buffer_of_linux_is_filled() {
    let (mut hands, mut guest, mut queue, mut entropy) = setup();
    let head = guest.add(&mut hands.inner, &[(BUFFER, 64, ToGuest)]);
    assert_eq!(entropy.serve(0, &mut queue, &mut hands), Ok(Step::Done));
    assert_eq!(guest.used(&hands.inner), [(head, 64)]);
    assert_eq!(hands.inner.peek(BUFFER, 64), randoms(0, 64));
    assert_eq!(entropy.given_bytes(), 64);
    assert_eq!((entropy.offered(), entropy.config(0)), (0, 0));
}

#[test]
fn one_serve_gives_so_much_and_no_more() {
    let (mut hands, mut guest, mut queue, mut entropy) = setup();
    let large = guest.add(&mut hands.inner, &[(BUFFER, 200, ToGuest)]);
    let cut = guest.add(&mut hands.inner, &[(Gpa::new(0x5000), u32::MAX, ToGuest)]);
    let later = guest.add(&mut hands.inner, &[(Gpa::new(0x6000), 1, ToGuest)]);
    assert_eq!(entropy.serve(0, &mut queue, &mut hands), Ok(Step::More));
    assert_eq!(guest.used(&hands.inner), [(large, 200), (cut, 56)]);
    assert_eq!(hands.inner.peek(Gpa::new(0x5000), 57)[..56], randoms(200, 56));
    assert_eq!(hands.inner.peek(Gpa::new(0x5000), 57)[56], 0);
    assert_eq!(entropy.given_bytes(), BYTES_MAX as u64);
    assert_eq!(entropy.serve(0, &mut queue, &mut hands), Ok(Step::Done));
    assert_eq!(guest.used(&hands.inner), [(later, 1)]);
}

#[test]
fn buffers_in_odd_pieces_are_filled_as_one() {
    let (mut hands, mut guest, mut queue, mut entropy) = setup();
    let pieces = [
        (Gpa::new(0x3000), 8, FromGuest),
        (Gpa::new(0x4ffd), 7, ToGuest),
        (Gpa::new(u64::MAX), 0, ToGuest),
        (Gpa::new(0x6000), 1, ToGuest),
    ];
    let head = guest.add(&mut hands.inner, &pieces);
    assert_eq!(entropy.serve(0, &mut queue, &mut hands), Ok(Step::Done));
    assert_eq!(guest.used(&hands.inner), [(head, 8)]);
    assert_eq!(hands.inner.peek(Gpa::new(0x4ffd), 8), [0, 1, 2, 3, 4, 5, 6, 0]);
    assert_eq!(hands.inner.peek(Gpa::new(0x6000), 1), [7]);
    assert_eq!(hands.inner.peek(Gpa::new(0x3000), 8), [0; 8]);
}

#[test]
fn a_driver_that_breaks_the_rules_is_told() {
    for buffer in [
        (BUFFER, 0, ToGuest),
        (BUFFER, 64, FromGuest),
        (Gpa::new(0x1_fff0), 17, ToGuest),
        (Gpa::new(u64::MAX - 3), 4, ToGuest),
        (Gpa::new(u64::MAX), u32::MAX, ToGuest),
    ] {
        let (mut hands, mut guest, mut queue, mut entropy) = setup();
        guest.add(&mut hands.inner, &[buffer]);
        let answer = entropy.serve(0, &mut queue, &mut hands);
        assert!(matches!(answer, Err(Trouble::Guest(_))), "{buffer:?}: {answer:?}");
        assert_eq!(guest.used(&hands.inner), vec![]);
        assert_eq!(entropy.given_bytes(), 0);
    }
}

#[test]
fn short_memory_at_any_call_only_delays() {
    let mut calls = 0;
    loop {
        let (mut hands, mut guest, mut queue, mut entropy) = setup();
        let head = guest.add(
            &mut hands.inner,
            &[(BUFFER, 3, ToGuest), (Gpa::new(0x5000), 5, ToGuest)],
        );
        hands.refuse_after(calls);
        let answer = entropy.serve(0, &mut queue, &mut hands);
        if hands.refusals == 0 {
            // Four reads of the ring and of descriptors, two buffers, the entry, the index, and the ring again.
            assert_eq!(calls, 9);
            return;
        }
        assert_eq!(answer, Err(Trouble::HostShort));
        let given = entropy.given_bytes();
        assert_eq!(given, if calls < 8 { 0 } else { 8 }, "all or nothing");
        let mut used = guest.used(&hands.inner);
        assert_eq!(used.is_empty(), given == 0);
        hands.inner.run_guest();
        assert_eq!(entropy.serve(0, &mut queue, &mut hands), Ok(Step::Done));
        used.extend(guest.used(&hands.inner));
        assert_eq!(used, [(head, 8)]);
        assert_eq!(entropy.given_bytes(), 8);
        calls += 1;
    }
}
