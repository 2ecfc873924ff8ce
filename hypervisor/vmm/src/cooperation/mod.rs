//! Asking guests for memory: the policy of promises at work.
//!
//! About once a second, and at once when the host gets shorter of memory, it is worked out anew what each guest's
//! balloon is to hold ([`pleat_overcommit::promise`]). A guest is told of pressure first, and has a moment to give by
//! itself; then its balloon is told to take.

mod admission;
mod tell;
mod view;
mod words;

pub(crate) use admission::book;

use crate::run::Hypervisor;
use arrayvec::ArrayVec;
use pleat_bundle::config::MAX_GUESTS;
use pleat_devices::virtio::{Pace, Progress};
use pleat_overcommit::promise::{Asked, Grace, GuestView, PressureGauge, Target, Terms, plan};
use pleat_types::{Platform, Tsc};
use view::Seen;
use words::{AGENT_MAX, Words};

/// How often targets are worked out, in microseconds.
const PERIOD_US: u64 = 1_000_000;
/// When a guest had to wait for memory that is done again after so long, in microseconds.
const SOON_US: u64 = 100_000;
/// Statistics that are older than so many of their periods say nothing.
const STALE_PERIODS: u64 = 3;
/// Nor do those that are older than this, in microseconds.
const STALE_US: u64 = 10_000_000;

/// What a guest is asked for, and how it answers.
#[derive(Debug)]
pub(crate) struct Cooperation {
    /// What it is entitled to, once it is admitted.
    pub(crate) terms: Option<Terms>,
    /// Frames that a person leaves it, if they have said so.
    pub(crate) left: Option<u64>,
    /// The target that its balloon was told last.
    pub(crate) told: Asked,
    /// Frames that its balloon is not told to take yet: it has been told of pressure, and its grace runs.
    pub(crate) spared: u64,
    /// Bytes of memory beyond what it began with that a person wants it to have.
    pub(crate) requested_bytes: u64,
    /// Frames that it is asked for because the host is short.
    pub(crate) wanted: u64,
    pub(crate) gauge: PressureGauge,
    pub(crate) pace: Pace,
    /// When it was told of pressure last.
    told_at: Tsc,
    grace: Grace,
    progress: Progress,
    /// Its last statistics: their number, when they came, and how much was in the balloon then.
    pub(crate) heard: Option<(u64, Tsc, u64)>,
    /// When statistics are asked for next.
    ask_at: Tsc,
    words: Words,
    /// The agent in it that said hello.
    pub(crate) agent: ArrayVec<u8, AGENT_MAX>,
    /// KiB that its applications say they have given back when they were told, and how often they said so.
    pub(crate) collected_kib: u64,
    pub(crate) collections: u64,
    /// What of that is on record.
    recorded_kib: u64,
    /// What is on record of its devices.
    seen: Seen,
}

impl Cooperation {
    /// Nothing is known and nothing is asked.
    pub(crate) fn new() -> Self {
        Self {
            terms: None,
            left: None,
            requested_bytes: 0,
            told: Asked::NOTHING,
            spared: 0,
            wanted: 0,
            gauge: PressureGauge::NONE,
            pace: Pace::Absent,
            told_at: Tsc(0),
            grace: Grace::NONE,
            progress: Progress::new(),
            heard: None,
            ask_at: Tsc(0),
            words: Words::default(),
            agent: ArrayVec::new(),
            collected_kib: 0,
            collections: 0,
            recorded_kib: 0,
            seen: Seen::default(),
        }
    }

    /// The guest starts again: what it was told and said is past; what it is entitled to and what a person wants of it
    /// stays.
    pub(crate) fn restart(&mut self) {
        let mut gauge = PressureGauge::NONE;
        gauge.force(self.gauge.forced());
        *self = Self {
            terms: self.terms,
            left: self.left,
            requested_bytes: self.requested_bytes,
            gauge,
            collected_kib: self.collected_kib,
            collections: self.collections,
            recorded_kib: self.recorded_kib,
            ..Self::new()
        };
    }
}

impl<P: Platform> Hypervisor<P> {
    /// Asks guests for memory, or gives some back, when it is time to think about that.
    pub(crate) fn cooperate(&mut self, now: Tsc) {
        let is_worse = self.host.state > self.considered;
        if now < self.consider_at && !is_worse {
            return;
        }
        self.considered = self.host.state;
        self.considered_at = now;
        self.consider_at = now.after(self.host.micros(PERIOD_US));
        self.look_at_guests(now);
        for (index, target) in &self.plan_targets(now) {
            if let Some(slot) = self.slots.get_mut(*index) {
                let begin = self.host.platform.now();
                self.host.pursue(&mut slot.guest, target, now);
                // What its devices do for it now is its time.
                let used = self.host.platform.now().since(begin);
                self.scheduler.charge(*index, used);
            }
        }
    }

    /// Something has changed that targets come from.
    pub(crate) const fn reconsider(&mut self) {
        self.consider_at = Tsc(0);
    }

    /// A guest had to wait for memory.
    pub(crate) fn reconsider_soon(&mut self) {
        let soon = self.considered_at.after(self.host.micros(SOON_US));
        self.consider_at = self.consider_at.min(soon);
    }

    /// Notes and records what has happened to guests' balloons and devices, and asks for statistics that are due.
    fn look_at_guests(&mut self, now: Tsc) {
        let tsc_hz = self.host.tsc_hz;
        for slot in self.slots.iter_mut() {
            let guest = &mut slot.guest;
            if !guest.is_up() {
                continue;
            }
            if guest.observe_balloon(now, tsc_hz) {
                self.host.record_balloon(guest);
            }
            self.host.record_devices(guest);
            let period = self.host.micros(guest.statistics_ms() * 1000);
            if period > Tsc(0) && !guest.is_kept() && now >= guest.cooperation.ask_at {
                guest.cooperation.ask_at = now.after(period);
                guest.board.ask_statistics();
                self.host.serve_for_a_while(guest);
            }
        }
    }

    fn plan_targets(&mut self, now: Tsc) -> ArrayVec<(usize, Target), MAX_GUESTS> {
        let mut indexes = ArrayVec::<usize, MAX_GUESTS>::new();
        let mut views = ArrayVec::<GuestView, MAX_GUESTS>::new();
        for (index, slot) in self.slots.iter().enumerate() {
            let guest = &slot.guest;
            let fresh = self.host.micros(guest.statistics_ms() * 1000 * STALE_PERIODS);
            let fresh = fresh.min(self.host.micros(STALE_US));
            if let Some(view) = guest.view(now, fresh).filter(|_| guest.is_up()) {
                indexes.push(index);
                views.push(view);
            }
        }
        let mut targets = ArrayVec::new();
        plan(&self.host.view(), &views, &mut targets);
        indexes.into_iter().zip(targets).collect()
    }
}
