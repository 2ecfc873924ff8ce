//! The token's rules, one by one, and that nobody starves whatever guests do.

use super::super::{Doing, Handover, TURN, Token, Why};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

/// Guests that run and whose pages come back: so many in each period.
struct Guests {
    token: Token,
    came_back: Vec<u64>,
    ran: Vec<u64>,
    is_below_part: bool,
}

impl Guests {
    fn new(count: usize) -> Self {
        Self {
            token: Token::new(),
            came_back: vec![0; count],
            ran: vec![0; count],
            is_below_part: false,
        }
    }

    /// A period: who is not there has `None`; who is idle runs for no time.
    fn period(&mut self, is_forced: bool, faults: &[Option<u64>], is_idle: &[bool]) -> Option<Handover> {
        for (guest, faults) in faults.iter().enumerate() {
            self.came_back[guest] += faults.unwrap_or(0);
            self.ran[guest] += u64::from(!is_idle.get(guest).copied().unwrap_or(false));
        }
        let there = faults.iter().enumerate().filter(|(_, faults)| faults.is_some());
        let doings: Vec<Doing> = there
            .map(|(guest, _)| Doing {
                guest,
                came_back: self.came_back[guest],
                ran: self.ran[guest],
                is_waiting: false,
                is_below_part: self.is_below_part,
            })
            .collect();
        self.token.end_period(is_forced, doings.into_iter())
    }

    fn thrash(&mut self, faults: &[u64]) -> Option<Handover> {
        let faults: Vec<Option<u64>> = faults.iter().copied().map(Some).collect();
        self.period(true, &faults, &[])
    }
}

use std::vec;
use std::vec::Vec;

#[test]
fn it_takes_two_to_thrash() {
    let mut guests = Guests::new(2);
    for _ in 0..10 {
        assert_eq!(guests.thrash(&[50, 0]), None);
    }
    let given = guests.thrash(&[50, 50]).unwrap();
    assert_eq!((given.from, given.to, given.why), (None, Some(0), Why::Thrashing));
}

#[test]
fn who_thrashes_alone_gets_it_only_with_less_than_its_part() {
    let mut guests = Guests::new(2);
    assert_eq!(guests.thrash(&[50, 0]), None);
    guests.is_below_part = true;
    // What came back in the first period is not counted.
    let given = guests.thrash(&[50, 0]).unwrap();
    assert_eq!((given.from, given.to, given.why), (None, Some(0), Why::Thrashing));
}

#[test]
fn pages_that_come_back_while_nothing_is_taken_are_no_thrashing() {
    let mut guests = Guests::new(2);
    for _ in 0..10 {
        assert_eq!(guests.period(false, &[Some(90), Some(90)], &[]), None);
    }
}

#[test]
fn a_turn_is_bounded_and_the_other_is_next() {
    let mut guests = Guests::new(2);
    guests.thrash(&[50, 50]);
    assert_eq!(guests.thrash(&[50, 50]).and_then(|given| given.to), Some(0));
    for _ in 1..TURN {
        // Who has the token does not lose its pages: it stops faulting, and keeps it.
        assert_eq!(guests.thrash(&[0, 50]), None);
    }
    let next = guests.thrash(&[0, 50]).unwrap();
    assert_eq!((next.to, next.why), (Some(1), Why::TurnOver));
    for _ in 1..TURN {
        assert_eq!(guests.thrash(&[50, 0]), None);
    }
    assert_eq!(guests.thrash(&[50, 0]).and_then(|given| given.to), Some(0));
}

#[test]
fn nobody_keeps_it_that_has_nothing_to_do_with_it() {
    let with_a_turn = || {
        let mut guests = Guests::new(2);
        guests.thrash(&[50, 50]);
        guests.thrash(&[50, 50]);
        assert_eq!(guests.token.holder(), Some(0));
        guests
    };
    let freed = |why| {
        Some(Handover {
            from: Some(0),
            to: None,
            why,
        })
    };
    let mut gone = with_a_turn();
    assert_eq!(gone.period(true, &[None, Some(50)], &[]), freed(Why::Gone));
    let mut idle = with_a_turn();
    let is_idle = [true, false];
    assert_eq!(idle.period(true, &[Some(0), Some(50)], &is_idle), None);
    assert_eq!(
        idle.period(true, &[Some(0), Some(50)], &is_idle),
        freed(Why::Idle)
    );
    let mut calm = with_a_turn();
    assert_eq!(calm.period(false, &[Some(0), Some(0)], &[]), None);
    assert_eq!(calm.period(false, &[Some(0), Some(0)], &[]), freed(Why::Calm));
}

proptest! {
    /// Whoever thrashes all the time gets its turn, however the others do that and whoever comes and goes.
    #[test]
    fn nobody_starves(
        count in 2..8_u32,
        noise in vec((0..400_u64, any::<bool>(), 0..20_u8), 700),
    ) {
        let mut guests = Guests::new(count as usize);
        let (mut waited, mut noise) = (0, noise.into_iter().cycle());
        for _ in 0..500 {
            let mut faults = vec![Some(8)];
            let mut is_idle = vec![false];
            for (rate, idle, gone) in noise.by_ref().take(count as usize - 1) {
                faults.push((gone > 0).then_some(rate));
                is_idle.push(idle);
            }
            guests.period(true, &faults, &is_idle);
            let others = faults.iter().skip(1).flatten().filter(|rate| **rate >= 8).count();
            waited = if guests.token.holder() == Some(0) || others == 0 { 0 } else { waited + 1 };
            prop_assert!(waited <= 2 * (count + 1) * TURN, "waited for {waited} periods");
        }
    }

    /// The token is where the handovers say, only with guests that are there, and while others thrash never for
    /// longer than a turn.
    #[test]
    fn handovers_tell_all(
        periods in vec((any::<bool>(), vec((0..8_u8, 0..60_u64, any::<bool>()), 4)), 1..100),
    ) {
        let mut guests = Guests::new(4);
        let (mut holder, mut held) = (None, 0);
        for (is_forced, doings) in periods {
            let faults: Vec<_> = doings.iter().map(|(gone, rate, _)| (*gone > 0).then_some(*rate)).collect();
            let is_idle: Vec<_> = doings.iter().map(|(_, _, idle)| *idle).collect();
            match guests.period(is_forced, &faults, &is_idle) {
                Some(Handover { from, to, .. }) => {
                    prop_assert_eq!(from, holder);
                    prop_assert!(from != to);
                    (holder, held) = (to, 0);
                }
                None => held += 1,
            }
            prop_assert_eq!(guests.token.holder(), holder);
            if let Some(guest) = holder {
                prop_assert!(faults[guest].is_some());
                prop_assert!(held <= TURN);
            }
        }
    }
}
