//! One guest at the table while targets are planned: between which bounds its target may move, and where it
//! is.

use super::amount::{FRAMES_PER_MIB, percent_of};
use super::cache::{self, CacheView};
use super::entitlement::FundingRate;
use super::host_state::HostState;
use super::view::{Asked, GuestView, Health, Reason, Target};

/// What a stock Debian kernel takes for itself, with the least user space: its image fills 46 MiB, and with 64 MiB
/// promised it starts with nothing to spare.
const KERNEL: u64 = 56 * FRAMES_PER_MIB;
/// What is promised costs the guest a 64-byte record for each 4 KiB page; twice that leaves room for other tables
/// that grow with memory.
const RECORDS_DIVISOR: u64 = 32;
/// With less promised than its image fills no stock kernel runs. What does run there gives up to three quarters.
const SMALL: u64 = 48 * FRAMES_PER_MIB;
/// The least cushion: the free pages that Linux keeps for itself in a guest of some hundred MiB
/// (`min_free_kbytes`, 1 to 2 MiB, and its low and high marks above).
const CUSHION_MIN: u64 = 4 * FRAMES_PER_MIB;
/// Part of its memory that a guest can be asked for in one period.
const STEP_DIVISOR: u64 = 8;
/// The same while there is no hurry, and part that is given back in one period.
const EASY_STEP_DIVISOR: u64 = 16;

/// Frames that keep a guest alive of which nothing else is known. Without statistics no balloon is asked to leave
/// it less; in the low state none at all.
#[must_use]
pub fn survival(promised: u64) -> u64 {
    if promised < SMALL {
        promised.div_ceil(4)
    } else {
        (KERNEL + promised / RECORDS_DIVISOR).min(promised)
    }
}

/// Frames of what a guest says is available that it is left with.
#[must_use]
pub fn cushion(promised: u64) -> u64 {
    (promised / 16).max(CUSHION_MIN)
}

/// One guest's bounds, and its target so far.
pub(super) struct Seat<'a> {
    pub(super) view: &'a GuestView,
    /// What does not wait for a shortage, nor for a grace.
    firm: u64,
    /// What the target may fall to when memory goes back.
    lowest: u64,
    /// What the target may rise to in this period because of a shortage.
    ceiling: u64,
    /// The same, as long as cache beyond the soft limit is to be had.
    cache_ceiling: u64,
    /// A guest in need: what its target should fall to.
    relief: Option<u64>,
    pub(super) target: u64,
    reason: Reason,
    /// Frames that have gone back to it in this plan.
    given: u64,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// Page cache beyond the soft limit.
    Cache,
    /// Anything.
    Memory,
}

impl<'a> Seat<'a> {
    pub(super) fn new(view: &'a GuestView, state: HostState) -> Self {
        let promised = view.terms.promised();
        let operator = view.operator.min(promised);
        let mut seat = Self {
            view,
            firm: operator,
            lowest: operator,
            ceiling: operator,
            cache_ceiling: operator,
            relief: None,
            target: operator,
            reason: Reason::Operator,
            given: 0,
        };
        // A driver that comes later would find whatever the target says, and fill the balloon to it in one go.
        if view.health != Health::Absent {
            seat.find_bounds(state, operator);
        }
        seat
    }

    fn find_bounds(&mut self, state: HostState, operator: u64) {
        let view = self.view;
        let promised = view.terms.promised();
        let ballooned = view.ballooned.min(promised);
        let claimed = view.claims.ballooned.min(promised);
        let look = cache::look(&view.terms, view.held, &view.claims);
        let ceiling = Self::ceiling(view, state, ballooned);
        let beyond_limit = promised - view.terms.limit();
        let limit = beyond_limit.min(ballooned.saturating_add(step(promised, STEP_DIVISOR)));
        self.relief = Self::relief(view, claimed);
        let has_strict = view.terms.has_strict_cache() && self.relief.is_none();
        let strict = look.filter(|look| has_strict && look.beyond_strict > 0);
        let strict = strict.map_or(0, |look| claimed.saturating_add(look.beyond_strict).min(ceiling));
        let kept = Self::kept(view, ballooned, ceiling, limit);
        let soft = look.filter(|_| view.terms.has_soft_cache());
        let soft = soft.map_or(0, |look| claimed.saturating_add(look.beyond_soft));

        self.firm = operator.max(limit).max(strict);
        self.settle(kept, [operator, limit, strict]);
        let hold = look
            .filter(|_| has_strict)
            .map_or(0, |look| Self::hold(claimed, &look));
        self.lowest = operator.max(limit).max(strict).max(hold.min(self.target));
        if self.relief.is_some() {
            self.lowest = operator.max(limit);
        }
        let counts = view.health == Health::Moving;
        self.ceiling = if counts {
            ceiling.max(self.target)
        } else {
            self.target
        };
        self.cache_ceiling = soft.min(self.ceiling);
    }

    /// How far a shortage may raise the target now.
    fn ceiling(view: &GuestView, state: HostState, ballooned: u64) -> u64 {
        let (terms, claims) = (&view.terms, &view.claims);
        let promised = terms.promised();
        let blind = promised - terms.reservation().max(survival(promised).min(terms.limit()));
        let spared = claims.available.map(|available| {
            let spare = available.saturating_sub(cushion(promised));
            claims.ballooned.saturating_add(spare)
        });
        let (bound, divisor) = match state {
            // Nobody is spared because of what it says; but who says that it has more than that gives more.
            HostState::Low => (spared.unwrap_or(0).max(blind), STEP_DIVISOR),
            HostState::Hard => (spared.unwrap_or(blind), STEP_DIVISOR),
            HostState::High | HostState::Soft => (spared.unwrap_or(blind), EASY_STEP_DIVISOR),
        };
        bound
            .min(promised - terms.reservation())
            .min(ballooned.saturating_add(step(promised, divisor)))
    }

    /// What stays of the last target: not more than could be asked for now, or has been given already. What only
    /// the operator or the limit wanted goes with them.
    fn kept(view: &GuestView, ballooned: u64, ceiling: u64, limit: u64) -> u64 {
        let told = match view.told.reason {
            Reason::Operator => 0,
            Reason::Limit => limit,
            _ => view.told.frames,
        };
        let most = view.terms.promised() - view.terms.reservation();
        told.min(ballooned.max(ceiling)).min(most)
    }

    /// A guest with hardly anything left is to have two cushions again. It is asked only for what is beyond one, and
    /// is in need only below half of one, so that what goes back to it is not asked for again.
    fn relief(view: &GuestView, claimed: u64) -> Option<u64> {
        let cushion = cushion(view.terms.promised());
        let available = view.claims.available?;
        let lacking = cushion.saturating_mul(2).saturating_sub(available);
        (available < cushion / 2).then(|| claimed.saturating_sub(lacking))
    }

    /// Below this target cache would grow beyond its strict limit.
    const fn hold(claimed: u64, look: &CacheView) -> u64 {
        claimed.saturating_sub(look.room)
    }

    /// Sets target and reason to the largest of what is kept, and what operator, limit and strict cache want.
    fn settle(&mut self, kept: u64, [operator, limit, strict]: [u64; 3]) {
        let reasons = [
            (operator, Reason::Operator),
            (limit, Reason::Limit),
            (kept, self.view.told.reason),
            (strict, Reason::CacheStrict),
        ];
        (self.target, self.reason) = (0, Reason::Rest);
        for (frames, reason) in reasons {
            if frames > self.target {
                (self.target, self.reason) = (frames, reason);
            }
        }
    }

    /// Frames that it holds when its balloon is as large as that.
    fn held_at(&self, target: u64) -> u64 {
        match self.view.health {
            Health::Moving => self.view.held.min(self.view.terms.promised() - target),
            Health::Stuck | Health::Absent => self.view.held,
        }
    }

    /// Frames that it has been asked for and has not given.
    pub(super) fn pending(&self) -> u64 {
        self.view.held - self.held_at(self.target)
    }

    /// Frames that it could use without asking anybody.
    pub(super) fn unused(&self) -> u64 {
        let size = self.view.terms.promised() - self.target;
        size.saturating_sub(self.view.held)
    }

    /// What it pays for a frame, if it gives what it is asked for and uses what was given back to it.
    pub(super) fn rate(&self) -> FundingRate {
        let claims = &self.view.claims;
        let size = self.view.terms.promised() - self.target;
        let held = self.held_at(self.target);
        let after = self.view.held.saturating_add(self.given).min(size).max(held);
        // Of what it says is free, what has never been touched is nobody's cost.
        let size_now = self.view.terms.promised().saturating_sub(self.view.ballooned);
        let untouched = size_now.saturating_sub(self.view.held);
        let idle = claims.free.unwrap_or(0).saturating_sub(untouched);
        let gone = self.view.held - held;
        FundingRate::new(&self.view.terms, after, idle.saturating_sub(gone))
    }

    /// What it pays for a frame if it uses all that it has.
    pub(super) fn busy_rate(&self) -> FundingRate {
        let size = self.view.terms.promised() - self.target;
        let held = self.view.held.saturating_add(self.given).min(size);
        FundingRate::new(&self.view.terms, held, 0)
    }

    const fn ceiling_of(&self, asking: Asking) -> u64 {
        match asking {
            Asking::Cache => self.cache_ceiling,
            Asking::Memory => self.ceiling,
        }
    }

    /// Whether it can be asked for more. Who has just been given something is not.
    pub(super) const fn can_give(&self, asking: Asking) -> bool {
        self.target < self.ceiling_of(asking) && self.given == 0
    }

    /// Whether only its own word, that it has nothing to spare, protects it.
    pub(super) fn hides(&self) -> bool {
        let terms = &self.view.terms;
        let least = terms
            .reservation()
            .max(survival(terms.promised()).min(terms.limit()));
        let is_protected = self.view.claims.available.is_some() && !self.can_give(Asking::Memory);
        self.view.health == Health::Moving && is_protected && self.held_at(self.target) > least
    }

    /// Asks it for frames; says how many of them are sure to come. What it has never touched comes first, and is no
    /// gain: that is asked for as a whole, for the next period.
    pub(super) fn ask(&mut self, frames: u64, asking: Asking) -> u64 {
        let promised = self.view.terms.promised();
        let (ceiling, before) = (self.ceiling_of(asking), self.held_at(self.target));
        let gain = frames.min(before - self.held_at(ceiling));
        self.reason = match asking {
            Asking::Cache => Reason::CacheSoft,
            Asking::Memory => Reason::Shortage,
        };
        self.target = if gain == 0 {
            ceiling
        } else {
            promised - (before - gain)
        };
        gain
    }

    /// Raises the target by so many frames at most, whether they are sure to come or not; says by how many.
    pub(super) fn ask_plainly(&mut self, frames: u64, asking: Asking) -> u64 {
        let raised = frames.min(self.ceiling_of(asking).saturating_sub(self.target));
        self.target += raised;
        self.reason = Reason::CacheSoft;
        raised
    }

    /// What a guest in need should get back in this period.
    pub(super) fn in_need_of(&self) -> u64 {
        let most = step(self.view.terms.promised(), STEP_DIVISOR);
        let goal = self.relief.unwrap_or(self.target).max(self.lowest);
        self.target.saturating_sub(goal).min(most)
    }

    /// What could go back to a guest in this period, where so much is to spare.
    pub(super) fn returnable(&self, spare: u64) -> u64 {
        let most = step(self.view.terms.promised(), EASY_STEP_DIVISOR).saturating_sub(self.given);
        let unused = self.unused();
        (self.target - self.lowest.min(self.target))
            .min(most)
            .min(spare.saturating_sub(unused))
    }

    /// What would be left in the balloon if all went back that can.
    pub(super) const fn above_lowest(&self) -> u64 {
        self.target.saturating_sub(self.lowest)
    }

    /// Gives frames back.
    pub(super) fn give_back(&mut self, frames: u64) {
        let frames = frames.min(self.target);
        self.target -= frames;
        self.given += frames;
        self.reason = Reason::Return;
    }

    pub(super) const fn priority(&self) -> u8 {
        self.view.terms.priority()
    }

    /// What comes out for the guest at this place.
    pub(super) fn outcome(&self, guest: usize) -> Target {
        let Asked {
            frames: told,
            reason: before,
        } = self.view.told;
        let is_lower = self.target < told;
        let reason = match self.reason {
            _ if self.target == 0 && !is_lower => Reason::Rest,
            Reason::Operator | Reason::Limit | Reason::CacheStrict => self.reason,
            _ if is_lower => Reason::Return,
            _ if self.target == told => before,
            reason => reason,
        };
        let met = self.view.ballooned.max(self.firm);
        Target {
            guest,
            frames: self.target,
            firm: self.firm.min(self.target),
            wanted: self.target.saturating_sub(met),
            reason,
        }
    }
}

/// A part of what a guest was promised, but something.
fn step(promised: u64, divisor: u64) -> u64 {
    (promised / divisor).max(1)
}

/// So many percent of all frames, rounded up.
pub(super) fn percent_up(percent: u64, frames: u64) -> u64 {
    let down = percent_of(percent, frames);
    let is_exact = u128::from(down) * 100 == u128::from(frames) * u128::from(percent);
    down.saturating_add(u64::from(!is_exact))
}
