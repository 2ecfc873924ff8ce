//! Taking pages: how much, from whom, and one page.

use super::Taking;
use crate::guest::{Guest, Life};
use crate::memory::{Cause, MemoryError};
use crate::merge::Progress;
use crate::run::Hypervisor;
use arrayvec::ArrayVec;
use pleat_devices::virtio::Pace;
use pleat_overcommit::reclaim::{AGES, Candidate, Need, Situation, choose, least_age, need, older};
use pleat_stage2::{Backing, Cold};
use pleat_types::{Gfn, PageSize, Platform, Tsc};

/// Between two time slices at most this fraction of one is spent on it, and of the time since it was done last.
const TAKE_PART: u64 = 4;
/// Entries that one look for cold pages passes.
const ENTRIES_IN_A_LOOK: usize = 1024;
/// As many frames are taken from one guest before it is thought over again who is next.
const TURN: u64 = 64;
/// As many hurried generations in a row may bring nothing until it is given up.
const FUTILE_MAX: u32 = 3;
/// So many of them end before who has the token is asked: the others' pages grow old in them.
const SHIELDED: u32 = 2;

/// What came of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// Its frame is free.
    Frame,
    /// It stays.
    Passed,
    /// Nothing more can be kept.
    Full,
    /// There is not one frame to keep it with.
    NoFrames,
    /// The way to the disk is full.
    Stalled,
}

impl<P: Platform> Hypervisor<P> {
    /// Ages and takes between two time slices, as long as there is time.
    pub(crate) fn reclaim_between_slices(&mut self) {
        let start = self.host.platform.now();
        let most = self.slice.0 / TAKE_PART;
        let idle = start.since(self.reclaimer.ended).0 / TAKE_PART;
        let _ = self.reclaim_until(start, start.after(Tsc(most.min(idle))));
    }

    /// No guest can run: reclaim costs nobody anything.
    pub(crate) fn reclaim_in_idle_time(&mut self) -> Progress {
        let start = self.host.platform.now();
        self.reclaim_until(start, start.after(Tsc(self.slice.0 / TAKE_PART)))
    }

    /// Whether reclaim may still find something for those who wait.
    pub(crate) fn can_reclaim(&self) -> bool {
        self.reclaimer.is_on && self.reclaimer.futile < FUTILE_MAX && !self.is_store_full()
    }

    /// When there is something to do next, if nothing else happens.
    pub(crate) fn next_reclaim(&self) -> Tsc {
        self.next_generation()
    }

    fn reclaim_until(&mut self, start: Tsc, until: Tsc) -> Progress {
        let (mut now, mut progress) = (start, Progress::Idle);
        while self.reclaimer.is_on && now < until {
            let is_idle = self.take_some(now) == Progress::Idle
                && self.age_some(now) == Progress::Idle
                && self.compact_some() == Progress::Idle
                && self.host.write_back_some() == Progress::Idle;
            if is_idle {
                break;
            }
            progress = Progress::Worked;
            now = self.host.platform.now();
        }
        self.reclaimer.ended = now;
        progress
    }

    /// One step of taking pages, if any are wanted.
    fn take_some(&mut self, now: Tsc) -> Progress {
        if self.reclaimer.taking.is_none() && !self.begin_taking() {
            return Progress::Idle;
        }
        let Some(taking) = self.reclaimer.taking else {
            return Progress::Idle;
        };
        let done = match self.reclaimer.batch.pop() {
            Some(cold) => self.take(taking, cold, now),
            None if taking.is_last => {
                self.reclaimer.stop_taking();
                Ok(())
            }
            None => self.find_more(taking),
        };
        if let Err(error) = done {
            let name = self.slots[taking.guest].guest.config.name;
            self.host
                .fail(format_args!("taking from guest `{name}`: {error:?}"));
            self.reclaimer.stop_taking();
            self.reclaimer.is_on = false;
        }
        self.reclaimer.work.take_ticks += self.host.platform.now().since(now).0;
        Progress::Worked
    }

    /// Decides how much is to be taken from whom.
    fn begin_taking(&mut self) -> bool {
        if self.is_store_full() || self.reclaimer.is_stalled {
            return false;
        }
        let is_starved = self.reclaimer.starved_at == Some(self.host.frames.counts().free);
        if is_starved && !self.host.swap.store.is_ready() {
            return false;
        }
        let need = self.need();
        if !matches!(need, Need::Now(_)) {
            self.reclaimer.futile = 0;
        }
        let cause = match need {
            Need::None => return self.begin_taking_cold(),
            Need::Ahead(_) => Cause::Ahead,
            Need::Now(_) => Cause::Now,
        };
        if self.is_hurrying() {
            // Who gives is chosen when it is known of all what they use: else the first one would give everything.
            return false;
        }
        let Some(guest) = choose(self.candidates()).filter(|guest| self.may_ask(*guest, cause)) else {
            if cause == Cause::Now && self.reclaimer.aging.is_none() && self.reclaimer.futile < FUTILE_MAX {
                self.reclaimer.futile += 1;
                self.hurry_generations();
            }
            return false;
        };
        let wanted = need.frames().min(TURN);
        let age = least_age(&self.slots[guest].guest.memory.ages().last, wanted);
        self.start_on(guest, cause, age, wanted);
        true
    }

    /// Who has the token gives nothing ahead of need, and to those that wait only when nobody else has anything that is
    /// old enough.
    fn may_ask(&self, guest: usize, cause: Cause) -> bool {
        let has_token = self.reclaimer.token.holder() == Some(guest);
        !has_token || (cause == Cause::Now && self.reclaimer.futile >= SHIELDED)
    }

    /// Pages that are so old that they are taken whatever there is.
    fn begin_taking_cold(&mut self) -> bool {
        let Some(cold) = self.reclaimer.cold.map(usize::from) else {
            return false;
        };
        let has_cold = |guest: &Guest| {
            let ages = guest.memory.ages();
            guest.can_be_taken_from() && !ages.is_exhausted && older(&ages.last, cold) > 0
        };
        let Some(guest) = self.guests().position(has_cold) else {
            return false;
        };
        self.start_on(guest, Cause::Cold, cold.min(AGES - 1), TURN);
        true
    }

    fn start_on(&mut self, guest: usize, cause: Cause, age: usize, wanted: u64) {
        self.reclaimer.batch.clear();
        self.reclaimer.taking = Some(Taking {
            guest,
            cause,
            least_age: u8::try_from(age).unwrap_or(u8::MAX),
            left: wanted,
            start: self.slots[guest].guest.memory.ages().hand,
            has_wrapped: false,
            is_last: false,
        });
    }

    /// How much is to be taken by force now.
    pub(crate) fn need(&self) -> Need {
        need(&self.situation())
    }

    fn situation(&self) -> Situation {
        let counts = self.host.frames.counts();
        Situation {
            state: self.host.state,
            free: counts.free,
            total: counts.total,
            thresholds: self.host.thresholds,
            is_waited_for: self
                .guests()
                .any(|guest| guest.waits_for_memory() || guest.life == Life::Starting),
            are_guests_giving: self.guests().any(Guest::is_giving),
        }
    }

    fn candidates(&self) -> impl Iterator<Item = (usize, Candidate<'_>)> {
        let guests = self
            .guests()
            .enumerate()
            .filter(|(_, guest)| guest.can_be_taken_from());
        guests.filter_map(|(index, guest)| {
            let ages = guest.memory.ages();
            let candidate = Candidate {
                terms: guest.cooperation.terms.as_ref()?,
                held: guest.memory.counters().owned_frames() + guest.memory.counters().shared,
                ages: &ages.last,
                is_exhausted: ages.is_exhausted,
                has_token: self.reclaimer.token.holder() == Some(index),
                is_suspended: guest.hardship.suspended.is_some(),
            };
            Some((index, candidate))
        })
    }

    /// Looks for cold pages where the hand is. When it has gone round, this guest has no more.
    fn find_more(&mut self, taking: Taking) -> Result<(), MemoryError> {
        let memory = &mut self.slots[taking.guest].guest.memory;
        let from = memory.ages().hand;
        let mut batch = ArrayVec::new();
        let next = self.host.with_fixed_tables(memory, |stage2, tables| {
            stage2.find_cold(tables, from, ENTRIES_IN_A_LOOK, taking.least_age, &mut batch)
        })??;
        batch.reverse();
        self.reclaimer.batch = batch;
        let ages = memory.ages_mut();
        // Looks do not end where they ended the last time round: the end of memory may come before the start is passed.
        let is_round = match next {
            Some(next) => taking.has_wrapped && next >= taking.start,
            None => taking.has_wrapped || taking.start == Gfn::new(0),
        };
        ages.hand = next.unwrap_or(Gfn::new(0));
        let has_wrapped = taking.has_wrapped || next.is_none();
        if is_round && let Some(younger) = taking.younger(ages.hand) {
            self.reclaimer.taking = Some(younger);
            return Ok(());
        }
        if is_round {
            // What was found in this look is still taken, and then something else is thought of.
            ages.is_exhausted = true;
        }
        self.reclaimer.taking = Some(Taking {
            has_wrapped,
            is_last: is_round,
            ..taking
        });
        Ok(())
    }

    /// Takes one page, if it is still cold.
    fn take(&mut self, taking: Taking, cold: Cold, now: Tsc) -> Result<(), MemoryError> {
        let taken = match (cold.size, cold.backing) {
            (PageSize::Small, Backing::Owned) => self.take_owned(taking.guest, cold.gfn)?,
            (PageSize::Small, Backing::Shared) => self.take_shared(taking, cold.gfn)?,
            (PageSize::Large, Backing::Owned) => self.split_cold(taking.guest, cold.gfn)?,
            // Its operator asked for 1 GiB and no memory saved.
            _ => Taken::Passed,
        };
        match taken {
            Taken::Frame => self.note_taken(taking, now),
            Taken::Passed => self.reclaimer.work.passed += 1,
            Taken::Stalled => self.reclaimer.stop_taking(),
            Taken::NoFrames => {
                self.reclaimer.starved_at = Some(self.host.frames.counts().free);
                self.reclaimer.stop_taking();
            }
            Taken::Full => {
                self.reclaimer.full_at = Some(self.host.swap.store.pool().frames);
                self.reclaimer.stop_taking();
            }
        }
        Ok(())
    }

    fn note_taken(&mut self, taking: Taking, now: Tsc) {
        let ages = self.slots[taking.guest].guest.memory.ages_mut();
        ages.note_taken(now, taking.cause, 1);
        self.reclaimer.work.taken += 1;
        self.reclaimer.work.forced += u64::from(taking.cause != Cause::Cold);
        self.reclaimer.futile = 0;
        let left = taking.left.saturating_sub(1);
        if left == 0 {
            self.reclaimer.stop_taking();
        } else if let Some(taking) = &mut self.reclaimer.taking {
            taking.left = left;
        }
    }

    /// Whether nothing can be kept, and nothing has left the store since that was found.
    pub(crate) fn is_store_full(&self) -> bool {
        let frames = self.host.swap.store.pool().frames;
        let is_full = self.reclaimer.full_at.is_some_and(|full| frames >= full);
        is_full && !self.host.swap.has_open_disk()
    }
}

impl Guest {
    /// Its pages may be taken: it lives, and has been admitted.
    pub(super) fn can_be_taken_from(&self) -> bool {
        self.is_up() && self.memory.stage2().is_some() && !self.memory.is_dying()
    }

    /// Its balloon has been asked for more, and still moves.
    pub(super) fn is_giving(&self) -> bool {
        let is_able = self.is_up() && !self.is_kept() && !self.is_parked();
        is_able && self.cooperation.pace == Pace::Moving
    }
}

const _: () = assert!(AGES == size_of::<pleat_stage2::Ages>() / size_of::<u64>());
