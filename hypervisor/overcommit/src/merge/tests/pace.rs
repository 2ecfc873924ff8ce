//! The pace: its bound, and how it moves.

use pleat_types::Tsc;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::vec::Vec;

use crate::merge::Pace;
use crate::promise::HostState;

const HZ: u64 = 1_000_000_000;
const STATES: [HostState; 4] = [HostState::High, HostState::Soft, HostState::Hard, HostState::Low];

/// The rate after so many epochs of this.
fn settled(pressure: HostState, hashed: u64, saved: u64, epochs: usize) -> u64 {
    let mut pace = Pace::new(HZ, None);
    for _ in 0..epochs {
        pace.advise(pressure, hashed, saved);
    }
    pace.rate()
}

#[test]
fn it_rises_with_yield() {
    let mut pace = Pace::new(HZ, None);
    let first = pace.rate();
    pace.advise(HostState::High, 800, 100);
    assert_eq!(pace.rate(), first * 2);
    assert_eq!(settled(HostState::High, 1000, 900, 40), HZ / 8);
}

#[test]
fn it_falls_to_a_trickle_without_yield() {
    let mut pace = Pace::new(HZ, None);
    let first = pace.rate();
    pace.advise(HostState::High, 800, 24);
    assert_eq!(pace.rate(), first / 2);
    assert_eq!(settled(HostState::High, 1000, 0, 40), HZ / 1024);
    // From there it finds its way back.
    let mut pace = Pace::new(HZ, None);
    (0..40).for_each(|_| pace.advise(HostState::High, 10, 0));
    let trickle = pace.rate();
    pace.advise(HostState::High, 10, 10);
    assert_eq!(pace.rate(), trickle * 2);
}

#[test]
fn it_stays_with_a_yield_in_between() {
    assert_eq!(settled(HostState::High, 800, 99, 10), HZ / 16);
    assert_eq!(settled(HostState::High, 800, 25, 10), HZ / 16);
}

#[test]
fn it_rises_under_pressure() {
    for (hashed, saved) in [(1000, 0), (1000, 60), (1000, 1000)] {
        let rates = STATES.map(|pressure| settled(pressure, hashed, saved, 40));
        assert!(rates.is_sorted(), "{rates:?}");
        assert!(rates[0] < rates[1] && rates[1] < rates[2], "{rates:?}");
    }
    // The same yield that changes nothing while memory is plentiful.
    let mut pace = Pace::new(HZ, None);
    let first = pace.rate();
    pace.advise(HostState::High, 1000, 60);
    assert_eq!(pace.rate(), first);
    pace.advise(HostState::Soft, 1000, 60);
    assert_eq!(pace.rate(), first * 2);
    // And at once, when it is most needed.
    let mut pace = Pace::new(HZ, None);
    (0..40).for_each(|_| pace.advise(HostState::High, 10, 0));
    pace.advise(HostState::Low, 10, 0);
    assert_eq!(pace.rate(), HZ / 32);
}

#[test]
fn when_nothing_waits_it_is_nothing_and_begins_again() {
    let mut pace = Pace::new(HZ, None);
    let first = pace.rate();
    (0..40).for_each(|_| pace.advise(HostState::High, 10, 0));
    (0..40).for_each(|_| pace.advise(HostState::High, 0, 0));
    assert_eq!(pace.rate(), 0);
    // What turns up finds something to begin with, and the rate is what it was at first.
    assert!(pace.budget(Tsc(HZ)) > 0);
    pace.spend(1);
    assert_eq!(pace.rate(), first);
    // From above too.
    (0..40).for_each(|_| pace.advise(HostState::High, 10, 10));
    (0..40).for_each(|_| pace.advise(HostState::High, 0, 0));
    pace.spend(1);
    assert_eq!(pace.rate(), first);
}

#[test]
fn a_fixed_pace_stays_fixed() {
    let mut pace = Pace::new(HZ, Some(5_000_000));
    for pressure in STATES {
        for (hashed, saved) in [(0, 0), (1000, 0), (1000, 1000)] {
            pace.advise(pressure, hashed, saved);
            assert_eq!(pace.rate(), 5_000_000);
        }
    }
    pace.set(None);
    assert_ne!(pace.rate(), 5_000_000);
    pace.set(Some(u64::MAX));
    assert_eq!(pace.rate(), HZ, "no more than there are");
}

#[test]
fn off_is_no_budget_at_all() {
    let mut pace = Pace::new(HZ, Some(0));
    for second in 0..100 {
        pace.advise(HostState::Low, 1000, 1000);
        assert_eq!(pace.budget(Tsc(second * HZ)), 0);
    }
    // Nor what was in the bucket before.
    let mut pace = Pace::new(HZ, Some(HZ / 2));
    assert!(pace.budget(Tsc(0)) > 0);
    pace.set(Some(0));
    assert_eq!(pace.budget(Tsc(10 * HZ)), 0);
    pace.set(Some(HZ / 2));
    assert_eq!(pace.budget(Tsc(10 * HZ)), 0, "nothing was saved up meanwhile");
    assert!(pace.budget(Tsc(10 * HZ + HZ / 1000)) > 0);
}

#[test]
fn who_spends_too_much_waits_for_it() {
    let mut pace = Pace::new(HZ, Some(HZ / 10));
    let full = pace.budget(Tsc(0));
    pace.spend(full + full / 2);
    assert_eq!(
        pace.budget(Tsc(HZ / 16)),
        0,
        "at seven eighths of the rate that takes longer"
    );
    assert!(pace.budget(Tsc(HZ / 14 + HZ / 100)) > 0);
    // However much it was: not for longer than the bucket takes to fill.
    pace.spend(u64::MAX);
    let later = HZ / 14 + HZ / 100 + HZ / 8 * 8 / 7;
    assert_eq!(pace.budget(Tsc(later - HZ / 100)), 0);
    assert!(pace.budget(Tsc(later + HZ / 100)) > 0);
}

#[test]
fn who_spends_all_gets_seven_eighths_of_the_rate() {
    let rate = 12_345_678;
    let mut pace = Pace::new(HZ, Some(rate));
    let step = 999_983;
    let spent: Vec<(u64, u64)> = (0..10 * HZ / step)
        .map(|n| {
            let budget = pace.budget(Tsc(n * step));
            pace.spend(budget);
            (n * step, budget)
        })
        .collect();
    let total: u64 = spent.iter().map(|(_, ticks)| ticks).sum();
    let expected = rate / 8 + 10 * (rate - rate / 8);
    assert!(
        total.abs_diff(expected) < expected / 1000,
        "{total} of {expected}"
    );
    // The first second has the full bucket in it.
    let most = most_in_a_second(&spent, HZ);
    assert!(most <= rate && most > rate - rate / 500, "{most} of {rate}");
}

#[test]
fn who_asks_often_gets_no_less() {
    let mut pace = Pace::new(HZ, Some(8_000));
    pace.spend(1_000);
    // Each time less than a tenth of a tick has gathered.
    for n in 0..=100_000 {
        let budget = pace.budget(Tsc(n * 10_000 / 8));
        assert!(budget.abs_diff(n * 7 / 800) <= 1, "{budget}");
    }
}

/// One step of whoever spends.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many ticks pass.
    Wait(u64),
    /// So many 256ths of what there is are spent.
    Spend(u64),
    /// An epoch ends.
    Advise(usize, u64, u64),
}

fn decode((kind, a, b): (u8, u64, u64), hz: u64) -> Step {
    match kind % 8 {
        0 => Step::Wait(a % (hz / 3)),
        1 | 2 => Step::Wait(a % (hz / 100)),
        3 | 4 => Step::Spend(a % 257),
        5 | 6 => Step::Spend(256),
        _ => Step::Advise(usize::from(kind / 8) % 4, a % 100, b % (a % 100 + 1)),
    }
}

/// Does the steps; what was spent when, and the highest rate that there was.
fn spend(pace: &mut Pace, steps: &[Step]) -> (Vec<(u64, u64)>, u64) {
    let (mut now, mut spent, mut highest) = (12_345, Vec::new(), pace.rate());
    for step in steps {
        match *step {
            Step::Wait(ticks) => now += ticks,
            Step::Spend(part) => {
                let ticks = pace.budget(Tsc(now)) * part / 256;
                pace.spend(ticks);
                spent.push((now, ticks));
            }
            Step::Advise(state, hashed, saved) => pace.advise(STATES[state], hashed, saved),
        }
        highest = highest.max(pace.rate());
    }
    (spent, highest)
}

fn most_in_a_second(spent: &[(u64, u64)], hz: u64) -> u64 {
    let from = |first: usize| {
        let end = spent[first].0 + hz;
        let second = spent[first..].iter().take_while(|(when, _)| *when < end);
        second.map(|(_, ticks)| ticks).sum::<u64>()
    };
    (0..spent.len()).map(from).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_second_sees_more_than_the_rate(
        hz in prop_oneof![1_000_u64..10_000, 100_000_000..6_000_000_000_u64],
        fixed in any::<u64>(),
        is_fixed in any::<bool>(),
        seeds in vec(any::<(u8, u64, u64)>(), 1..200),
    ) {
        let steps: Vec<Step> = seeds.iter().map(|seed| decode(*seed, hz)).collect();
        let mut pace = Pace::new(hz, is_fixed.then_some(fixed % (2 * hz)));
        let (spent, highest) = spend(&mut pace, &steps);
        prop_assert!(most_in_a_second(&spent, hz) <= highest);
        if is_fixed {
            prop_assert_eq!(highest, (fixed % (2 * hz)).min(hz));
        }
    }
}
