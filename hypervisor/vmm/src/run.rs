//! The run loop: what happens between two time slices.

use crate::audit::Depth;
use crate::boot::{Slot, Storage};
use crate::console::Editor;
use crate::cpu::{Cpu, Pause};
use crate::guest::{Guest, Life};
use crate::host::Host;
use crate::images::Images;
use crate::merge::Merger;
use crate::reclaim::Reclaimer;
use crate::scheduler::Scheduler;
use crate::script::Script;
use crate::stop::Stop;
use arrayvec::ArrayVec;
use pleat_bundle::config::{MAX_GUESTS, RunConfig};
use pleat_overcommit::promise::{Book, HostState};
use pleat_types::{Platform, Tsc};

/// Between two time slices this fraction of one is spent on taking ended guests down, beside one batch: how
/// many tables an ended guest has made must not matter to the others.
const RELEASE_PART: u64 = 4;
/// Between two time slices at most this fraction of one is spent on merging, and of the time since it was done last,
/// however large its budget is.
pub(crate) const MERGE_PART: u64 = 4;
/// A guest that wakes leaves the runner at least this fraction of a slice: 100 µs of the usual one, so that
/// timers of many guests cannot cut it to pieces.
const SHORTEST_PART: u64 = 10;
/// Commands of the script that run between two time slices.
const STEPS_AT_ONCE: usize = 8;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// As it should.
    Ok,
    /// With failures, which the statistics name.
    Failed,
}

impl Outcome {
    /// The name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

/// The hypervisor: all guests of one machine.
pub struct Hypervisor<P: Platform> {
    pub(crate) host: Host<P>,
    pub(crate) config: &'static RunConfig<'static>,
    pub(crate) slots: &'static mut ArrayVec<Slot<P::Vcpu>, MAX_GUESTS>,
    pub(crate) images: Images,
    pub(crate) scheduler: Scheduler,
    pub(crate) script: Script,
    pub(crate) editor: Editor,
    /// Length of a time slice.
    pub(crate) slice: Tsc,
    /// When the machine came out of reset.
    pub(crate) reset: Tsc,
    /// The guest that is taken down next, if it has ended.
    pub(crate) release_next: usize,
    /// A person or a script ended the run.
    pub(crate) has_quit: bool,
    /// What is set aside for whom.
    pub(crate) book: Book,
    /// When it is thought over next what guests are asked for.
    pub(crate) consider_at: Tsc,
    /// When that was done last.
    pub(crate) considered_at: Tsc,
    /// The host's state when that was done last, or the best one since then.
    pub(crate) considered: HostState,
    /// The scanner for equal pages.
    pub(crate) merger: &'static mut Merger,
    /// What takes memory from guests that do not give it.
    pub(crate) reclaimer: &'static mut Reclaimer,
}

impl<P: Platform> Hypervisor<P> {
    /// Runs all guests until the run is over, and reports how it went. Powering off is the caller's job.
    pub fn run(&mut self) -> Outcome {
        self.start_guests();
        loop {
            let now = self.host.platform.now();
            self.host.wants_attention = false;
            self.poll_console();
            self.run_script(now);
            self.release_ended(now);
            if self.is_over(now) {
                return self.finish();
            }
            self.take_stock();
            self.start_asked_for();
            self.watch(now);
            self.cooperate(now);
            self.serve_disk();
            self.bring_back();
            self.wake_guests(now);
            if let Some((index, stop)) = self.found_loss() {
                if let Stop::Lost(slot) = stop {
                    self.record_lost(index, slot);
                }
                self.end(index, stop);
                continue;
            }
            if self.suspend_someone(now) {
                continue;
            }
            if let Some((victim, stop)) = self.relieve_shortage(now) {
                self.end(victim, stop);
                self.renew_patience(now);
                continue;
            }
            match self.scheduler.pick().or_else(|| self.pick_held()) {
                Some(index) => {
                    self.merge_between_slices();
                    self.reclaim_between_slices();
                    self.run_slice(index);
                }
                None => self.wait_for_something(now),
            }
        }
    }

    /// The board, for who powers it off.
    pub fn platform(&mut self) -> &mut P {
        &mut self.host.platform
    }

    /// All guests.
    pub(crate) fn guests(&self) -> impl Iterator<Item = &Guest> + Clone {
        self.slots.iter().map(|slot| &slot.guest)
    }

    /// A guest that cannot go on, as has come to light outside of its time: by a mistake of ours, or because a page is
    /// lost.
    fn found_loss(&self) -> Option<(usize, Stop)> {
        let mut guests = self.guests().enumerate().filter(|(_, guest)| !guest.has_ended());
        guests.find_map(|(index, guest)| {
            let stop = guest.bug.map(|place| Stop::Bug(place, 0)).or(guest.lost);
            Some((index, stop?))
        })
    }

    fn run_slice(&mut self, index: usize) {
        let start = self.host.platform.now();
        let slice_end = self.slice_end(index, start);
        self.host.slice_end = slice_end;
        let Some(Slot {
            vcpu: Some(vcpu),
            guest,
        }) = self.slots.get_mut(index)
        else {
            self.scheduler.remove(index);
            return;
        };
        self.host.serve_for_a_while(guest);
        if guest.is_beyond_help() {
            return;
        }
        guest.first_entry.get_or_insert(start);
        self.host.first_entry.get_or_insert(start);
        let pause = Cpu {
            vcpu,
            guest,
            host: &mut self.host,
        }
        .run(slice_end);
        if self.host.attached == Some(index) {
            // A person waits for the echo.
            self.host.flush_output(guest);
        } else {
            self.host.drain_output(guest);
        }
        guest.note_dirty_log(vcpu);
        let used = self.host.platform.now().since(start);
        guest.ran = guest.ran.after(used);
        self.scheduler.charge(index, used);
        self.apply(index, pause);
    }

    fn apply(&mut self, index: usize, pause: Pause) {
        let guest = &mut self.slots[index].guest;
        match pause {
            Pause::Over => {}
            Pause::Yielded => self.scheduler.yield_to_others(index),
            Pause::Waiting => {
                guest.life = Life::Waiting;
                self.scheduler.wait(index);
            }
            Pause::Parked(purpose) => {
                let now = self.host.platform.now();
                let purpose = guest.memory.purpose_of(purpose);
                guest.life = Life::Parked(self.host.frames.shortage(purpose));
                guest.note_shortage(now, self.slice);
                self.scheduler.wait(index);
                self.reconsider_soon();
            }
            Pause::Fetching => {
                guest.life = Life::Fetching;
                self.scheduler.wait(index);
            }
            Pause::Reboot => self.reboot(index),
            Pause::Ended(stop) => self.end(index, stop),
        }
    }

    /// Until when this guest runs: for a slice, or until somebody else wakes or a repeated command is due, but
    /// then for a part that is worth the switch: a command that takes longer than its period leaves time to
    /// guests.
    fn slice_end(&self, runner: usize, start: Tsc) -> Tsc {
        let least = start.after(Tsc(self.slice.0 / SHORTEST_PART));
        let others = self
            .slots
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != runner);
        let wake_up = others.map(|(_, slot)| slot.wake_up()).min();
        let wake_up = wake_up.unwrap_or(Tsc::NEVER).min(self.next_repeat()).max(least);
        start.after(self.slice).min(wake_up).min(self.next_appointment())
    }

    /// When a single step of the script or the end of the run is due.
    pub(crate) fn next_appointment(&self) -> Tsc {
        let step = self
            .script
            .next_due(self.host.first_entry, |micros| self.host.micros(micros));
        step.min(self.time_limit())
    }

    /// When the next repeated command of the script is due.
    pub(crate) fn next_repeat(&self) -> Tsc {
        self.script
            .next_repeat(self.host.first_entry, |micros| self.host.micros(micros))
    }

    fn time_limit(&self) -> Tsc {
        match (self.host.first_entry, self.config.for_ms) {
            (Some(first), Some(limit)) => first.after(self.host.micros(limit.saturating_mul(1000))),
            _ => Tsc::NEVER,
        }
    }

    /// How much memory there is, and how much of it has to be kept back.
    fn take_stock(&mut self) {
        let zero_pages = self.guests().map(|guest| guest.memory.counters().zero).sum();
        // What a guest does not use, because its balloon has it, it is not kept either.
        let pledged = self.guests().map(Guest::pledged_frames).sum();
        self.host.frames.adjust_reserve(zero_pages, pledged);
        let counts = self.host.frames.counts();
        let state = self
            .host
            .thresholds
            .state_after(self.host.state, counts.free, counts.total);
        if state != self.host.state {
            let free = counts.free;
            if self.host.state == HostState::Low {
                self.release_held();
            }
            self.host.state = state;
            let record = self.host.record("host").text("state", state.name());
            record.number("free", free).end();
        }
        // Getting worse again counts as getting worse.
        self.considered = self.considered.min(state);
    }

    fn run_script(&mut self, now: Tsc) {
        for _ in 0..STEPS_AT_ONCE {
            let ticks = self.host.first_entry.map(|first| now.since(first));
            let elapsed =
                ticks.map(|ticks| u128::from(ticks.0) * 1_000_000 / u128::from(self.host.tsc_hz.max(1)));
            let elapsed = elapsed.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX));
            let guests = self.slots.iter().map(|slot| &slot.guest);
            let Some(command) = self.script.take_due(elapsed, guests) else {
                return;
            };
            self.command(command);
        }
        self.host.wants_attention = true;
    }

    /// Takes an ended guest down for a while; the next one in the next turn.
    fn release_ended(&mut self, now: Tsc) {
        let is_dying = |slot: &Slot<P::Vcpu>| slot.guest.memory.is_dying();
        let next = self.release_next.min(self.slots.len());
        let (before, after) = self.slots.split_at_mut(next);
        let mut dying = after.iter_mut().chain(before).filter(|slot| is_dying(slot));
        let Some(slot) = dying.next() else {
            return;
        };
        self.release_next = usize::from(slot.guest.id.0) + 1;
        let end = now.after(Tsc(self.slice.0 / RELEASE_PART));
        while self.host.release_step(slot) && self.host.platform.now() < end {}
    }

    fn is_over(&self, now: Tsc) -> bool {
        if self.has_quit || now >= self.time_limit() {
            return true;
        }
        if self.config.is_interactive {
            return false;
        }
        let is_done = |guest: &Guest| {
            let has_all = self.config.until.iter().all(|event| guest.has_reported(event));
            guest.has_ended() || (has_all && !self.config.until.is_empty())
        };
        self.guests().all(is_done)
    }

    /// Gives back what ended guests still hold, looks at everything once more, and reports.
    fn finish(&mut self) -> Outcome {
        for slot in self.slots.iter_mut() {
            self.host.flush_output(&mut slot.guest);
            while self.host.release_step(slot) {}
        }
        if !self.config.is_interactive {
            self.fail_missing_events();
        }
        let audit = self.audit(Depth::Lists);
        if !audit.is_clean() {
            self.host.fail(format_args!("audit: {}", audit.text()));
        }
        let outcome = self.outcome();
        self.send_statistics(outcome, &audit);
        let Host {
            platform, failures, ..
        } = &mut self.host;
        let record = crate::stream::Record::begin(platform, "end").text("outcome", outcome.name());
        record
            .list("failures", failures.iter().map(|failure| failure.as_str()))
            .end();
        outcome
    }

    /// How the run has gone so far.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.host.failures.is_empty() {
            Outcome::Ok
        } else {
            Outcome::Failed
        }
    }

    fn fail_missing_events(&mut self) {
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let is_excused = matches!(guest.life, Life::Ended(stop) if stop.excuses_missing_events());
            for event in self
                .config
                .until
                .iter()
                .filter(|event| !is_excused && !guest.has_reported(event))
            {
                self.host.fail(format_args!(
                    "guest `{}` never reported `{event}`",
                    guest.config.name
                ));
            }
        }
    }
}

impl<P: Platform> core::fmt::Debug for Hypervisor<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hypervisor")
            .field("guests", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl<P: Platform> core::fmt::Debug for Storage<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}
