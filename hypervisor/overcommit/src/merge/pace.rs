//! How many ticks merging may spend.
//!
//! A *bucket* holds what may be spent now. It fills with time, at seven eighths of the *rate*, and holds an
//! eighth of it: so in no second more is spent than the rate says, bursts included. Who spends more than
//! there was (a step has to be finished) finds less the next time.
//!
//! The rate is fixed by the operator, or advised. Linux's KSM chooses its pace so that one scan takes a given
//! time (`advisor_target_scan_time`), because it always has all memory to scan. Here only what was written is
//! looked at, so that there is no such scan. What is left to choose is how much processor time a saved frame
//! is worth, and that depends on two things:
//!
//! - the *yield*: pages saved for each page hashed. One in eight or more pays: the rate doubles. Less than one in
//!   32 does not: it halves. With equal guests the first pass saves most of what it hashes; a guest that works
//!   on data of its own has next to none. In between nothing changes while memory is plentiful; when it is not,
//!   that much is welcome and the rate doubles.
//! - the *pressure*: free memory is short. It sets the bounds of the rate. The lower the memory, the higher
//!   the least rate, because what the yield was does not say what it will be, and the higher the most, because
//!   every other way to get memory costs more than this one.
//!
//! | memory | least | most | of the processor |
//! |---|---|---|---|
//! | high | 1/1024 | 1/8 | |
//! | soft | 1/256 | 1/4 | |
//! | hard | 1/64 | 1/2 | |
//! | low | 1/32 | 1/2 | |
//!
//! The least rate is not zero while pages wait: without hashing any there is no yield to see. When nothing
//! was hashed nothing waited. Then the rate is said to be zero (nothing is spent: the bucket is full), and goes
//! a step towards where it began, because an old yield says little about new work.

use crate::promise::HostState;
use pleat_types::Tsc;

/// The bounds of the rate: the processor's ticks in a second, divided by these.
const fn divisors(state: HostState) -> (u64, u64) {
    match state {
        HostState::High => (1024, 8),
        HostState::Soft => (256, 4),
        HostState::Hard => (64, 2),
        HostState::Low => (32, 2),
    }
}

/// Where an advised rate begins: a part of the processor.
const FIRST_DIVISOR: u64 = 16;
/// One page saved for so many hashed, or more, pays.
const PAYS: u64 = 8;
/// One page saved for more than so many hashed does not.
const PAYS_NOT: u64 = 32;
/// The bucket holds this part of a second's rate.
const DEPTH: u64 = 8;

/// The bucket and its rate.
#[derive(Clone, Debug)]
pub struct Pace {
    tsc_hz: u64,
    /// The rate that the operator wants; else it is advised.
    fixed: Option<u64>,
    /// The advised rate.
    advised: u64,
    /// Nothing waited in the last epoch, and nothing was spent since.
    is_idle: bool,
    /// What may be spent; less than zero when too much was.
    ticks: i64,
    /// What is left of the last filling, in parts of a tick: less than `tsc_hz`.
    rest: u64,
    /// The last filling.
    filled: Option<Tsc>,
}

impl Pace {
    /// For a place that a pace is put into before it is asked for anything. All zero, so that it takes no room in an
    /// image.
    pub const STOPPED: Self = Self {
        tsc_hz: 0,
        fixed: None,
        advised: 0,
        is_idle: false,
        ticks: 0,
        rest: 0,
        filled: None,
    };

    /// A pace of this many ticks in a second, or an advised one. The bucket is full.
    #[must_use]
    pub fn new(tsc_hz: u64, fixed: Option<u64>) -> Self {
        let tsc_hz = tsc_hz.max(1);
        let mut pace = Self {
            tsc_hz,
            fixed: None,
            advised: tsc_hz / FIRST_DIVISOR,
            is_idle: false,
            ticks: i64::MAX,
            rest: 0,
            filled: None,
        };
        pace.set(fixed);
        pace
    }

    /// Fixes the rate, zero for nothing at all; or has it advised.
    pub fn set(&mut self, fixed: Option<u64>) {
        // Nobody can spend more ticks in a second than there are.
        self.fixed = fixed.map(|rate| rate.min(self.tsc_hz));
        self.limit();
    }

    /// Ticks that may be spent in a second: zero while nothing waits.
    #[must_use]
    pub const fn rate(&self) -> u64 {
        match self.fixed {
            Some(rate) => rate,
            None if self.is_idle => 0,
            None => self.advised,
        }
    }

    /// Whether the operator has fixed the rate.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Ticks that may be spent now.
    pub fn budget(&mut self, now: Tsc) -> u64 {
        let passed = now.since(self.filled.unwrap_or(now)).0;
        self.filled = Some(now);
        let rate = self.working_rate();
        let parts = u128::from(passed) * u128::from(rate - rate / DEPTH) + u128::from(self.rest);
        let hz = u128::from(self.tsc_hz);
        let gained = i64::try_from(parts / hz).unwrap_or(i64::MAX);
        self.rest = u64::try_from(parts % hz).unwrap_or(0);
        self.ticks = self.ticks.saturating_add(gained);
        self.limit();
        u64::try_from(self.ticks).unwrap_or(0)
    }

    /// Takes from the bucket what was spent.
    pub fn spend(&mut self, ticks: u64) {
        self.is_idle &= ticks == 0;
        self.ticks = self.ticks.saturating_sub_unsigned(ticks);
        self.limit();
    }

    /// Once in an epoch: how much memory there is, how many pages were hashed and how many frames that
    /// saved. Changes nothing of a fixed rate.
    pub fn advise(&mut self, pressure: HostState, hashed: u64, saved: u64) {
        let (least, most) = divisors(pressure);
        let first = self.tsc_hz / FIRST_DIVISOR;
        let is_welcome = pressure > HostState::High;
        let next = if hashed == 0 && self.advised < first {
            (self.advised * 2).min(first)
        } else if hashed == 0 {
            (self.advised / 2).max(first)
        } else if saved.saturating_mul(PAYS) >= hashed {
            self.advised * 2
        } else if saved.saturating_mul(PAYS_NOT) < hashed {
            self.advised / 2
        } else if is_welcome {
            self.advised * 2
        } else {
            self.advised
        };
        self.is_idle = hashed == 0;
        self.advised = next.clamp(self.tsc_hz / least, self.tsc_hz / most);
        self.limit();
    }

    /// The rate at which the bucket fills. While nothing waits it fills all the same: what turns up must find
    /// something in it.
    fn working_rate(&self) -> u64 {
        self.fixed.unwrap_or(self.advised)
    }

    /// The bucket holds no more than its depth, and owes no more: a long step is not to keep merging away for seconds.
    fn limit(&mut self) {
        let depth = i64::try_from(self.working_rate() / DEPTH).unwrap_or(i64::MAX);
        self.ticks = self.ticks.clamp(-depth, depth);
    }
}
