//! What a guest is told about pressure, and when: the message first, force later.
//!
//! The level goes up at once, because a message that comes late is of no use; it goes down only after it
//! has been lower for [`HOLD_MS`], so that an application is not woken for every frame that comes and goes.

use super::host_state::HostState;
use super::view::Target;
use core::fmt;

/// A level falls only after it has been lower for so long, in milliseconds.
pub const HOLD_MS: u64 = 2000;

/// How much pressure a guest is under.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// None.
    #[default]
    None,
    /// Memory gets short: what can be given easily should be given.
    Some,
    /// Memory is short: it will be taken.
    Full,
}

impl Level {
    /// Its name in messages and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Some => "some",
            Self::Full => "full",
        }
    }

    /// The level with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::None, Self::Some, Self::Full]
            .into_iter()
            .find(|level| level.name() == name)
    }

    /// For a guest that is asked for so many frames because the host is short. Each is told as soon as memory gets
    /// short, asked or not: what applications give by themselves then nobody has to be asked for. When the host is in
    /// need a guest that is asked for nothing has less pressure than one that is.
    #[must_use]
    pub const fn for_guest(state: HostState, wanted: u64) -> Self {
        match (state, wanted) {
            (HostState::High, _) => Self::None,
            (HostState::Soft, _) | (HostState::Hard, 0) => Self::Some,
            (HostState::Hard, _) | (HostState::Low, _) => Self::Full,
        }
    }
}

/// A message to a guest. It displays as a line of the protocol, `pressure some free=4096 wanted=8192` and a line
/// feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice {
    /// How much pressure.
    pub level: Level,
    /// Frames of the host that are free.
    pub free: u64,
    /// Frames that this guest is asked for.
    pub wanted: u64,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |frames: u64| u128::from(frames) * 4;
        let (free, wanted) = (kib(self.free), kib(self.wanted));
        writeln!(f, "pressure {} free={free} wanted={wanted}", self.level.name())
    }
}

/// The level of one guest.
#[derive(Clone, Copy, Default, Debug)]
pub struct PressureGauge {
    level: Level,
    /// It has been lower since then, and no higher than this.
    lower: Option<(u64, Level)>,
    /// What the operator wants the guest to be told.
    forced: Option<Level>,
    /// Whether the level is one that the operator wanted.
    was_forced: bool,
}

impl PressureGauge {
    /// No pressure yet.
    pub const NONE: Self = Self {
        level: Level::None,
        lower: None,
        forced: None,
        was_forced: false,
    };

    /// The level that the guest was told.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The operator's level, if there is one.
    #[must_use]
    pub const fn forced(&self) -> Option<Level> {
        self.forced
    }

    /// The operator wants this level, whatever the state of the host; or `None`: as it is. The next
    /// [`PressureGauge::update`] applies it at once.
    pub const fn force(&mut self, level: Option<Level>) {
        self.forced = level;
    }

    /// The state of the host and what the guest is asked for now. Says the new level if it changes: then the
    /// guest is to be told (a [`Notice`]).
    pub fn update(&mut self, now_ms: u64, state: HostState, wanted: u64) -> Option<Level> {
        let before = self.level;
        let (level, lower) = match self.forced {
            Some(level) => (level, None),
            // What was told at the operator's word was never measured: nothing of it is held.
            None if self.was_forced => (Level::for_guest(state, wanted), None),
            None => self.held(now_ms, Level::for_guest(state, wanted)),
        };
        self.was_forced = self.forced.is_some();
        (self.level, self.lower) = (level, lower);
        (level != before).then_some(level)
    }

    /// The level after this one was measured, and since when it has been lower.
    fn held(&self, now_ms: u64, measured: Level) -> (Level, Option<(u64, Level)>) {
        if measured >= self.level {
            return (measured, None);
        }
        let (since, highest) = self.lower.unwrap_or((now_ms, measured));
        let highest = highest.max(measured);
        if now_ms.saturating_sub(since) >= HOLD_MS {
            (highest, None)
        } else {
            (self.level, Some((since, highest)))
        }
    }
}

/// For how long a guest can give by itself before its balloon is told to take.
#[derive(Clone, Copy, Default, Debug)]
pub struct Grace {
    ends_ms: Option<u64>,
    seen: Level,
}

impl Grace {
    /// None runs.
    pub const NONE: Self = Self {
        ends_ms: None,
        seen: Level::None,
    };

    /// Whether it runs at this time.
    #[must_use]
    pub fn is_running(&self, now_ms: u64) -> bool {
        self.ends_ms.is_some_and(|ends| now_ms < ends)
    }

    /// The target that the balloon is to be told now, of a guest at this level that was last told `told`. When the
    /// level has risen, a grace begins; one that runs is not made longer. While it runs a target does not rise because
    /// the host is short; what the operator or a limit wants, and a target that falls, do not wait. In the low
    /// state nothing waits.
    pub fn released(&mut self, clock: Clock, level: Level, told: u64, target: &Target) -> u64 {
        if level > self.seen && !self.is_running(clock.now_ms) {
            self.ends_ms = Some(clock.now_ms.saturating_add(u64::from(clock.grace_ms)));
        }
        self.seen = level;
        let waits = clock.state != HostState::Low && self.is_running(clock.now_ms);
        if waits {
            target.frames.min(told.max(target.firm))
        } else {
            target.frames
        }
    }
}

/// When it is, and what that means for a [`Grace`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Milliseconds from any beginning.
    pub now_ms: u64,
    /// How long a grace is.
    pub grace_ms: u32,
    /// The host's state.
    pub state: HostState,
}
