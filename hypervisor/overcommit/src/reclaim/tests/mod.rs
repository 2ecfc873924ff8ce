//! Reclaim's policy, on figures that are easy to follow.

mod hold;
mod suspend;
mod thrash;
mod token;

use super::{AGES, Ages, Candidate, Need, Situation, choose, idle, least_age, need, older};
use crate::promise::{HostState, Terms, Thresholds, Wishes};
use proptest::prelude::{prop_assert, proptest};

const THRESHOLDS: Thresholds = Thresholds {
    soft_below_percent: 6,
    hard_below_percent: 4,
    low_below_percent: 2,
    hysteresis_percent: 1,
};

fn situation(state: HostState, free: u64) -> Situation {
    Situation {
        state,
        free,
        total: 10_000,
        thresholds: THRESHOLDS,
        is_waited_for: false,
        are_guests_giving: false,
    }
}

fn terms(shares: u32, reservation: u64, priority: u8) -> Terms {
    Terms::new(Wishes {
        promised: 10_000,
        reservation,
        limit: None,
        shares,
        priority,
        idle_tax_percent: 75,
        cache_soft_percent: 100,
        cache_strict_percent: 100,
    })
    .unwrap()
}

fn ages(pages: &[(usize, u64)]) -> Ages {
    let mut ages = [0; AGES];
    pages.iter().for_each(|(age, count)| ages[*age] = *count);
    ages
}

#[test]
fn nothing_is_taken_while_there_is_plenty_or_guests_give() {
    assert_eq!(need(&situation(HostState::High, 5000)), Need::None);
    let giving = Situation {
        are_guests_giving: true,
        ..situation(HostState::Soft, 500)
    };
    assert_eq!(need(&giving), Need::None);
}

#[test]
fn work_begins_ahead_of_need_and_goes_on_to_a_mark() {
    assert_eq!(need(&situation(HostState::Soft, 500)), Need::Ahead(200));
    assert_eq!(need(&situation(HostState::Hard, 350)), Need::Ahead(250));
    assert_eq!(need(&situation(HostState::Low, 0)), Need::Ahead(600));
    assert_eq!(need(&situation(HostState::Hard, 600)), Need::None);
}

#[test]
fn who_waits_is_served_whatever_the_state_is() {
    let waited = |state, free| Situation {
        is_waited_for: true,
        ..situation(state, free)
    };
    assert_eq!(need(&waited(HostState::High, 9000)), Need::Now(64));
    assert_eq!(need(&waited(HostState::Low, 10)), Need::Now(590));
}

#[test]
fn who_pays_least_gives_first() {
    let (cheap, dear) = (terms(100, 0, 100), terms(400, 0, 100));
    let old = ages(&[(0, 500), (5, 500)]);
    let guest = |terms| Candidate {
        terms,
        held: 1000,
        ages: &old,
        is_exhausted: false,
        has_token: false,
        is_suspended: false,
    };
    let pick = |guests: [Candidate<'_>; 2]| choose(guests.into_iter().enumerate());
    assert_eq!(pick([guest(&dear), guest(&cheap)]), Some(1));
    let exhausted = Candidate {
        is_exhausted: true,
        ..guest(&cheap)
    };
    assert_eq!(pick([guest(&dear), exhausted]), Some(0));
    let shielded = Candidate {
        has_token: true,
        ..guest(&cheap)
    };
    assert_eq!(pick([guest(&dear), shielded]), Some(0));
    // A shield does not help who is the only one.
    assert_eq!(pick([exhausted, shielded]), Some(1));
    let suspended = Candidate {
        is_suspended: true,
        ..guest(&dear)
    };
    assert_eq!(pick([guest(&cheap), suspended]), Some(1));
    let reserved = terms(1, 1000, 0);
    assert_eq!(pick([guest(&reserved), exhausted]), None);
    let (first, last) = (terms(100, 0, 1), terms(100, 0, 2));
    assert_eq!(pick([guest(&last), guest(&first)]), Some(1));
}

#[test]
fn what_is_not_used_costs_more() {
    let same = terms(100, 0, 100);
    let (busy, lazy) = (ages(&[(0, 900), (1, 100)]), ages(&[(0, 100), (4, 900)]));
    let guest = |ages| Candidate {
        terms: &same,
        held: 1000,
        ages,
        is_exhausted: false,
        has_token: false,
        is_suspended: false,
    };
    assert_eq!((idle(&busy), idle(&lazy)), (0, 900));
    assert_eq!(
        choose([guest(&busy), guest(&lazy)].into_iter().enumerate()),
        Some(1)
    );
}

#[test]
fn the_oldest_go_first_and_the_youngest_never() {
    let some = ages(&[(0, 100), (1, 10), (7, 20), (31, 5)]);
    assert_eq!(least_age(&some, 5), 31);
    assert_eq!(least_age(&some, 6), 7);
    assert_eq!(least_age(&some, 26), 1);
    assert_eq!(least_age(&some, 1000), 1);
    assert_eq!(least_age(&ages(&[(0, 100)]), 1), 1);
}

proptest! {
    #[test]
    fn an_age_brings_what_is_wanted_or_all_there_is(
        ages in proptest::collection::vec(0..1000_u64, AGES),
        wanted in 0..20_000_u64,
    ) {
        let ages: Ages = ages.try_into().unwrap();
        let age = least_age(&ages, wanted);
        prop_assert!(older(&ages, age) >= wanted || age == 1);
        prop_assert!(age == AGES - 1 || older(&ages, age + 1) < wanted);
    }

    #[test]
    fn no_more_is_taken_than_the_marks_ask_for(free in 0..10_000_u64, state in 0..4_usize) {
        let states = [HostState::High, HostState::Soft, HostState::Hard, HostState::Low];
        let frames = need(&situation(states[state], free)).frames();
        prop_assert!(frames == 0 || free + frames <= 700);
    }
}
