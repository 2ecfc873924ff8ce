//! A small world for the policy: a host, and guests that use memory, fill caches, and follow their balloons, or
//! do not. Frames are accounted: what the host has free is what no guest holds.

use super::{mib, terms, wishes};
use crate::promise::{
    Asked, Claims, GuestView, Health, HostState, HostView, MAX_GUESTS, OutOfMemory, Target, Terms,
    Thresholds, Wishes, cushion, plan,
};
use arrayvec::ArrayVec;
use std::vec::Vec;

/// The usual thresholds.
pub(super) const THRESHOLDS: Thresholds = Thresholds {
    soft_below_percent: 6,
    hard_below_percent: 4,
    low_below_percent: 2,
    hysteresis_percent: 1,
};

/// How a guest treats its balloon and its statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// Moves so many frames in a period, and says the truth.
    Obeys(u64),
    /// Moves so many frames, and says nothing.
    Silent(u64),
    /// Moves so many frames, and says that it has nothing at all to spare.
    Lies(u64),
    /// Does not move.
    Stuck,
    /// Has no driver.
    Absent,
}

/// A guest.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) terms: Terms,
    pub(super) manner: Manner,
    /// What its computation wants.
    pub(super) demand: u64,
    /// What it would like to cache.
    pub(super) cache_wish: u64,
    /// Whether it reports what it has freed.
    pub(super) reports: bool,
    pub(super) out_of_memory: OutOfMemory,
    pub(super) left: Option<u64>,
    pub(super) told: Asked,
    pub(super) held: u64,
    pub(super) ballooned: u64,
    /// What its computation has.
    pub(super) used: u64,
    cache: u64,
    claims: Claims,
    /// What it has said and the host has not heard yet.
    underway: Claims,
    /// Periods without progress.
    still: u64,
    /// Times that its computation wanted more than there was in its memory.
    pub(super) kills: u64,
}

impl Guest {
    pub(super) fn new(wishes: Wishes, manner: Manner) -> Self {
        Self {
            terms: terms(wishes),
            manner,
            demand: 0,
            cache_wish: 0,
            reports: true,
            out_of_memory: OutOfMemory::Deflates,
            left: None,
            told: Asked::NOTHING,
            held: 0,
            ballooned: 0,
            used: 0,
            cache: 0,
            claims: Claims::default(),
            underway: Claims::default(),
            still: 0,
            kills: 0,
        }
    }

    /// A guest without a reservation.
    pub(super) fn plain(promised_mib: u64, manner: Manner) -> Self {
        Self::new(wishes(mib(promised_mib)), manner)
    }

    /// What it sees.
    pub(super) fn size(&self) -> u64 {
        self.terms.promised() - self.ballooned
    }

    fn health(&self) -> Health {
        match self.manner {
            Manner::Absent => Health::Absent,
            _ if self.still >= 5 => Health::Stuck,
            _ => Health::Moving,
        }
    }

    pub(super) fn view(&self) -> GuestView {
        GuestView {
            terms: self.terms,
            held: self.held,
            untouched: self.size() - self.held,
            ballooned: self.ballooned,
            health: self.health(),
            told: self.told,
            out_of_memory: self.out_of_memory,
            left: self.left,
            claims: self.claims,
        }
    }

    /// The balloon moves. It takes what is free, then cache; what computation uses it does not get.
    fn move_balloon(&mut self) {
        let speed = match self.manner {
            Manner::Obeys(speed) | Manner::Silent(speed) | Manner::Lies(speed) => speed,
            Manner::Stuck | Manner::Absent => 0,
        };
        let goal = self.told.frames.min(self.terms.promised() - self.used);
        let before = self.ballooned;
        self.ballooned = if goal > before {
            before + (goal - before).min(speed)
        } else {
            before - (before - goal).min(speed)
        };
        self.cache = self.cache.min(self.size() - self.used);
        self.held = self.held.min(self.size());
        let is_still = before == self.ballooned && before != self.told.frames;
        self.still = if is_still { self.still + 1 } else { 0 };
    }

    /// It uses memory, as much as it wants and the host has; says how much of `free` it took.
    fn work(&mut self, free: u64) -> u64 {
        let size = self.size();
        self.kills += u64::from(self.demand > size);
        let wanted = self.demand.min(size);
        // Computation first: it pushes cache out. What it can have is what it holds, and what the host has.
        self.used = wanted.min(self.held + free);
        self.cache = self
            .cache_wish
            .min(size - self.used)
            .min(self.held + free - self.used);
        let in_use = self.used + self.cache;
        let before = self.held;
        self.held = if self.reports {
            in_use
        } else {
            self.held.max(in_use)
        };
        self.held.saturating_sub(before)
    }

    /// What it has beside its computation.
    pub(super) fn available(&self) -> u64 {
        self.size() - self.used
    }

    fn measured(&self) -> Claims {
        let free = self.available() - self.cache;
        match self.manner {
            Manner::Obeys(_) => Claims {
                total: Some(self.size()),
                free: Some(free),
                available: Some(free + self.cache),
                disk_caches: Some(self.cache),
                ballooned: self.ballooned,
            },
            Manner::Lies(_) => Claims {
                total: Some(u64::MAX),
                free: Some(0),
                available: Some(0),
                disk_caches: Some(0),
                ballooned: self.ballooned,
            },
            _ => Claims::default(),
        }
    }

    fn say(&mut self, answers: Answers) {
        let now = self.measured();
        self.claims = match answers {
            Answers::EveryOther => now,
            Answers::Late => Claims {
                ballooned: self.ballooned,
                ..self.underway
            },
        };
        self.underway = now;
    }
}

/// When statistics come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answers {
    /// At once, every other period.
    EveryOther,
    /// In every period those of the period before; and what was in the balloon is looked up when they come.
    Late,
}

/// The host and its guests.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) total: u64,
    pub(super) guests: Vec<Guest>,
    pub(super) state: HostState,
    pub(super) targets: Vec<Target>,
    pub(super) answers: Answers,
    periods: u64,
}

impl World {
    pub(super) fn new(total_mib: u64, guests: Vec<Guest>) -> Self {
        Self {
            total: mib(total_mib),
            guests,
            state: HostState::High,
            targets: Vec::new(),
            answers: Answers::EveryOther,
            periods: 0,
        }
    }

    pub(super) fn free(&self) -> u64 {
        let held: u64 = self.guests.iter().map(|guest| guest.held).sum();
        self.total
            .checked_sub(held)
            .expect("no more is held than there is")
    }

    /// From so many free frames on the host is in the high state again.
    pub(super) fn line(&self) -> u64 {
        (self.total * 7).div_ceil(100)
    }

    /// One period: the plan, the balloons, the work; and every other time statistics. Checks what must always hold.
    pub(super) fn period(&mut self) {
        self.state = THRESHOLDS.state_after(self.state, self.free(), self.total);
        let views: Vec<_> = self.guests.iter().map(Guest::view).collect();
        let mut out = ArrayVec::<_, MAX_GUESTS>::new();
        let host = HostView {
            state: self.state,
            free: self.free(),
            total: self.total,
            thresholds: THRESHOLDS,
        };
        plan(&host, &views, &mut out);
        check(self.state, &views, &out);
        for target in &out {
            let guest = &mut self.guests[target.guest];
            guest.told = target.asked();
            guest.move_balloon();
        }
        for at in 0..self.guests.len() {
            let free = self.free();
            let taken = self.guests[at].work(free);
            assert!(taken <= free);
        }
        let answers = self.answers;
        if answers == Answers::Late || self.periods % 2 == 1 {
            self.guests.iter_mut().for_each(|guest| guest.say(answers));
        }
        self.targets = out.into_iter().collect();
        self.periods += 1;
    }

    pub(super) fn run(&mut self, periods: u64) {
        (0..periods).for_each(|_| self.period());
    }

    /// The targets' frames.
    pub(super) fn told(&self) -> Vec<u64> {
        self.guests.iter().map(|guest| guest.told.frames).collect()
    }

    pub(super) fn held(&self) -> Vec<u64> {
        self.guests.iter().map(|guest| guest.held).collect()
    }
}

/// What every plan keeps to.
pub(super) fn check(state: HostState, views: &[GuestView], targets: &[Target]) {
    assert_eq!(views.len(), targets.len());
    for (at, (view, target)) in views.iter().zip(targets).enumerate() {
        let promised = view.terms.promised();
        // The reservation stays, whatever the operator wants.
        let most = promised - view.terms.reservation();
        let operator = promised.saturating_sub(view.left.unwrap_or(promised)).min(most);
        assert_eq!(target.guest, at);
        assert!(
            target.frames <= most,
            "below the reservation: {view:?} {target:?}"
        );
        assert!(
            target.frames >= operator,
            "below the operator's: {view:?} {target:?}"
        );
        assert!(target.firm <= target.frames);
        check_need(state, view, target);
        // No more than an eighth is asked for at once.
        let most = view
            .ballooned
            .max(operator)
            .max(view.ballooned + (promised / 8).max(1));
        assert!(target.frames <= most, "a step too far: {view:?} {target:?}");
    }
}

/// Beyond what is firm a guest that says what it has keeps a cushion of it: outside of the low state, and, if it cannot
/// help itself, there too.
fn check_need(state: HostState, view: &GuestView, target: &Target) {
    let helps_itself = view.out_of_memory == OutOfMemory::Deflates;
    let Some(available) = view
        .claims
        .available
        .filter(|_| state != HostState::Low || !helps_itself)
    else {
        return;
    };
    let exhausted = view.claims.ballooned.saturating_add(available);
    let refuted = view.ballooned.saturating_add(view.untouched);
    let most = exhausted
        .max(refuted)
        .saturating_sub(cushion(view.terms.promised()));
    assert!(
        target.frames <= most.max(target.firm),
        "in need: {view:?} {target:?}"
    );
}
