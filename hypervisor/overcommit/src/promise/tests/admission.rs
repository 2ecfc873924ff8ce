//! Admission: the words, the sums, and that leaving gives back.

use super::{mib, terms, wishes};
use crate::promise::{Book, MAX_GUESTS, Refusal, Terms, Wishes, admit, overhead};
use pleat_types::GuestId;
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::collections::BTreeMap;
use std::string::ToString;

fn reserving(reservation: u64) -> Terms {
    terms(Wishes {
        reservation,
        ..wishes(mib(4096))
    })
}

#[test]
fn a_refusal_says_what_is_missing_and_what_would_fit() {
    let mut book = Book::new(mib(316), mib(16));
    assert_eq!(book.enter(GuestId(0), &reserving(mib(239)), mib(1)), Ok(()));
    let refusal = admit(&book, &reserving(mib(96)), mib(1)).expect_err("does not fit");
    assert_eq!(
        refusal.to_string(),
        "guest needs a reservation of 96 MiB and 1 MiB of overhead; of 300 MiB for guests 240 MiB are reserved: \
         37 MiB are missing; a reservation of up to 59 MiB would fit"
    );
    assert_eq!(book.fitting(mib(1)), Some(mib(59)));
    assert_eq!(admit(&book, &reserving(mib(59)), mib(1)), Ok(()));
    assert!(admit(&book, &reserving(mib(59) + 1), mib(1)).is_err());
    // Without a reservation there is still the overhead.
    let refusal = admit(&book, &reserving(0), mib(61)).expect_err("does not fit");
    assert_eq!(
        refusal.to_string(),
        "guest needs a reservation of 0 MiB and 61 MiB of overhead; of 300 MiB for guests 240 MiB are reserved: \
         1 MiB are missing; not even its overhead would fit"
    );
    assert_eq!(book.fitting(mib(61)), None);
}

#[test]
fn leaving_gives_back() {
    let mut book = Book::new(mib(100), 0);
    assert_eq!(book.enter(GuestId(3), &reserving(mib(90)), mib(10)), Ok(()));
    assert_eq!(book.fitting(0), Some(0));
    assert_eq!(
        book.enter(GuestId(3), &reserving(0), 0),
        Err(Refusal::Twice(GuestId(3)))
    );
    assert_eq!(book.leave(GuestId(4)), 0);
    assert_eq!(book.leave(GuestId(3)), mib(100));
    assert_eq!(book.leave(GuestId(3)), 0);
    assert_eq!((book.reserved(), book.fitting(0)), (0, Some(mib(100))));
}

#[test]
fn there_is_room_for_so_many_guests() {
    let mut book = Book::new(u64::MAX, 0);
    for guest in 0..64 {
        assert_eq!(book.enter(GuestId(guest), &reserving(1), 1), Ok(()));
    }
    assert_eq!(book.enter(GuestId(64), &reserving(1), 1), Err(Refusal::TooMany));
    assert_eq!(usize::from(GuestId(64).0), MAX_GUESTS);
    book.leave(GuestId(7));
    assert_eq!(book.enter(GuestId(64), &reserving(1), 1), Ok(()));
}

#[test]
fn overhead_is_the_tables_of_a_guest_mapped_by_small_pages() {
    // 128 MiB: 64 lowest tables, one of each other kind, three for the hole, four frames of a processor.
    assert_eq!(overhead(mib(128), 4), 64 + 1 + 1 + 1 + 3 + 4);
    // 4 GiB: 2,048 lowest tables, four directories.
    assert_eq!(overhead(mib(4096), 0), 2048 + 4 + 1 + 1 + 3);
    assert_eq!(overhead(1, 0), 7);
}

proptest! {
    #[test]
    fn what_is_set_aside_always_fits(
        frames in 0..4000_u64,
        floor in 0..500_u64,
        steps in vec((0..12_u16, 0..900_u64, 0..100_u64, any::<bool>()), 1..60),
    ) {
        let mut book = Book::new(frames, floor);
        let mut model = BTreeMap::new();
        for (guest, reservation, overhead, leaves) in steps {
            if leaves {
                prop_assert_eq!(book.leave(GuestId(guest)), model.remove(&guest).unwrap_or(0));
            } else {
                let left = frames.saturating_sub(floor) - model.values().sum::<u64>();
                let fits = reservation + overhead <= left && !model.contains_key(&guest);
                let entered = book.enter(GuestId(guest), &reserving(reservation), overhead);
                prop_assert_eq!(entered.is_ok(), fits);
                if fits {
                    model.insert(guest, reservation + overhead);
                }
            }
            prop_assert_eq!(book.reserved(), model.values().sum::<u64>());
            prop_assert!(book.reserved() <= book.for_guests());
        }
    }
}
