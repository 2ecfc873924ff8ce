//! Who does not run in the state low.

use super::super::{Holds, Standing, WAIT};
use crate::promise::HostState::{Hard, Low};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, proptest};
use std::vec::Vec;

fn standing(guest: usize, held: u64, entitled: u64) -> Standing {
    Standing {
        guest,
        held,
        entitled,
        has_token: false,
    }
}

#[test]
fn who_has_more_than_its_part_waits_until_it_has_not() {
    let mut holds = Holds::new();
    let around = |held| [standing(0, held, 100), standing(1, 50, 100)];
    holds.end_period(Hard, &around(200));
    assert!(!holds.is_any(), "only in the state low");
    holds.end_period(Low, &around(106));
    assert!(!holds.is_any(), "a little more is not enough to begin");
    holds.end_period(Low, &around(107));
    assert!(holds.is_held(0) && !holds.is_held(1));
    holds.end_period(Low, &around(101));
    assert!(
        holds.is_held(0),
        "what was not enough to begin is enough to go on"
    );
    holds.end_period(Low, &around(100));
    assert!(!holds.is_any());
}

#[test]
fn nobody_waits_for_long_or_with_the_token_or_in_another_state() {
    let mut holds = Holds::new();
    let around = [standing(0, 200, 100), standing(1, 50, 100)];
    let mut waited = Vec::new();
    for _ in 0..4 * WAIT {
        holds.end_period(Low, &around);
        waited.push(holds.is_held(0));
    }
    let periods = waited.iter().filter(|is_held| **is_held).count();
    assert!(
        (usize::from(WAIT)..=2 * usize::from(WAIT)).contains(&periods),
        "{waited:?}"
    );
    let longest = waited.split(|is_held| !is_held).map(<[bool]>::len).max();
    assert_eq!(longest, Some(usize::from(WAIT)));
    let shielded = [
        Standing {
            has_token: true,
            ..around[0]
        },
        around[1],
    ];
    holds.end_period(Low, &shielded);
    assert!(!holds.is_any());
    holds.end_period(Low, &around);
    assert!(holds.is_held(0));
    holds.end_period(Hard, &around);
    assert!(!holds.is_any());
}

#[test]
fn if_all_are_above_the_one_the_least_above_runs() {
    let mut holds = Holds::new();
    holds.end_period(
        Low,
        &[
            standing(0, 300, 100),
            standing(1, 150, 100),
            standing(2, 400, 200),
        ],
    );
    assert!(holds.is_held(0) && !holds.is_held(1) && holds.is_held(2));
    assert_eq!(holds.release_least(), Some(2), "if that does not run after all");
    assert_eq!(holds.release_least(), Some(0));
    assert_eq!(holds.release_least(), None);
}

proptest! {
    /// Whatever guests have: of those that would run one always does, and nobody waits longer than it may.
    #[test]
    fn never_everybody_and_never_for_long(
        periods in vec(vec((0..400_u64, 0..400_u64, any::<bool>()), 1..6), 1..60),
    ) {
        let mut holds = Holds::new();
        let mut waited = [0; 6];
        for guests in periods {
            let guests: Vec<Standing> = guests
                .iter()
                .enumerate()
                .map(|(guest, (held, entitled, has_token))| Standing {
                    has_token: *has_token,
                    ..standing(guest, *held, *entitled)
                })
                .collect();
            holds.end_period(Low, &guests);
            prop_assert!(guests.iter().any(|standing| !holds.is_held(standing.guest)));
            for (guest, waited) in waited.iter_mut().enumerate() {
                *waited = if holds.is_held(guest) { *waited + 1 } else { 0 };
                prop_assert!(*waited <= WAIT);
                prop_assert!(guest < guests.len() || !holds.is_held(guest));
            }
        }
    }
}
