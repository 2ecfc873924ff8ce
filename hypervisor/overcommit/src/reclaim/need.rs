//! When pages are taken by force, and how many.
//!
//! As Linux has it (Gorman, "Understanding the Linux Virtual Memory Manager", 10.6), work begins ahead of need at a low
//! watermark and goes on to a high one; the marks are the bounds of the host's states. Above them guests are asked
//! first: they know better than anybody what they do not need, and drop clean cache for nothing.

use crate::promise::{HostState, Thresholds};

/// Who waits for memory is not kept waiting for less than this: a few faults of each of a few guests.
const LEAST_ON_DEMAND: u64 = 64;

/// What there is, and who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// How short of memory the host is.
    pub state: HostState,
    /// Frames that are free.
    pub free: u64,
    /// All frames.
    pub total: u64,
    /// Where the states begin.
    pub thresholds: Thresholds,
    /// Guests wait for memory.
    pub is_waited_for: bool,
    /// Balloons have been asked, and some still give.
    pub are_guests_giving: bool,
}

/// How much is to be taken by force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Nothing.
    None,
    /// So many frames, before anybody has to wait.
    Ahead(u64),
    /// So many frames, at once: somebody waits.
    Now(u64),
}

impl Need {
    /// How many frames.
    #[must_use]
    pub const fn frames(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Ahead(frames) | Self::Now(frames) => frames,
        }
    }
}

/// How much is to be taken by force now.
#[must_use]
pub fn need(situation: &Situation) -> Need {
    let Situation { free, total, .. } = *situation;
    let marks = &situation.thresholds;
    let missing_to = |percent: u8| (total * u64::from(percent)).div_ceil(100).saturating_sub(free);
    let to_soft = missing_to(marks.soft_below_percent);
    if situation.is_waited_for {
        return Need::Now(to_soft.max(LEAST_ON_DEMAND));
    }
    let ahead = match situation.state {
        HostState::High => 0,
        HostState::Soft if situation.are_guests_giving => 0,
        HostState::Soft => missing_to(marks.soft_below_percent + marks.hysteresis_percent),
        HostState::Hard | HostState::Low => to_soft,
    };
    match ahead {
        0 => Need::None,
        frames => Need::Ahead(frames),
    }
}
