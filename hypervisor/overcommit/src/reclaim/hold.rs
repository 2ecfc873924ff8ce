//! Who does not run while the host is all but out of memory: guests that have more than they are entitled to.
//!
//! As in ESX's state low. Whoever has more than its part would only want more; while it waits, others get on with what
//! is taken. Nobody waits for long at a time, and never everybody.

use crate::promise::{HostState, MAX_GUESTS};

/// A guest begins to wait with so much more than it is entitled to, as a divisor of that; it ends without any more.
const MARGIN: u64 = 16;
/// Periods that a guest waits at most, and that it runs then at least.
pub const WAIT: u8 = 5;
/// Precision of how far above its part a guest is.
const SCALE: u64 = 1024;

/// How a guest stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Which one: below [`MAX_GUESTS`].
    pub guest: usize,
    /// Frames of its own.
    pub held: u64,
    /// Frames that it is entitled to.
    pub entitled: u64,
    /// It is shielded: it is its turn to make progress.
    pub has_token: bool,
}

impl Standing {
    fn above(&self) -> u64 {
        self.held.saturating_mul(SCALE) / self.entitled.max(1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It runs, and may do so for so many periods at least.
    Runs(u8),
    /// It has waited for so many periods.
    Waits(u8),
}

/// Who waits.
#[derive(Debug)]
pub struct Holds {
    places: [Place; MAX_GUESTS],
    /// How far above its part each one is.
    above: [u64; MAX_GUESTS],
}

impl Default for Holds {
    fn default() -> Self {
        Self::new()
    }
}

impl Holds {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: [Place::Runs(0); MAX_GUESTS],
            above: [0; MAX_GUESTS],
        }
    }

    /// Whether this guest waits.
    #[must_use]
    pub fn is_held(&self, guest: usize) -> bool {
        matches!(self.places.get(guest), Some(Place::Waits(_)))
    }

    /// Whether anybody does.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Waits(_)))
    }

    /// A period is over. `guests` are those that would run now.
    pub fn end_period(&mut self, state: HostState, guests: &[Standing]) {
        if state != HostState::Low {
            return self.release_all();
        }
        let mut places = [Place::Runs(0); MAX_GUESTS];
        for standing in guests.iter().filter(|standing| standing.guest < MAX_GUESTS) {
            places[standing.guest] = self.places[standing.guest].after(standing);
            self.above[standing.guest] = standing.above();
        }
        self.places = places;
        let is_running = |standing: &Standing| !self.is_held(standing.guest);
        if !guests.iter().any(is_running) {
            let _ = self.release_least();
        }
    }

    /// This guest has ended, or starts again.
    pub const fn release(&mut self, guest: usize) {
        if guest < MAX_GUESTS {
            self.places[guest] = Place::Runs(0);
        }
    }

    /// The state is not low any more.
    pub fn release_all(&mut self) {
        self.places = [Place::Runs(0); MAX_GUESTS];
    }

    /// Nobody else can run: of those that wait the one that is the least above its part goes on.
    pub fn release_least(&mut self) -> Option<usize> {
        let held = (0..MAX_GUESTS).filter(|guest| self.is_held(*guest));
        let least = held.min_by_key(|guest| self.above[*guest])?;
        self.places[least] = Place::Runs(WAIT);
        Some(least)
    }
}

impl Place {
    fn after(self, standing: &Standing) -> Self {
        let Standing { held, entitled, .. } = *standing;
        let is_above = held > entitled;
        let is_far_above = held > entitled.saturating_add(entitled / MARGIN);
        match self {
            _ if standing.has_token => Self::Runs(0),
            Self::Waits(periods) if is_above && periods + 1 < WAIT => Self::Waits(periods + 1),
            Self::Waits(_) => Self::Runs(WAIT),
            Self::Runs(0) if is_far_above => Self::Waits(0),
            Self::Runs(periods) => Self::Runs(periods.saturating_sub(1)),
        }
    }
}
