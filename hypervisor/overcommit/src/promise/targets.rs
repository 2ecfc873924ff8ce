//! How large each balloon is to be.
//!
//! The plan is made anew in each period from what is; all that it remembers is the target that each balloon was told.
//! Everything that depends on statistics counts from where the balloon was when they came, so that old statistics ask
//! for nothing twice.
//!
//! 1. *Firm*: the operator's target (a floor, at once), what is beyond the limit, cache beyond the strict limit. Beyond
//!    that no target stays above what the guest says that it can give with a cushion left, whoever gives that and
//!    however the target came about: a guest is never held where it has nothing.
//! 2. *Relief*, except in the low state: a guest that says that it has next to nothing left gets back from its
//!    balloon: what the host has to spare; then what others say that they have available (so computation goes before
//!    the cache of others), and what guests give that say nothing and pay clearly less for a frame than it does; then, if
//!    guests that pay less say that they have nothing to give, a part of what is free even so. The host may get to
//!    the low state by that, where nobody is spared for what it says whose balloon deflates when it runs out of memory:
//!    this is why none of these can keep what others are entitled to by saying that it needs it. (One that would
//!    have to end processes keeps what it says that it needs; what bounds that is its limit.) Then a guest that says nothing and has touched all that it has gets
//!    back what guests give that pay clearly less.
//! 3. *Shortage*, in the states below high: cache beyond the soft limits; then whatever guests have, from who
//!    pays least ([`FundingRate`](super::FundingRate)). As much as brings the host back to high (in the hard state
//!    the hysteresis once more, in the low state twice more), counting what has been asked for and is still to come (in
//!    the hard state half of it, in the low state nothing). A balloon that is stuck or absent is not counted on: its
//!    guest's part is asked of others. In the low state a guest in need is asked last.
//! 4. *Return*, in the high state: half of what is free beyond the bound and a margin goes back in each period, first
//!    to who pays most. In between nothing happens, so that a target does not go up and down.
//!
//! A shortage raises a target by no more than an eighth of the guest's memory beyond what is in the balloon (a
//! sixteenth in the soft state), not below the reservation, and not below [`survival`](super::survival) or, where
//! the guest says what it has available, a [`cushion`](super::cushion) of that.
//!
//! What others lose by a guest's claims is bounded: who says that it has nothing to spare is passed by until the low
//! state; until then others are asked for what they say themselves that they can spare; after that by shares alone.

use super::admission::MAX_GUESTS;
use super::amount::{percent_of, percent_up};
use super::entitlement::FundingRate;
use super::host_state::HostState;
use super::seat::{Asking, Seat};
use super::view::{GuestView, HostView, Target};
use arrayvec::ArrayVec;

/// Less than this (256 KiB) is not worth a change of a target.
const QUANTUM: u64 = 64;
/// What is needed is gathered in so many pieces, and after each it is asked anew who pays least.
const PIECES: u64 = 32;

/// Plans the target of every guest; of no more than [`MAX_GUESTS`]. `out` is cleared and gets one for each, in their
/// order.
pub fn plan(host: &HostView, guests: &[GuestView], out: &mut ArrayVec<Target, MAX_GUESTS>) {
    let mut round = Round::new(host, guests);
    if host.state != HostState::Low {
        round.relieve();
    }
    if host.state == HostState::High {
        round.let_down();
    } else {
        round.gather();
    }
    out.clear();
    let outcomes = round.seats.iter().enumerate();
    out.extend(outcomes.map(|(guest, seat)| seat.outcome(guest)));
}

/// One plan in the making.
struct Round<'a> {
    host: &'a HostView,
    seats: ArrayVec<Seat<'a>, MAX_GUESTS>,
    /// From so many free frames on the state gets high again.
    line: u64,
    /// What lies between that and where it would become soft.
    margin: u64,
    /// Frames that went back to guests.
    given: u64,
}

impl<'a> Round<'a> {
    fn new(host: &'a HostView, guests: &'a [GuestView]) -> Self {
        let bounds = &host.thresholds;
        let hysteresis = u64::from(bounds.hysteresis_percent);
        let seats = guests.iter().take(MAX_GUESTS);
        let seats: ArrayVec<_, MAX_GUESTS> = seats.map(|view| Seat::new(view, host.state)).collect();
        Self {
            host,
            given: seats.iter().map(|seat| seat.given).fold(0, u64::saturating_add),
            seats,
            line: percent_up(u64::from(bounds.soft_below_percent) + hysteresis, host.total),
            margin: percent_of(hysteresis, host.total),
        }
    }

    /// Guests in need, who pays most first; then those who say nothing and pay more than others.
    fn relieve(&mut self) {
        for at in self.by_rate(|seat| seat.need() > 0) {
            let need = self.seats[at].need();
            let left = self.host.free.saturating_sub(self.given);
            let spare = left.saturating_sub(self.line);
            self.give_back(at, need.min(spare));
            let rest = self.collect_for(at, need.saturating_sub(spare), |seat| seat.speaks());
            self.give_in_advance(at, rest);
        }
        for at in self.by_rate(|seat| seat.wish() > 0) {
            let wish = self.seats[at].wish();
            self.collect_for(at, wish, |_| false);
        }
    }

    /// Such guests, who pays most first.
    fn by_rate(&self, filter: impl Fn(&Seat<'_>) -> bool) -> ArrayVec<usize, MAX_GUESTS> {
        let mut places: ArrayVec<usize, MAX_GUESTS> = ArrayVec::new();
        places.extend((0..self.seats.len()).filter(|at| filter(&self.seats[*at])));
        places.sort_unstable_by(|a, b| {
            let by_rate = self.seats[*b].busy_rate().cmp(&self.seats[*a].busy_rate());
            by_rate.then(a.cmp(b))
        });
        places
    }

    fn give_back(&mut self, at: usize, frames: u64) {
        if frames > 0 {
            self.seats[at].give_back(frames);
            self.given = self.given.saturating_add(frames);
        }
    }

    /// Gives what guests can give that pay less than this one, or that give anyway; says how much is still wanting.
    fn collect_for(&mut self, at: usize, wish: u64, gives_anyway: fn(&Seat<'_>) -> bool) -> u64 {
        let mut wish = wish;
        let piece = (wish / PIECES).max(QUANTUM);
        while wish > 0 {
            let receiver = self.seats[at].busy_rate();
            let gives = |seat: &Seat<'_>| gives_anyway(seat) || seat.rate().is_clearly_below(&receiver);
            let able = self.able(Asking::Memory);
            let able = able.filter(|other| *other != at && gives(&self.seats[*other]));
            let Some(giver) = self.cheapest(able) else {
                break;
            };
            let gain = self.seats[giver].ask(piece.min(wish), Asking::Memory);
            self.give_back(at, gain);
            wish -= gain;
        }
        wish
    }

    /// Gives a part of what is free, if others who pay less have what this guest is entitled to but say that they need
    /// it.
    fn give_in_advance(&mut self, at: usize, wish: u64) {
        let receiver = self.seats[at].busy_rate();
        let is_entitled = self
            .seats
            .iter()
            .enumerate()
            .any(|(other, seat)| other != at && seat.hides() && seat.rate().is_clearly_below(&receiver));
        if is_entitled {
            let part = self.host.free.saturating_sub(self.given) / 4;
            self.give_back(at, wish.min(part));
        }
    }

    /// Who can be asked.
    fn able(&self, asking: Asking) -> impl Iterator<Item = usize> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(move |(at, seat)| seat.can_give(asking).then_some(at))
    }

    /// Who pays least among these; among equals the lowest priority, then the first.
    fn cheapest(&self, able: impl Iterator<Item = usize>) -> Option<usize> {
        let key = |at: &usize| -> (FundingRate, u8) { (self.seats[*at].rate(), self.seats[*at].priority()) };
        able.min_by_key(key)
    }

    /// Asks for what brings the host back to the high state.
    fn gather(&mut self) {
        let ahead = match self.host.state {
            HostState::High | HostState::Soft => 0,
            HostState::Hard => self.margin,
            HostState::Low => self.margin.saturating_mul(2),
        };
        let goal = self.line.saturating_add(ahead).saturating_add(self.given);
        let pending = self.seats.iter().map(Seat::pending).fold(0, u64::saturating_add);
        // The shorter memory is, the less can be left to guests that take their time.
        let counted = match self.host.state {
            HostState::High | HostState::Soft => pending,
            HostState::Hard => pending / 2,
            HostState::Low => 0,
        };
        let needed = goal.saturating_sub(self.host.free.saturating_add(counted));
        let needed = self.ask(needed, Asking::Cache);
        self.ask(needed, Asking::Memory);
    }

    /// Asks guests for so many frames; says what is still wanting. It ends: each turn either gains a piece, or
    /// brings a guest to where it cannot be asked for more.
    fn ask(&mut self, needed: u64, asking: Asking) -> u64 {
        let mut needed = needed;
        let piece = (needed / PIECES).max(QUANTUM);
        while needed > 0 {
            let others = self.cheapest_later();
            let able = self.able(asking).filter(|at| !self.is_exempt(*at, others));
            let Some(at) = self.cheapest(able) else {
                break;
            };
            let seat = &mut self.seats[at];
            let gain = match (asking, self.host.state) {
                // There is time to see what comes before anything else is asked for.
                (Asking::Cache, HostState::Soft) => seat.ask_plainly(piece.min(needed), asking),
                _ => seat.ask(piece.min(needed), asking),
            };
            needed -= gain;
        }
        needed
    }

    /// A guest in need (whom only the low state asks), or one with nothing to give yet but what nothing backs, is not
    /// asked while somebody else can give and pays clearly less, even if that one has been asked for a whole step: its
    /// next step is in the next period.
    fn is_exempt(&self, at: usize, others: Option<FundingRate>) -> bool {
        let seat = &self.seats[at];
        (seat.is_in_need() || !seat.has_gain()) && others.is_some_and(|others| others < seat.rate())
    }

    /// The rate above which one pays clearly more than somebody who can give, now or later.
    fn cheapest_later(&self) -> Option<FundingRate> {
        let give_later = self.seats.iter().filter(|seat| seat.has_more());
        give_later.map(|seat| seat.rate().dearer()).min()
    }

    /// Gives back half of what there is to spare, a piece at a time to who pays most.
    fn let_down(&mut self) {
        let kept = self.line.saturating_add(self.margin).saturating_add(self.given);
        let spare = self.host.free.saturating_sub(kept);
        let mut budget = spare / 2;
        let piece = (budget / PIECES).max(QUANTUM);
        while budget >= QUANTUM {
            let able = self.seats.iter().enumerate().filter_map(|(at, seat)| {
                let most = seat.returnable(spare).min(piece);
                // Small change waits, but for the last of a balloon.
                (most >= QUANTUM.min(seat.above_lowest()) && most > 0).then_some((at, most, seat.rate()))
            });
            // The first among equals: `max_by` would take the last.
            let Some((at, most, _)) = able.reduce(|best, next| if next.2 > best.2 { next } else { best })
            else {
                break;
            };
            let frames = most.min(budget);
            self.give_back(at, frames);
            budget -= frames;
        }
    }
}
