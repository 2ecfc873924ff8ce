//! From whom pages are taken, and from which age on.
//!
//! Guests are chosen as balloons are: who pays least for a frame gives it ([`FundingRate`]). What is idle is no claim
//! here but what the processor's accessed bits say. Within a guest the oldest go first.

use crate::promise::{FundingRate, Terms};

/// Ages that are told apart, in generations; the last one stands for all that are older, too.
pub const AGES: usize = 32;
/// Pages by age.
pub type Ages = [u64; AGES];

/// From this age on a page counts as not used: what is touched now and then, by a timer's tick say, is not idle.
const IDLE_FROM: usize = 4;
/// Pages that were used in this generation are left alone; so are those of which that is not known yet.
const YOUNGEST: usize = 1;

/// A guest that pages may be taken from.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// What it is entitled to.
    pub terms: &'a Terms,
    /// Frames of its own.
    pub held: u64,
    /// Its pages by age.
    pub ages: &'a Ages,
    /// Nothing more was found in it since its last generation ended.
    pub is_exhausted: bool,
    /// It is shielded: it thrashes, and it is its turn to make progress.
    pub has_token: bool,
    /// It does not run, so that its pages can be taken.
    pub is_suspended: bool,
}

impl Candidate<'_> {
    /// Whether it has anything to take.
    fn can_give(&self) -> bool {
        !self.is_exhausted && self.held > self.terms.reservation() && older(self.ages, YOUNGEST) > 0
    }
}

/// Pages of at least this age.
#[must_use]
pub fn older(ages: &Ages, age: usize) -> u64 {
    ages.iter().skip(age).sum()
}

/// Pages that are not used, of those that a guest has.
#[must_use]
pub fn idle(ages: &Ages) -> u64 {
    older(ages, IDLE_FROM)
}

/// Who gives the next pages: the place in the list. Nobody, if nobody has any that are old enough. Who is suspended
/// gives before all others, and who has the token after them.
#[must_use]
pub fn choose<'a>(guests: impl Iterator<Item = (usize, Candidate<'a>)>) -> Option<usize> {
    let rate = |guest: &Candidate<'_>| FundingRate::new(guest.terms, guest.held, idle(guest.ages));
    guests
        .filter(|(_, guest)| guest.can_give())
        .min_by(|(_, one), (_, other)| {
            let by_suspension = other.is_suspended.cmp(&one.is_suspended);
            let by_token = one.has_token.cmp(&other.has_token);
            let by_rate = || rate(one).cmp(&rate(other));
            let by_priority = || one.terms.priority().cmp(&other.terms.priority());
            by_suspension
                .then(by_token)
                .then_with(by_rate)
                .then_with(by_priority)
        })
        .map(|(index, _)| index)
}

/// How old pages must be for so many of them to be found, or as many as there are; never younger than a generation.
#[must_use]
pub fn least_age(ages: &Ages, wanted: u64) -> usize {
    (YOUNGEST..AGES)
        .rev()
        .find(|age| older(ages, *age) >= wanted)
        .unwrap_or(YOUNGEST)
}
