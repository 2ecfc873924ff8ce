//! One guest at the table while targets are planned: where its target is, and what it can give and get.

use super::bounds::{Bounds, cushion, easy_step, least, spared, urgent_step};
use super::entitlement::FundingRate;
use super::host_state::HostState;
use super::view::{Asked, GuestView, Health, OutOfMemory, Reason, Target};

/// One guest's bounds, and its target so far.
pub(super) struct Seat<'a> {
    view: &'a GuestView,
    /// What does not wait for a shortage, nor for a grace.
    firm: u64,
    /// What the target may fall to when memory goes back.
    lowest: u64,
    /// What the target may rise to because of a shortage, period by period.
    bound: u64,
    /// What the target may rise to in this period because of a shortage.
    ceiling: u64,
    /// The same, as long as cache beyond the soft limit is to be had.
    cache_ceiling: u64,
    /// A guest in need: what its target should fall to.
    relief: Option<u64>,
    target: u64,
    /// What follows from the target, and is looked at again and again for each guest while others are asked.
    rate: FundingRate,
    has_more: bool,
    reason: Reason,
    /// Frames that go back to it in this plan.
    pub(super) given: u64,
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
        let operator = view.operator();
        let mut seat = Self {
            view,
            firm: operator,
            lowest: operator,
            bound: operator,
            ceiling: operator,
            cache_ceiling: operator,
            relief: None,
            target: operator,
            rate: FundingRate::new(&view.terms, view.held, 0),
            has_more: false,
            reason: Reason::Operator,
            given: 0,
        };
        // A driver that comes later would find whatever the target says, and fill the balloon to it in one go.
        if view.health != Health::Absent {
            seat.settle(&Bounds::of(view, state));
        }
        seat.follow_target();
        seat
    }

    /// To be called whenever the target has changed.
    fn follow_target(&mut self) {
        self.rate = self.rate_now();
        self.has_more = self.held_at(self.bound) < self.held_at(self.target);
    }

    /// The target is the largest of what is kept, and what operator, limit and strict cache want.
    fn settle(&mut self, bounds: &Bounds) {
        let reasons = [
            (bounds.operator, Reason::Operator),
            (bounds.limit, Reason::Limit),
            (bounds.kept, self.view.told.reason),
            (bounds.strict, Reason::CacheStrict),
        ];
        (self.target, self.reason) = (0, Reason::Rest);
        for (frames, reason) in reasons {
            if frames > self.target {
                (self.target, self.reason) = (frames, reason);
            }
        }
        self.given = bounds.before.min(self.view.ballooned).saturating_sub(self.target);
        self.relief = bounds.relief;
        self.firm = bounds.operator.max(bounds.limit).max(bounds.strict);
        self.lowest = self.firm.max(bounds.hold.min(self.target));
        if self.view.health == Health::Moving {
            self.ceiling = bounds.ceiling.max(self.target);
            self.bound = bounds.bound.max(self.target);
        } else {
            (self.ceiling, self.bound) = (self.target, self.target);
        }
        self.cache_ceiling = bounds.cache_ceiling.min(self.ceiling);
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

    /// What it pays for a frame, if it gives what it is asked for and uses what was given back to it.
    pub(super) const fn rate(&self) -> FundingRate {
        self.rate
    }

    fn rate_now(&self) -> FundingRate {
        let size = self.view.terms.promised() - self.target;
        let held = self.held_at(self.target);
        let after = self.view.held.saturating_add(self.given).min(size).max(held);
        // Of what it says is free, what nothing backs is nobody's cost.
        let idle = self
            .view
            .claims
            .free
            .unwrap_or(0)
            .saturating_sub(self.view.untouched);
        FundingRate::new(&self.view.terms, after, idle.saturating_sub(self.pending()))
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

    /// Whether it can be asked for more. Who has just been given something is not; nor who has nothing to give, now or
    /// later, but what nothing backs.
    pub(super) const fn can_give(&self, asking: Asking) -> bool {
        (matches!(asking, Asking::Cache) || self.has_more())
            && self.target < self.ceiling_of(asking)
            && self.given == 0
    }

    /// Whether it says how much it can give.
    pub(super) const fn speaks(&self) -> bool {
        self.view.claims.available.is_some()
    }

    /// Whether it says that it has next to nothing left.
    pub(super) const fn is_in_need(&self) -> bool {
        self.relief.is_some()
    }

    /// Whether it holds more than what it is left with in the low state, and could give that.
    pub(super) fn holds_more_than_least(&self) -> bool {
        self.view.health == Health::Moving && self.held_at(self.target) > least(self.view)
    }

    /// Whether only its own word, that it has nothing to spare, protects it, and that only until the low state.
    pub(super) fn hides(&self) -> bool {
        let is_spared = spared(self.view).is_some_and(|spared| spared <= self.target);
        let is_asked_when_low = self.view.out_of_memory == OutOfMemory::Deflates;
        is_spared && is_asked_when_low && self.holds_more_than_least()
    }

    /// Whether it has frames to give, in this period or later.
    pub(super) const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Whether frames are sure to come if it is asked.
    pub(super) fn has_gain(&self) -> bool {
        self.held_at(self.ceiling) < self.held_at(self.target)
    }

    /// Asks it for frames; says how many of them are sure to come. What nothing backs comes first, and is no gain: that
    /// is asked for as a whole, for the next period.
    pub(super) fn ask(&mut self, frames: u64, asking: Asking) -> u64 {
        let promised = self.view.terms.promised();
        let (ceiling, before) = (self.ceiling_of(asking), self.held_at(self.target));
        let gain = frames.min(before - self.held_at(ceiling));
        self.target = if gain == 0 {
            ceiling
        } else {
            promised - (before - gain)
        };
        self.note(asking);
        gain
    }

    /// Raises the target by so many frames at most, whether they are sure to come or not; says by how many.
    pub(super) fn ask_plainly(&mut self, frames: u64, asking: Asking) -> u64 {
        let raised = frames.min(self.ceiling_of(asking).saturating_sub(self.target));
        self.target += raised;
        self.note(asking);
        raised
    }

    fn note(&mut self, asking: Asking) {
        self.follow_target();
        self.reason = match asking {
            Asking::Cache => Reason::CacheSoft,
            Asking::Memory => Reason::Shortage,
        };
    }

    /// What a guest in need should get back in this period, strict cache or not.
    pub(super) fn need(&self) -> u64 {
        let goal = self.relief.unwrap_or(self.target).max(self.lowest);
        let most = urgent_step(self.view.terms.promised()).saturating_sub(self.given);
        self.target.saturating_sub(goal).min(most)
    }

    /// What a guest that says nothing should get back in this period, if others pay less: nothing while it has not
    /// touched all that it has.
    pub(super) fn wish(&self) -> u64 {
        let promised = self.view.terms.promised();
        let uses_all = self.view.untouched <= cushion(promised) / 2;
        if uses_all && self.view.health == Health::Moving && !self.speaks() {
            self.above_lowest().min(easy_step(promised))
        } else {
            0
        }
    }

    /// What could go back to a guest in this period, where so much is to spare: only as much as is there for all that
    /// it could use then.
    pub(super) fn returnable(&self, spare: u64) -> u64 {
        let promised = self.view.terms.promised();
        let unused = (promised - self.target).saturating_sub(self.view.held);
        self.above_lowest()
            .min(easy_step(promised).saturating_sub(self.given))
            .min(spare.saturating_sub(unused))
    }

    /// What would go back if all did that can.
    pub(super) const fn above_lowest(&self) -> u64 {
        self.target.saturating_sub(self.lowest)
    }

    /// Gives frames back.
    pub(super) fn give_back(&mut self, frames: u64) {
        let frames = frames.min(self.target);
        self.target -= frames;
        self.given += frames;
        self.follow_target();
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
            Reason::Operator | Reason::Limit | Reason::CacheStrict if self.target > 0 => self.reason,
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
