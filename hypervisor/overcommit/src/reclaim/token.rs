//! The swap token: of guests that thrash, one at a time is left alone.
//!
//! Guests whose working sets do not fit together take each other's pages, and none of them gets anywhere. If one is
//! shielded for a while, what it brings back stays, and it works; then it is the next one's turn. This is Linux's swap
//! token (Jiang and Zhang, "Token-ordered LRU", 2005; with the priorities of Linux 2.6.20), counted in periods instead
//! of faults: a guest on the processor is worth as much as one that waits for the disk.
//!
//! - A guest *thrashes* if pages come back to it again and again while pages are taken by force.
//! - Who thrashes alone and has its part of memory, or more, thrashes against nobody: what it pays for decides. But if it has
//!   less than its part, others have more than theirs, and use it so much that it never looks idle: then it needs the token, too.
//! - Who thrashes without it gains a claim, the more if it gets worse. The greatest claim is next; a turn costs all of it.
//! - A turn is bounded. It ends early with the guest, when that does nothing, and when nothing is taken any more.
//!
//! Nobody starves: a claim grows by one or two in a period, so whoever has waited for a time is passed only by those
//! that have waited for half of it.

use crate::promise::MAX_GUESTS;

/// From so many on, of the last period and half as many of each one before, pages that came back are thrashing.
const THRASHING: u64 = 8;
/// Periods of a turn.
pub const TURN: u32 = 10;
/// Who does nothing for so many periods does not need the token; nor does anybody while nothing is taken.
const PATIENCE: u32 = 2;

/// What a guest has done by the end of a period.
#[derive(Clone, Copy, Debug)]
pub struct Doing {
    /// Which one: below [`MAX_GUESTS`].
    pub guest: usize,
    /// Pages that have come back to it since it began.
    pub came_back: u64,
    /// Time that it has had on the processor.
    pub ran: u64,
    /// It waits for memory, or for a page of its own.
    pub is_waiting: bool,
    /// It has less than its part of memory, because others have more than theirs.
    pub is_below_part: bool,
}

/// Why the token goes to somebody else, or to nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Guests thrash against each other.
    Thrashing,
    /// The turn is over.
    TurnOver,
    /// The guest that had it does nothing.
    Idle,
    /// The guest that had it has ended, or is kept from running.
    Gone,
    /// Nothing is taken any more.
    Calm,
}

impl Why {
    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thrashing => "thrashing",
            Self::TurnOver => "turn-over",
            Self::Idle => "idle",
            Self::Gone => "gone",
            Self::Calm => "calm",
        }
    }
}

/// The token goes from one to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handover {
    /// Who had it.
    pub from: Option<usize>,
    /// Who has it.
    pub to: Option<usize>,
    /// Why.
    pub why: Why,
}

/// A guest, as it was at the end of the last period.
#[derive(Clone, Copy, Debug)]
struct Known {
    is_there: bool,
    came_back: u64,
    ran: u64,
    /// Pages that came back, those of each earlier period counted half as much as those of the next.
    recent: u64,
    claim: u32,
    thrashes: bool,
    is_active: bool,
    is_below_part: bool,
}

impl Known {
    const NOTHING: Self = Self {
        is_there: false,
        came_back: 0,
        ran: 0,
        recent: 0,
        claim: 0,
        thrashes: false,
        is_active: false,
        is_below_part: false,
    };

    /// One period more.
    fn after(self, doing: &Doing, is_forced: bool) -> Self {
        // Of a guest that was not there nothing is known before the next period.
        let before = if self.is_there {
            self.came_back
        } else {
            doing.came_back
        };
        let faults = doing.came_back.saturating_sub(before);
        let recent = self.recent / 2 + faults;
        let is_active = doing.ran != self.ran || doing.is_waiting;
        let thrashes = is_forced && is_active && recent >= THRASHING;
        let claim = match thrashes {
            true => self.claim.saturating_add(1 + u32::from(recent > self.recent)),
            false => self.claim / 2,
        };
        Self {
            is_there: true,
            came_back: doing.came_back,
            ran: doing.ran,
            recent,
            claim,
            thrashes,
            is_active,
            is_below_part: doing.is_below_part,
        }
    }
}

/// Who has it.
#[derive(Clone, Copy, Debug)]
struct Turn {
    guest: usize,
    periods: u32,
    idle: u32,
    calm: u32,
}

/// The token.
#[derive(Debug)]
pub struct Token {
    turn: Option<Turn>,
    known: [Known; MAX_GUESTS],
}

impl Default for Token {
    fn default() -> Self {
        Self::new()
    }
}

impl Token {
    /// Nobody's.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            turn: None,
            known: [Known::NOTHING; MAX_GUESTS],
        }
    }

    /// Who has it.
    #[must_use]
    pub fn holder(&self) -> Option<usize> {
        self.turn.map(|turn| turn.guest)
    }

    /// Whether it thrashed in the last period.
    #[must_use]
    pub fn thrashes(&self, guest: usize) -> bool {
        self.known.get(guest).is_some_and(|known| known.thrashes)
    }

    /// A period is over, in which pages were taken by force or not. `guests` are those that could run.
    pub fn end_period(&mut self, is_forced: bool, guests: impl Iterator<Item = Doing>) -> Option<Handover> {
        self.note(is_forced, guests);
        let from = self.holder();
        let why = match self.turn.as_mut() {
            None => Why::Thrashing,
            Some(turn) => turn.end_period(&self.known[turn.guest], is_forced)?,
        };
        self.turn = None;
        let to = self.next(from.filter(|_| why == Why::TurnOver));
        if let Some(guest) = to {
            self.known[guest].claim = 0;
            self.turn = Some(Turn {
                guest,
                periods: 0,
                idle: 0,
                calm: 0,
            });
        }
        (from != to).then_some(Handover { from, to, why })
    }

    fn note(&mut self, is_forced: bool, guests: impl Iterator<Item = Doing>) {
        let mut there = [false; MAX_GUESTS];
        for doing in guests.filter(|doing| doing.guest < MAX_GUESTS) {
            there[doing.guest] = true;
            self.known[doing.guest] = self.known[doing.guest].after(&doing, is_forced);
        }
        for (known, is_there) in self.known.iter_mut().zip(there) {
            if !is_there {
                *known = Known::NOTHING;
            }
        }
        if let Some(turn) = self.turn {
            self.known[turn.guest].claim = 0;
        }
    }

    /// Who is next, after the turn of one guest or of none: the one with the greatest claim, if it thrashes against
    /// somebody. Who has just had its turn is somebody.
    fn next(&self, last: Option<usize>) -> Option<usize> {
        let thrashing = || {
            let known = self.known.iter().enumerate();
            known.filter(move |(guest, known)| known.thrashes && Some(*guest) != last)
        };
        let is_contended = last.is_some() || thrashing().nth(1).is_some();
        let next = thrashing().max_by_key(|(guest, known)| (known.claim, MAX_GUESTS - guest));
        next.filter(|(_, known)| is_contended || known.is_below_part)
            .map(|(guest, _)| guest)
    }
}

impl Turn {
    /// A period more; why the turn ends, if it does.
    fn end_period(&mut self, holder: &Known, is_forced: bool) -> Option<Why> {
        self.periods += 1;
        self.idle = if holder.is_active { 0 } else { self.idle + 1 };
        self.calm = if is_forced { 0 } else { self.calm + 1 };
        match self {
            _ if !holder.is_there => Some(Why::Gone),
            Self { idle: PATIENCE.., .. } => Some(Why::Idle),
            Self { calm: PATIENCE.., .. } => Some(Why::Calm),
            Self { periods: TURN.., .. } => Some(Why::TurnOver),
            _ => None,
        }
    }
}
