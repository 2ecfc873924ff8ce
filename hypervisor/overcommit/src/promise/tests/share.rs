//! Each one's part of what there is.

use super::{mib, terms, wishes};
use crate::promise::{Terms, Wishes, entitled};
use proptest::collection::vec;
use proptest::prelude::{prop_assert, proptest};
use std::vec::Vec;

fn guest(shares: u32, reservation: u64, limit: Option<u64>) -> Terms {
    terms(Wishes {
        shares,
        reservation,
        limit,
        ..wishes(mib(1024))
    })
}

fn parts(available: u64, guests: &[Terms]) -> Vec<u64> {
    entitled(available, guests).into_iter().collect()
}

#[test]
fn memory_is_divided_by_shares_between_reservations_and_limits() {
    let near = |found: Vec<u64>, expected: &[u64]| {
        let is_near = |(found, expected): (&u64, &u64)| found.abs_diff(*expected) <= 1;
        assert!(
            found.iter().zip(expected).all(is_near),
            "{found:?}, expected {expected:?}"
        );
    };
    near(
        parts(900, &[guest(100, 0, None), guest(200, 0, None)]),
        &[300, 600],
    );
    near(
        parts(900, &[guest(100, 500, None), guest(200, 0, None)]),
        &[500, 400],
    );
    near(
        parts(900, &[guest(100, 0, None), guest(200, 0, Some(100))]),
        &[800, 100],
    );
    near(parts(100, &[guest(1, 200, None), guest(1, 0, None)]), &[200, 0]);
    near(parts(u64::MAX / 2, &[guest(1, 0, None)]), &[mib(1024)]);
    assert!(parts(100, &[]).is_empty());
}

proptest! {
    #[test]
    fn no_more_is_divided_than_there_is_and_none_is_left(
        wishes in vec((1..=u32::MAX, 0..1000_u64, 1000..50_000_u64), 1..10),
        available in 0..400_000_u64,
    ) {
        let guests: Vec<Terms> = wishes
            .iter()
            .map(|(shares, reservation, limit)| guest(*shares, *reservation, Some(*limit)))
            .collect();
        let parts = parts(available, &guests);
        let sum: u64 = parts.iter().sum();
        let reserved: u64 = guests.iter().map(Terms::reservation).sum();
        prop_assert!(sum <= available.max(reserved));
        let is_full = guests.iter().zip(&parts).all(|(terms, part)| *part == terms.limit());
        // A level of 2^-20 frames is worth some thousand frames to a guest with 2^32 shares, of which it gets none.
        let step = u64::from(u32::MAX >> 20) * guests.len() as u64 + guests.len() as u64;
        prop_assert!(is_full || sum + step >= available || reserved >= available, "{sum} of {available}");
        for (terms, part) in guests.iter().zip(&parts) {
            prop_assert!((terms.reservation()..=terms.limit()).contains(part));
        }
    }
}
