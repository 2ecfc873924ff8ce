//! What each guest is entitled to of what there is.
//!
//! Memory is poured into all guests at once, in proportion to their shares, from their reservations on, and a guest that
//! is full at its limit takes no more: everybody has `shares * level`, but no less than the one and no more than the
//! other.

use super::admission::MAX_GUESTS;
use super::terms::Terms;
use arrayvec::ArrayVec;

/// Frames that each guest is entitled to, of so many that there are for all of them.
#[must_use]
pub fn entitled(available: u64, guests: &[Terms]) -> ArrayVec<u64, MAX_GUESTS> {
    let at = |level: u64, terms: &Terms| {
        let poured = u64::from(terms.shares()).saturating_mul(level) >> FRACTION;
        poured.clamp(terms.reservation(), terms.limit().max(terms.reservation()))
    };
    let guests = &guests[..guests.len().min(MAX_GUESTS)];
    let needed = |level: u64| guests.iter().map(|terms| at(level, terms)).sum::<u64>();
    let (mut low, mut high) = (0, LEVEL_MAX);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if needed(middle) <= available {
            low = middle;
        } else {
            high = middle;
        }
    }
    guests.iter().map(|terms| at(low, terms)).collect()
}

/// Bits of a level below one frame a share: enough for shares of 2^32.
const FRACTION: u32 = 20;
/// No level is as high: a guest with one share would have more than can be promised.
const LEVEL_MAX: u64 = 1 << 58;
