//! One guest: what it is, what it is doing, and what it has done.

use crate::cooperation::Cooperation;
use crate::devices::Disk;
use crate::frames::Shortage;
use crate::memory::GuestMemory;
use crate::output::{EventName, Output};
use crate::reclaim::Hardship;
use crate::space::Space;
use crate::stop::Stop;
use arrayvec::{ArrayString, ArrayVec};
use pleat_bundle::config::{GuestConfig, MAX_AWAITED};
use pleat_devices::Board;
use pleat_types::{Exit, GuestId, Hfn, Tsc, Vcpu};

/// The most events of one guest that are kept: as many as a run can wait for.
pub(crate) const EVENTS_MAX: usize = MAX_AWAITED;
/// The most frames of one virtual processor.
pub(crate) const VCPU_FRAMES_MAX: usize = 16;
/// How many of the last exits a report shows.
pub(crate) const LAST_EXITS: usize = 8;
/// Room for the reason of an end.
pub(crate) type Reason = ArrayString<200>;

/// What a guest is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// Nobody has started it yet: it has no memory and no processor.
    Unstarted,
    /// Somebody has, and there is no room for its images yet.
    Starting,
    /// It runs, or waits for its turn.
    Running,
    /// HLT: it waits for an interrupt.
    Waiting,
    /// It waits for host memory: for more than there was, which was not enough.
    Parked(Shortage),
    /// It waits for a page whose content is away.
    Fetching,
    /// It ended.
    Ended(Stop),
}

/// Whether the run waits for an event: its end, or a step of its script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Awaited,
    None,
}

/// What became of a reported event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Noted {
    /// It is kept.
    New,
    /// It had been reported before: the first time counts.
    Again,
    /// There was no room for it.
    Dropped,
}

/// An event that a guest reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    pub(crate) name: EventName,
    /// Ticks since the guest's first entry.
    pub(crate) ticks: Tsc,
    pub(crate) interest: Interest,
}

/// Everything about a guest but its virtual processor, which handlers borrow beside it.
pub(crate) struct Guest {
    pub(crate) id: GuestId,
    pub(crate) config: GuestConfig<'static>,
    pub(crate) life: Life,
    /// A person paused it.
    pub(crate) is_paused: bool,
    /// What it has to bear while memory is short.
    pub(crate) hardship: Hardship,
    pub(crate) space: Space,
    pub(crate) memory: GuestMemory,
    pub(crate) board: Board,
    /// Its disk, once it has been loaded.
    pub(crate) disk: Option<Disk>,
    /// What it is asked for, and how it answers.
    pub(crate) cooperation: Cooperation,
    /// The frames of the virtual processor.
    pub(crate) vcpu_frames: ArrayVec<Hfn, VCPU_FRAMES_MAX>,
    /// Its devices have work that found too little host memory: this was it.
    pub(crate) devices_short: Option<Shortage>,
    /// Since when it has waited for host memory, and its processor time by then.
    pub(crate) short: Option<(Tsc, Tsc)>,
    /// The guest's TSC minus the host's, as the virtual processor has it.
    pub(crate) tsc_offset: u64,
    pub(crate) xcr0: u64,
    /// Interrupts, deadlines or the run's conditions may have changed: look before the next entry.
    pub(crate) has_news: bool,
    /// An exit at the next interrupt window is on order.
    pub(crate) is_window_open: bool,
    /// An exit at a lower TPR is on order.
    pub(crate) tpr_threshold: Option<u8>,
    pub(crate) first_entry: Option<Tsc>,
    pub(crate) ran: Tsc,
    pub(crate) exits: [u64; Exit::KINDS],
    /// The last exits by [`Exit::index`], a ring; `recent_at` is the next place.
    pub(crate) recent: [u8; LAST_EXITS],
    pub(crate) recent_at: usize,
    pub(crate) output: Output,
    /// Bytes of its output that the people's console had no room for.
    pub(crate) unshown: u64,
    /// By name, with the first time. They stay over restarts: what a run waits for may happen in any boot.
    pub(crate) events: ArrayVec<Reported, EVENTS_MAX>,
    /// Events that found no room.
    pub(crate) events_dropped: u64,
    pub(crate) reason: Reason,
    /// A mistake of ours that came to light outside of its time: where.
    pub(crate) bug: Option<&'static str>,
    /// It cannot go on, as came to light outside of its time.
    pub(crate) lost: Option<Stop>,
}

impl Guest {
    /// The name in records of what the guest is doing.
    pub(crate) fn state_name(&self) -> &'static str {
        match self.life {
            Life::Unstarted | Life::Starting => "unstarted",
            Life::Running | Life::Waiting | Life::Parked(_) | Life::Fetching => "running",
            Life::Ended(stop) => stop.ended().name(),
        }
    }

    /// What the guest is doing, for people.
    pub(crate) fn activity(&self) -> &'static str {
        match self.life {
            Life::Ended(stop) => stop.ended().name(),
            Life::Unstarted => "unstarted",
            Life::Starting => "starting",
            _ if self.is_paused => "paused",
            _ if self.hardship.suspended.is_some() => "suspended",
            Life::Running if self.hardship.is_held => "held",
            Life::Running => "running",
            Life::Waiting => "idle",
            Life::Parked(_) => "no memory",
            Life::Fetching => "swap",
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.life, Life::Ended(_))
    }

    /// Whether it has been started and has not ended.
    pub(crate) fn is_up(&self) -> bool {
        !matches!(self.life, Life::Unstarted | Life::Starting | Life::Ended(_))
    }

    /// It cannot go on, and the run loop is about to end it: it must not run any more.
    pub(crate) const fn is_beyond_help(&self) -> bool {
        self.bug.is_some() || self.lost.is_some()
    }

    /// Whether it has reported this event.
    pub(crate) fn has_reported(&self, event: &str) -> bool {
        self.events.iter().any(|reported| reported.name.as_str() == event)
    }

    /// Grows with every event that is kept.
    pub(crate) fn reports(&self) -> u64 {
        self.events.len() as u64 + self.events_dropped
    }

    /// Keeps an event. One that is awaited takes the place of another when all are taken, so there is always
    /// room for it: no more than [`EVENTS_MAX`] can be awaited.
    pub(crate) fn note_event(&mut self, event: Reported) -> Noted {
        if self.has_reported(&event.name) {
            return Noted::Again;
        }
        if event.interest == Interest::Awaited && self.events.is_full() {
            let is_other = |kept: &Reported| kept.interest == Interest::None;
            if let Some(index) = self.events.iter().rposition(is_other) {
                self.events.remove(index);
                self.events_dropped += 1;
            }
        }
        if self.events.try_push(event).is_ok() {
            return Noted::New;
        }
        self.events_dropped += 1;
        Noted::Dropped
    }

    /// When its next timer fires, in host ticks.
    pub(crate) fn deadline(&self) -> Tsc {
        self.host_time(self.board.next_deadline())
    }

    /// When a timer ends its wait, in host ticks, given its task priority.
    pub(crate) fn wake_up(&self, tpr: u8) -> Tsc {
        self.host_time(self.board.next_wake_up(tpr))
    }

    fn host_time(&self, ticks: Option<Tsc>) -> Tsc {
        ticks.map_or(Tsc::NEVER, |ticks| Tsc(ticks.0.wrapping_sub(self.tsc_offset)))
    }

    /// Its own clock at this host time.
    pub(crate) fn guest_time(&self, now: Tsc) -> Tsc {
        Tsc(now.0.wrapping_add(self.tsc_offset))
    }

    /// It has to wait for host memory. Unless it has run for at least so long since it waited before, that is one wait:
    /// a frame or two that come and go, those of its own merged pages among them, get nobody anywhere.
    pub(crate) fn note_shortage(&mut self, now: Tsc, progress: Tsc) {
        let is_same = |(_, ran): &(Tsc, Tsc)| self.ran.since(*ran) < progress;
        let since = self.short.filter(is_same).map_or(now, |(since, _)| since);
        self.short = Some((since, self.ran));
    }

    /// Since when it has waited for host memory, if it does.
    pub(crate) fn short_since(&self) -> Option<Tsc> {
        self.short
            .filter(|_| self.waits_for_memory())
            .map(|(since, _)| since)
    }

    /// If it waits for host memory, its wait begins now.
    pub(crate) fn renew_patience(&mut self, now: Tsc) {
        self.short = Some((now, self.ran)).filter(|_| self.waits_for_memory());
    }

    /// Takes what the processor has logged as newly written.
    pub(crate) fn note_dirty_log<V: Vcpu>(&mut self, vcpu: &mut V) {
        let look = self.memory.look_mut();
        vcpu.take_dirty_log(|gfn| look.due.add(gfn));
    }

    /// Notes an exit for reports and statistics.
    pub(crate) fn count_exit(&mut self, index: usize) {
        self.exits[index] += 1;
        // The numbers of exits are below [`Exit::KINDS`], which fits.
        self.recent[self.recent_at] = u8::try_from(index).unwrap_or(u8::MAX);
        self.recent_at = (self.recent_at + 1) % LAST_EXITS;
    }

    /// The names of the last exits, oldest first.
    pub(crate) fn last_exits(&self) -> impl Iterator<Item = &'static str> {
        (0..LAST_EXITS).filter_map(|back| {
            let index = self.recent[(self.recent_at + back) % LAST_EXITS];
            Exit::NAMES.get(usize::from(index)).copied()
        })
    }
}
