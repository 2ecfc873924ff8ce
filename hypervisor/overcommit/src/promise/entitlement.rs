//! Who gives the next frames when memory is short.
//!
//! *Min-funding revocation* (Waldspurger, OSDI 2002, section 5.1): each guest pays for the frames it holds with its
//! shares, and who pays the least for a frame gives one. With the *idle tax* (section 5.2) a frame that is not used
//! costs `k = 1 / (1 - tax)` times as much as one that is, so with shares S, P frames held and a fraction f of
//! them in use the rate is
//!
//! ```text
//! S / (P * (f + k * (1 - f)))
//! ```
//!
//! Here it is a fraction of integers, compared by cross-multiplication: with `tax` in percent, both parts times
//! `100 - tax`, it is `S * (100 - tax)` for `used * (100 - tax) + idle * 100`. For the same shares and tax
//! nothing is rounded.
//!
//! What is idle is a claim. A guest that says it uses everything pays as one that does use everything: no better
//! than any busy guest with its shares. One that says it is idle gives first.

use super::terms::Terms;
use core::cmp::Ordering;

/// What a guest pays for a frame.
#[derive(Clone, Copy, Debug)]
pub struct FundingRate {
    shares: u64,
    frames: u128,
}

impl FundingRate {
    /// Of a guest with these terms, that holds so many frames and does not use so many of them.
    #[must_use]
    pub fn new(terms: &Terms, held: u64, idle: u64) -> Self {
        let idle = idle.min(held);
        let untaxed = u64::from(100_u8.saturating_sub(terms.idle_tax_percent()).max(1));
        Self {
            shares: u64::from(terms.shares()) * untaxed,
            frames: u128::from(held - idle) * u128::from(untaxed) + u128::from(idle) * 100,
        }
    }

    /// Whether this rate is lower than the other by more than an eighth: enough to move memory for.
    #[must_use]
    pub fn is_clearly_below(&self, other: &Self) -> bool {
        self.dearer() < *other
    }

    /// The highest rate that this one is not clearly below.
    pub(super) const fn dearer(&self) -> Self {
        Self {
            shares: self.shares + self.shares.div_ceil(8),
            frames: self.frames,
        }
    }
}

impl Ord for FundingRate {
    fn cmp(&self, other: &Self) -> Ordering {
        // shares < 2^40, frames < 2^72: products fit. A guest without a frame pays without bound for each.
        let ours = u128::from(self.shares) * other.frames;
        let theirs = u128::from(other.shares) * self.frames;
        ours.cmp(&theirs)
    }
}

impl PartialOrd for FundingRate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FundingRate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for FundingRate {}
