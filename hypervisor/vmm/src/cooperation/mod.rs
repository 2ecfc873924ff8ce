//! Asking guests for memory: the policy of promises at work.
//!
//! About once a second, and at once when the host gets shorter of memory, it is worked out anew what each guest's
//! balloon is to hold ([`pleat_overcommit::promise`]). A guest is told of pressure first, and has a moment to give by
//! itself; then its balloon is told to take.

mod admission;
mod words;

pub(crate) use admission::book;

use crate::boot::Slot;
use crate::guest::Guest;
use crate::host::Host;
use crate::run::Hypervisor;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;
use pleat_bundle::config::MAX_GUESTS;
use pleat_devices::virtio::{BalloonStatistics, Observation, Pace, Progress};
use pleat_overcommit::promise::{
    Asked, Claims, Clock, Grace, GuestView, Health, HostView, Level, Notice, PressureGauge, Target, Terms,
    plan,
};
use pleat_types::{FRAME_SIZE, Platform, Tsc};
use words::{AGENT_MAX, Word, Words};

/// How often targets are worked out, in microseconds.
const PERIOD_US: u64 = 1_000_000;
/// Statistics that are older than so many of their periods say nothing.
const STALE_PERIODS: u64 = 3;
/// The longest message about pressure.
const NOTICE_MAX: usize = 96;

/// What a guest is asked for, and how it answers.
#[derive(Debug)]
pub(crate) struct Cooperation {
    /// What it is entitled to, once it is admitted.
    pub(crate) terms: Option<Terms>,
    /// Frames that a person wants in its balloon.
    pub(crate) operator: u64,
    /// The target that its balloon was told last.
    pub(crate) told: Asked,
    /// Frames that it is asked for because the host is short.
    pub(crate) wanted: u64,
    pub(crate) gauge: PressureGauge,
    pub(crate) pace: Pace,
    grace: Grace,
    progress: Progress,
    /// Its last statistics: their number, when they came, and how much was in the balloon then.
    heard: Option<(u64, Tsc, u64)>,
    /// When statistics are asked for next.
    ask_at: Tsc,
    words: Words,
    /// The agent in it that said hello.
    pub(crate) agent: ArrayVec<u8, AGENT_MAX>,
    /// KiB that its applications say they have given back when they were told, and how often they said so.
    pub(crate) collected_kib: u64,
    pub(crate) collections: u64,
}

impl Cooperation {
    /// Nothing is known and nothing is asked.
    pub(crate) fn new() -> Self {
        Self {
            terms: None,
            operator: 0,
            told: Asked::NOTHING,
            wanted: 0,
            gauge: PressureGauge::NONE,
            pace: Pace::Absent,
            grace: Grace::NONE,
            progress: Progress::new(),
            heard: None,
            ask_at: Tsc(0),
            words: Words::default(),
            agent: ArrayVec::new(),
            collected_kib: 0,
            collections: 0,
        }
    }

    /// The guest starts again: what it was told and said is past; what it is entitled to and asked for by a person
    /// stays.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            terms: self.terms,
            operator: self.operator,
            collected_kib: self.collected_kib,
            collections: self.collections,
            ..Self::new()
        };
    }
}

impl Guest {
    /// Frames of memory that it sees: what it began with, and what was plugged.
    pub(crate) fn frames(&self) -> u64 {
        self.space.ram.frames() + self.plugged_frames()
    }

    /// Frames that were plugged beyond what it began with.
    pub(crate) fn plugged_frames(&self) -> u64 {
        let bytes = self.board.mem().map_or(0, |mem| mem.plugged_bytes());
        bytes / FRAME_SIZE as u64
    }

    /// What it said of itself last.
    pub(crate) fn statistics(&self) -> Option<&BalloonStatistics> {
        self.board.balloon().and_then(|balloon| balloon.statistics())
    }

    fn claims(&self, now: Tsc, period: Tsc) -> Claims {
        let (Some(said), Some((_, at, ballooned))) = (self.statistics(), self.cooperation.heard) else {
            return Claims::default();
        };
        if now.since(at).0 > period.0.saturating_mul(STALE_PERIODS) {
            return Claims::default();
        }
        let frames = |bytes: Option<u64>| bytes.map(|bytes| bytes / FRAME_SIZE as u64);
        Claims {
            total: frames(said.total),
            free: frames(said.free),
            available: frames(said.available),
            disk_caches: frames(said.disk_caches),
            ballooned,
        }
    }

    /// Notes when statistics came and how much was in the balloon by then.
    fn note_statistics(&mut self, now: Tsc) {
        let Some(serial) = self.statistics().map(|said| said.serial) else {
            return;
        };
        if self.cooperation.heard.is_none_or(|(known, ..)| known != serial) {
            let ballooned = self.memory.counters().ballooned;
            self.cooperation.heard = Some((serial, now, ballooned));
        }
    }

    fn observe_balloon(&mut self, now: Tsc, tsc_hz: u64) {
        let has_driver = self.has_balloon_driver();
        self.cooperation.pace = self.cooperation.progress.observe(&Observation {
            now: now.0,
            tsc_hz,
            target: self.cooperation.told.frames,
            in_balloon: self.memory.counters().ballooned,
            has_driver,
        });
    }

    fn view(&self, now: Tsc, period: Tsc) -> Option<GuestView> {
        let terms = self.cooperation.terms?;
        let counters = self.memory.counters();
        Some(GuestView {
            terms: terms.resized(self.frames()).unwrap_or(terms),
            held: counters.owned_frames(),
            untouched: counters.untouched,
            ballooned: counters.ballooned,
            health: match self.cooperation.pace {
                Pace::Absent => Health::Absent,
                Pace::Stuck { .. } => Health::Stuck,
                Pace::Moving | Pace::Settled => Health::Moving,
            },
            told: self.cooperation.told,
            operator: self.cooperation.operator,
            claims: self.claims(now, period),
        })
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
        self.consider_at = now.after(self.host.micros(PERIOD_US));
        self.ask_for_statistics(now);
        let targets = self.plan_targets(now);
        for (index, target) in &targets {
            if let Some(slot) = self.slots.get_mut(*index) {
                self.host.pursue(slot, target, now);
            }
        }
    }

    /// Something has changed that targets come from.
    pub(crate) const fn reconsider(&mut self) {
        self.consider_at = Tsc(0);
    }

    fn ask_for_statistics(&mut self, now: Tsc) {
        for slot in self.slots.iter_mut() {
            let guest = &mut slot.guest;
            guest.note_statistics(now);
            let millis = guest
                .config
                .devices
                .balloon
                .map_or(0, |balloon| balloon.statistics_ms);
            if millis == 0 || guest.has_ended() || guest.is_paused || now < guest.cooperation.ask_at {
                continue;
            }
            guest.cooperation.ask_at = now.after(self.host.micros(u64::from(millis) * 1000));
            guest.board.ask_statistics();
            self.host.serve_for_a_while(guest);
        }
    }

    fn plan_targets(&mut self, now: Tsc) -> ArrayVec<(usize, Target), MAX_GUESTS> {
        let tsc_hz = self.host.tsc_hz;
        let mut indexes = ArrayVec::<usize, MAX_GUESTS>::new();
        let mut views = ArrayVec::<GuestView, MAX_GUESTS>::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.guest.has_ended() {
                continue;
            }
            slot.guest.observe_balloon(now, tsc_hz);
            let millis = slot
                .guest
                .config
                .devices
                .balloon
                .map_or(0, |balloon| balloon.statistics_ms);
            let period = self.host.micros(u64::from(millis) * 1000);
            if let Some(view) = slot.guest.view(now, period) {
                indexes.push(index);
                views.push(view);
            }
        }
        let mut targets = ArrayVec::new();
        plan(&self.host.view(), &views, &mut targets);
        indexes.into_iter().zip(targets).collect()
    }
}

impl<P: Platform> Host<P> {
    fn view(&self) -> HostView {
        let counts = self.frames.counts();
        HostView {
            state: self.state,
            free: counts.free,
            total: counts.total,
            thresholds: self.thresholds,
        }
    }

    /// Tells a guest what it is to know, and its balloon what it is to hold.
    fn pursue(&mut self, slot: &mut Slot<P::Vcpu>, target: &Target, now: Tsc) {
        let guest = &mut slot.guest;
        let clock = Clock {
            now_ms: self.millis(now),
            grace_ms: self.config.host.grace_ms,
            state: self.state,
        };
        guest.cooperation.wanted = target.wanted;
        if let Some(level) = guest
            .cooperation
            .gauge
            .update(clock.now_ms, self.state, target.wanted)
        {
            self.tell_pressure(guest, level);
        }
        let level = guest.cooperation.gauge.level();
        let told = guest.cooperation.told.frames;
        let frames = guest.cooperation.grace.released(clock, level, told, target);
        if frames != told && guest.board.balloon().is_some() {
            let reason = target.reason;
            guest.cooperation.told = Asked { frames, reason };
            guest.board.set_balloon_target(frames);
            let record = self.record("balloon").text("guest", guest.config.name);
            record
                .number("target", frames)
                .number("ballooned", guest.memory.counters().ballooned)
                .text("reason", reason.name())
                .end();
        }
        self.serve_for_a_while(guest);
    }

    /// A message to the guest's agent, if there is one.
    fn tell_pressure(&mut self, guest: &mut Guest, level: Level) {
        let notice = Notice {
            level,
            free: self.frames.counts().free,
            wanted: guest.cooperation.wanted,
        };
        let record = self.record("pressure").text("guest", guest.config.name);
        record
            .text("level", level.name())
            .number("free", notice.free)
            .number("wanted", notice.wanted)
            .end();
        if !guest.config.devices.has_console {
            return;
        }
        let mut line = ArrayString::<NOTICE_MAX>::new();
        // Three words and two numbers fit.
        let _ = write!(line, "{notice}");
        // Whoever opens the port later is told what holds then.
        let _ = guest.board.tell_pressure(line.as_bytes());
    }

    /// The guest says something on the port for messages about pressure.
    pub(crate) fn hear(&mut self, guest: &mut Guest, bytes: &[u8]) {
        for &byte in bytes {
            match guest.cooperation.words.take(byte) {
                Some(Word::Hello(agent)) => guest.cooperation.agent = agent,
                Some(Word::Collected(kib)) => {
                    let so_far = &mut guest.cooperation;
                    so_far.collected_kib = so_far.collected_kib.saturating_add(kib);
                    so_far.collections += 1;
                    let record = self.record("collected").text("guest", guest.config.name);
                    record.number("kib", kib).end();
                }
                None => {}
            }
        }
    }

    /// Milliseconds of the host's clock.
    fn millis(&self, now: Tsc) -> u64 {
        let millis = u128::from(now.0) * 1000 / u128::from(self.tsc_hz.max(1));
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}
