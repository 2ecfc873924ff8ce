//! A small machine on which guests thrash: what the token is good for.

use super::super::{Doing, Token};
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

/// Frames of the machine, and pages that each guest works over again and again.
const FRAMES: usize = 100;
const PERIOD: u64 = 400;
/// What it takes to bring a page back, and what to use one.
const FAULT: u64 = 8;
const HIT: u64 = 1;

struct Guest {
    working_set: usize,
    next: usize,
    used: u64,
    came_back: u64,
    ran: u64,
    busy_until: u64,
}

/// The oldest page is taken; with the token those of its holder are not while others have any.
struct World {
    guests: Vec<Guest>,
    /// Pages in memory, the one that was used last at the end.
    memory: VecDeque<(usize, usize)>,
    token: Option<Token>,
    forced: bool,
}

impl World {
    fn new(working_sets: &[usize], has_token: bool) -> Self {
        let guest = |working_set: &usize| Guest {
            working_set: *working_set,
            next: 0,
            used: 0,
            came_back: 0,
            ran: 0,
            busy_until: 0,
        };
        Self {
            guests: working_sets.iter().map(guest).collect(),
            memory: VecDeque::new(),
            token: has_token.then(Token::new),
            forced: false,
        }
    }

    fn take_one(&mut self) {
        let holder = self.token.as_ref().and_then(Token::holder);
        let shielded = |(guest, _): &(usize, usize)| Some(*guest) == holder;
        let oldest = self.memory.iter().position(|page| !shielded(page)).unwrap_or(0);
        let _ = self.memory.remove(oldest);
        self.forced = true;
    }

    /// The guest uses its next page; the time that takes.
    fn step(&mut self, index: usize) -> u64 {
        let page = (index, self.guests[index].next);
        let found = self.memory.iter().position(|known| *known == page);
        if let Some(at) = found {
            let _ = self.memory.remove(at);
        } else if self.memory.len() == FRAMES {
            self.take_one();
        }
        self.memory.push_back(page);
        let guest = &mut self.guests[index];
        guest.next = (guest.next + 1) % guest.working_set;
        guest.used += 1;
        guest.ran += 1;
        guest.came_back += u64::from(found.is_none());
        if found.is_some() { HIT } else { FAULT }
    }

    /// Pages that each guest has used after so many periods. While one waits for a page, another runs.
    fn run(mut self, periods: u64) -> Vec<u64> {
        let mut now = 0;
        for period in 1..=periods {
            while now < period * PERIOD {
                let ready = self.guests.iter().enumerate();
                let ready = ready.filter(|(_, guest)| guest.busy_until <= now);
                let Some((index, _)) = ready.min_by_key(|(_, guest)| guest.busy_until) else {
                    now += 1;
                    continue;
                };
                let cost = self.step(index);
                self.guests[index].busy_until = now + cost;
                now += HIT;
            }
            self.end_period();
        }
        self.guests.iter().map(|guest| guest.used).collect()
    }

    fn end_period(&mut self) {
        let doing = |(guest, known): (usize, &Guest)| Doing {
            guest,
            came_back: known.came_back,
            ran: known.ran,
            is_waiting: true,
            is_below_part: false,
        };
        let doings = self.guests.iter().enumerate().map(doing);
        if let Some(token) = &mut self.token {
            let _ = token.end_period(self.forced, doings);
        }
        self.forced = false;
    }
}

#[test]
fn two_that_do_not_fit_together_get_on_with_the_token_and_hardly_without() {
    let sets = [70, 70];
    let without = World::new(&sets, false).run(200);
    let with = World::new(&sets, true).run(200);
    for (with, without) in with.iter().zip(&without) {
        assert!(
            *with >= 2 * without,
            "{with} pages with the token, {without} without"
        );
    }
}

#[test]
fn each_of_many_gets_on() {
    for sets in [vec![60; 3], vec![40; 5], vec![90, 60, 30, 20]] {
        let without = World::new(&sets, false).run(200);
        let with = World::new(&sets, true).run(200);
        // Who fits and only loses by others' thrashing may get less than it would beside guests that get nowhere.
        let (least, least_without) = (with.iter().min(), without.iter().min());
        assert!(
            least > least_without,
            "{sets:?}: {with:?} with, {without:?} without"
        );
    }
}

#[test]
fn who_fits_loses_nothing_by_it() {
    let sets = [40, 50];
    assert_eq!(
        World::new(&sets, true).run(100),
        World::new(&sets, false).run(100)
    );
}
