//! Frames, said in units of people.

use core::fmt;

/// Frames of 4 KiB in a MiB.
pub(super) const FRAMES_PER_MIB: u64 = 256;

/// A number of frames. Shown exactly: in MiB if they are whole, else in KiB, so that what a message adds up
/// does add up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Amount(pub u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(FRAMES_PER_MIB) {
            write!(f, "{} MiB", self.0 / FRAMES_PER_MIB)
        } else {
            write!(f, "{} KiB", u128::from(self.0) * 4)
        }
    }
}

/// So many percent of these frames, rounded down.
pub(super) fn percent_of(percent: u64, frames: u64) -> u64 {
    let part = u128::from(frames) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// So many percent of these frames, rounded up.
pub(super) fn percent_up(percent: u64, frames: u64) -> u64 {
    let part = (u128::from(frames) * u128::from(percent)).div_ceil(100);
    u64::try_from(part).unwrap_or(u64::MAX)
}
