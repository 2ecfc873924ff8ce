//! The rate of funding.

use super::{mib, terms, wishes};
use crate::promise::{FundingRate, Wishes};
use core::cmp::Ordering;
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

fn rate(shares: u32, tax: u8, held: u64, idle: u64) -> FundingRate {
    let wishes = Wishes {
        shares,
        idle_tax_percent: tax,
        ..wishes(mib(1024))
    };
    FundingRate::new(&terms(wishes), held, idle)
}

#[test]
fn more_frames_for_the_same_shares_pay_less() {
    assert!(rate(100, 75, 1001, 0) < rate(100, 75, 1000, 0));
    assert!(rate(99, 75, 1000, 0) < rate(100, 75, 1000, 0));
    assert_eq!(rate(100, 0, 1000, 0), rate(300, 0, 3000, 0));
}

#[test]
fn a_taxed_idle_frame_counts_four_times() {
    // 75 percent: k = 4 (Waldspurger's own example).
    assert_eq!(rate(100, 75, 1000, 1000), rate(100, 75, 4000, 0));
    assert_eq!(rate(100, 75, 1000, 500), rate(100, 75, 2500, 0));
    // Without a tax it is shares alone.
    assert_eq!(rate(100, 0, 1000, 1000), rate(100, 0, 1000, 0));
    // More idle than held is a lie that counts as all.
    assert_eq!(rate(100, 75, 1000, u64::MAX), rate(100, 75, 1000, 1000));
}

#[test]
fn who_holds_nothing_pays_most() {
    assert!(rate(1, 99, 0, 0) > rate(u32::MAX, 0, 1, 0));
    assert_eq!(rate(1, 0, 0, 0), rate(7, 0, 0, 0));
}

#[test]
fn an_eighth_is_clear() {
    assert!(!rate(800, 0, 1000, 0).is_clearly_below(&rate(900, 0, 1000, 0)));
    assert!(rate(800, 0, 1000, 0).is_clearly_below(&rate(901, 0, 1000, 0)));
    assert!(!rate(800, 0, 1000, 0).is_clearly_below(&rate(800, 0, 1000, 0)));
}

proptest! {
    #[test]
    fn it_is_the_formula(
        (s1, t1, h1, i1) in (1..=u32::MAX, 0..=99_u8, 1..1_u64 << 36, 0..100_u64),
        (s2, t2, h2, i2) in (1..=u32::MAX, 0..=99_u8, 1..1_u64 << 36, 0..100_u64),
    ) {
        let ours = rate(s1, t1, h1, h1 / 100 * i1).cmp(&rate(s2, t2, h2, h2 / 100 * i2));
        let real = |shares: u32, tax: u8, held: u64, idle: u64| {
            let (held, idle) = (held as f64, (held / 100 * idle) as f64);
            let k = 1.0 / (1.0 - f64::from(tax) / 100.0);
            f64::from(shares) / (held * ((held - idle) / held + k * (idle / held)))
        };
        let (first, second) = (real(s1, t1, h1, i1), real(s2, t2, h2, i2));
        // Floats are only good enough where the two are apart.
        if (first / second - 1.0).abs() > 1e-9 {
            prop_assert_eq!(Some(ours), first.partial_cmp(&second));
        }
    }

    #[test]
    fn saying_that_one_is_idle_never_helps(held in 0..1_u64 << 36, idle in 0..1_u64 << 37, tax in 0..=99_u8) {
        prop_assert!(rate(100, tax, held, idle).cmp(&rate(100, tax, held, 0)) != Ordering::Greater);
    }
}
