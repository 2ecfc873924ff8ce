//! Page cache against its limits.

use super::{mib, terms, wishes};
use crate::promise::cache::{CacheView, look};
use crate::promise::{Claims, Wishes};
use proptest::option;
use proptest::prelude::{any, prop_assert, proptest};

fn limited(soft: u8, strict: u8, reservation: u64) -> crate::promise::Terms {
    terms(Wishes {
        cache_soft_percent: soft,
        cache_strict_percent: strict,
        reservation,
        ..wishes(mib(100))
    })
}

fn claims(free: u64, available: u64, disk_caches: u64) -> Claims {
    Claims {
        free: Some(free),
        available: Some(available),
        disk_caches: Some(disk_caches),
        ..Claims::default()
    }
}

#[test]
fn what_is_beyond_the_limits() {
    let seen = look(&limited(20, 50, 0), mib(90), &claims(mib(10), mib(75), mib(60)));
    let expected = CacheView {
        cache: mib(60),
        beyond_soft: mib(40),
        beyond_strict: mib(10),
        room: 0,
    };
    assert_eq!(seen, Some(expected));
    // Room is what cache and free memory together leave of the strict limit.
    let seen = look(&limited(20, 50, 0), mib(90), &claims(mib(10), mib(25), mib(15))).map(|seen| seen.room);
    assert_eq!(seen, Some(mib(25)));
}

#[test]
fn memory_that_cannot_go_is_no_cache() {
    // 60 MiB of "cache" of which 50 are tmpfs: only 10 can go.
    let seen = look(&limited(20, 50, 0), mib(90), &claims(mib(5), mib(15), mib(60)));
    assert_eq!(
        seen.map(|seen| (seen.cache, seen.beyond_soft)),
        Some((mib(10), 0))
    );
}

#[test]
fn no_statistics_no_cache() {
    assert_eq!(look(&limited(0, 0, 0), mib(90), &Claims::default()), None);
}

#[test]
fn the_reservation_is_out_of_reach() {
    let seen = look(&limited(0, 0, mib(80)), mib(90), &claims(0, mib(90), mib(90)));
    assert_eq!(seen.map(|seen| seen.beyond_strict), Some(mib(10)));
}

proptest! {
    #[test]
    fn no_claim_reaches_beyond_what_is_held(
        held in 0..mib(200),
        reservation in 0..mib(100),
        (soft, strict) in (0..=100_u8, 0..=100_u8),
        free in option::of(any::<u64>()),
        available in option::of(any::<u64>()),
        disk_caches in any::<u64>(),
    ) {
        let claims = Claims { free, available, disk_caches: Some(disk_caches), ..Claims::default() };
        let seen = look(&limited(soft, strict, reservation), held, &claims).expect("there is a claim");
        prop_assert!(seen.beyond_soft >= seen.beyond_strict);
        prop_assert!(seen.beyond_soft <= held.saturating_sub(reservation));
    }
}
