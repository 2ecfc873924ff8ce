//! Who is suspended before anybody is stopped, and when it goes on.
//!
//! What a guest uses all the time is never old enough to be taken. If it does not run it grows old like everything
//! else, and can wait in the swap store as well as in memory. So a guest that is suspended makes room, and loses
//! nothing but time; which makes sense only where its pages can be taken, and for somebody else.

use crate::promise::Thresholds;

/// A guest waits for memory for so long, in milliseconds, without getting anywhere, until one is suspended for it. A
/// fifth of the patience after which one is stopped: time enough to see whether it helps.
pub const SUSPEND_AFTER_MS: u64 = 2_000;
/// A guest is suspended for so long at least: others are to get the memory.
const LEAST_MS: u64 = 1_000;
/// And for so long at most, in a row: that others need memory all the time must not keep it out for ever.
const MOST_MS: u64 = 60_000;

/// A guest that lives, and may be suspended.
#[derive(Clone, Copy, Debug)]
pub struct Rank {
    /// Which one.
    pub guest: usize,
    /// Who is suspended first: the lowest.
    pub priority: u8,
    /// Its part of the processor: among equals the lowest is first.
    pub weight: u32,
    /// It waits for memory.
    pub waits: bool,
    /// It has frames beyond its reservation.
    pub has_more: bool,
    /// Suspending it brings something: its pages can be kept, and have not all been refused.
    pub can_give: bool,
}

/// Who is suspended: the one with the lowest priority, among equals with the lowest weight, among equals the last.
/// Nobody, if just that one could not give, or is the only one that waits: there is no other way round the order.
#[must_use]
pub fn whom_to_suspend(guests: impl Iterator<Item = Rank> + Clone) -> Option<usize> {
    let last = guests
        .clone()
        .filter(|rank| rank.has_more)
        .min_by_key(|rank| (rank.priority, rank.weight, usize::MAX - rank.guest))?;
    let is_for_others = guests.clone().any(|rank| rank.waits && rank.guest != last.guest);
    (last.can_give && is_for_others).then_some(last.guest)
}

/// A guest that is suspended, and what is around it.
#[derive(Clone, Copy, Debug)]
pub struct Suspended {
    /// For how long it has been.
    pub for_ms: u64,
    /// Frames that it had.
    pub held: u64,
    /// Guests wait for memory.
    pub is_waited_for: bool,
    /// No other guest can run, or ever will by itself.
    pub is_alone: bool,
    /// Frames that are free, and all.
    pub free: u64,
    /// All frames.
    pub total: u64,
    /// Where the host's states begin.
    pub thresholds: Thresholds,
}

/// Why a guest goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resumption {
    /// There is room for it.
    MemoryBack,
    /// Nobody else needs the memory.
    Alone,
    /// It has been suspended for long enough.
    LongEnough,
}

impl Resumption {
    /// The reason for people and in records.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::MemoryBack => "there is memory for it again",
            Self::Alone => "nobody else needs the memory",
            Self::LongEnough => "it has been suspended for 60 s",
        }
    }
}

/// Whether it may go on, and why. Memory is back when the host would stay in the state high with half of what the guest
/// had: the other half it may not need at once, and what it has in the pool frees frames when it comes back.
#[must_use]
pub fn may_resume(suspended: &Suspended) -> Option<Resumption> {
    let Suspended {
        for_ms,
        free,
        total,
        thresholds,
        ..
    } = *suspended;
    let percent = thresholds.soft_below_percent + thresholds.hysteresis_percent;
    let enough = (total * u64::from(percent)).div_ceil(100) + suspended.held / 2;
    if suspended.is_alone {
        Some(Resumption::Alone)
    } else if for_ms >= MOST_MS {
        Some(Resumption::LongEnough)
    } else if for_ms >= LEAST_MS && !suspended.is_waited_for && free >= enough {
        Some(Resumption::MemoryBack)
    } else {
        None
    }
}
