//! Terms: what is refused, and in which words.

use super::{mib, terms, wishes};
use crate::promise::{Place, Terms, Wishes};
use std::string::ToString;

fn refusal(wishes: Wishes) -> (Place, std::string::String) {
    let error = Terms::new(wishes).expect_err("terms that cannot be");
    (error.place, error.to_string())
}

#[test]
fn they_say_where_and_what_is_allowed() {
    let good = wishes(mib(128));
    let limit = Some(mib(96));
    let (place, text) = refusal(Wishes {
        limit,
        reservation: mib(100),
        ..good
    });
    assert_eq!(place, Place::Reservation);
    assert_eq!(
        text,
        "reservation of 100 MiB is not allowed: 0 MiB to 96 MiB (the limit)"
    );
    let (place, text) = refusal(Wishes {
        limit: Some(0),
        ..good
    });
    assert_eq!(place, Place::Limit);
    assert_eq!(text, "limit of 0 MiB is not allowed: 4 KiB to 268435456 MiB");
    // More than it was promised today is no reservation, however high the limit.
    let (_, text) = refusal(Wishes {
        limit: Some(mib(256)),
        reservation: mib(129),
        ..good
    });
    assert_eq!(
        text,
        "reservation of 129 MiB is not allowed: 0 MiB to 128 MiB (the limit)"
    );
    let (_, text) = refusal(Wishes { shares: 0, ..good });
    assert_eq!(text, "shares of 0 is not allowed: 1 to 4294967295");
    let (_, text) = refusal(Wishes {
        idle_tax_percent: 100,
        ..good
    });
    assert_eq!(text, "idle_tax of 100 % is not allowed: 0 % to 99 %");
    let (_, text) = refusal(Wishes {
        cache_soft_percent: 101,
        ..good
    });
    assert_eq!(text, "cache_soft of 101 % is not allowed: 0 % to 100 %");
    assert_eq!(
        refusal(Wishes {
            cache_strict_percent: 200,
            ..good
        })
        .0,
        Place::CacheStrict
    );
    assert_eq!(refusal(wishes(0)).0, Place::Promised);
    assert_eq!(refusal(wishes((1 << 36) + 1)).0, Place::Promised);
    assert_eq!(refusal(wishes(u64::MAX)).0, Place::Promised);
}

#[test]
fn the_bounds_themselves_are_allowed() {
    let full = Wishes {
        reservation: mib(64),
        limit: Some(mib(64)),
        idle_tax_percent: 99,
        ..wishes(mib(64))
    };
    assert_eq!(terms(full).limit(), mib(64));
    assert_eq!(terms(wishes(1)).limit(), 1);
    assert!(Terms::new(wishes(1 << 36)).is_ok());
}

#[test]
fn a_guest_that_grows_keeps_its_terms() {
    let unlimited = terms(Wishes {
        reservation: mib(32),
        ..wishes(mib(64))
    });
    assert_eq!(
        unlimited.resized(mib(256)).map(|terms| terms.limit()),
        Ok(mib(256))
    );
    let limited = terms(Wishes {
        limit: Some(mib(48)),
        ..wishes(mib(64))
    });
    assert_eq!(limited.resized(mib(256)).map(|terms| terms.limit()), Ok(mib(48)));
    assert_eq!(limited.resized(mib(32)).map(|terms| terms.limit()), Ok(mib(32)));
    // A limit beyond what a guest begins with holds for what it grows to.
    let growing = terms(Wishes {
        limit: Some(mib(96)),
        cache_strict_percent: 50,
        ..wishes(mib(64))
    });
    assert_eq!((growing.limit(), growing.cache_strict()), (mib(64), mib(32)));
    let grown = growing.resized(mib(256)).expect("it may grow");
    assert_eq!((grown.limit(), grown.cache_strict()), (mib(96), mib(48)));
    assert_eq!(
        unlimited.resized(mib(16)).map_err(|error| error.place),
        Err(Place::Reservation)
    );
}

#[test]
fn the_soft_limit_of_the_cache_is_within_the_strict_one() {
    let odd = Wishes {
        cache_strict_percent: 25,
        limit: Some(mib(64)),
        ..wishes(mib(128))
    };
    assert_eq!(
        (terms(odd).cache_soft(), terms(odd).cache_strict()),
        (mib(16), mib(16))
    );
    let usual = Wishes {
        cache_soft_percent: 10,
        cache_strict_percent: 50,
        ..wishes(mib(100))
    };
    assert_eq!(
        (terms(usual).cache_soft(), terms(usual).cache_strict()),
        (mib(10), mib(50))
    );
}
