//! Looks at guests: which one is due, and the steps of one.

use super::Merger;
use crate::boot::Slot;
use crate::frames::FramePool;
use crate::guest::Guest;
use crate::host::Host;
use crate::memory::{FixedTables, MemoryError};
use crate::run::{Hypervisor, MERGE_PART};
use pleat_overcommit::merge::calm;
use pleat_overcommit::promise::HostState;
use pleat_stage2::{Level, Page};
use pleat_types::{Gfn, Platform, Tsc};

/// How long a budget that is used up is left to fill, in microseconds.
const REFILL_US: u64 = 1000;
/// Small pages that one step sweeps.
const PAGES_IN_A_STEP: u64 = 128;
/// What a step takes at most in nearly all cases, in microseconds: hashing a page and comparing it.
const STEP_US: u64 = 100;
/// After so many microseconds without a step one is made whatever timers are due.
const OVERDUE_US: u64 = 10_000;

/// The scanner at work: what it works with, for one step.
pub(crate) struct Scanner<'a, P: Platform> {
    pub(super) host: &'a mut Host<P>,
    pub(super) slots: &'a mut [Slot<P::Vcpu>],
    pub(super) merger: &'a mut Merger,
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Progress {
    /// Something was done.
    Worked,
    /// Nothing is due.
    Idle,
}

impl<P: Platform> Hypervisor<P> {
    /// Merges between two time slices, as long as the budget lasts: for a part of a slice at most, and of the time since
    /// it was done last. While somebody waits for memory nothing is more urgent than that, and no budget counts.
    pub(crate) fn merge_between_slices(&mut self) {
        let start = self.host.platform.now();
        let part = |span: Tsc| Tsc(span.0 / MERGE_PART);
        let most = part(self.slice).min(part(start.since(self.merger.ended)));
        if self.merger.is_resting() {
            return;
        }
        if self.guests().any(Guest::waits_for_memory) {
            let _ = self.merge_until(start, self.before_wake_ups(start, most));
            return;
        }
        let budget = self.merger.pace.budget(start).min(most.0);
        let until = self.before_wake_ups(start, Tsc(budget));
        if self.merge_until(start, until) == Progress::Worked {
            let used = self.merger.ended.since(start);
            self.merger.pace.spend(used.0);
        }
    }

    /// No guest can run: merging costs nobody anything, unless the operator has set a pace.
    pub(crate) fn merge_in_idle_time(&mut self) -> Progress {
        let start = self.host.platform.now();
        let most = self.slice.0 / MERGE_PART;
        let is_free = !self.merger.pace.is_fixed() || self.guests().any(Guest::waits_for_memory);
        let budget = if is_free {
            most
        } else {
            self.merger.pace.budget(start).min(most)
        };
        if self.merger.is_resting() || budget == 0 {
            return Progress::Idle;
        }
        let progress = self.merge_until(start, self.before_wake_ups(start, Tsc(budget)));
        if !is_free {
            let used = self.merger.ended.since(start);
            self.merger.pace.spend(used.0);
        }
        progress
    }

    /// For so long from now on, but not when a guest has just been woken, or its timer is to wake it soon: a step that has
    /// begun makes it wait. (Who is ready waits for others' slices anyway.)
    /// Guests whose timers leave no room put merging off, but not for ever.
    fn before_wake_ups(&self, start: Tsc, most: Tsc) -> Tsc {
        let until = start.after(most);
        let wake_up = match self.merger.is_in_hurry {
            true => start,
            false => self.slots.iter().map(Slot::wake_up).min().unwrap_or(Tsc::NEVER),
        };
        let last = Tsc(wake_up.0.saturating_sub(self.host.micros(STEP_US).0));
        let is_overdue = start.since(self.merger.ended) >= self.host.micros(OVERDUE_US);
        let one_step = start.after(Tsc(u64::from(is_overdue)));
        until.min(last.max(one_step))
    }

    fn merge_until(&mut self, start: Tsc, until: Tsc) -> Progress {
        if until <= start {
            return Progress::Idle;
        }
        let state = self.host.state;
        let mut scanner = Scanner {
            host: &mut self.host,
            slots: self.slots.as_mut_slice(),
            merger: self.merger,
        };
        let progress = scanner.run(start, until, state);
        self.merger.ended = self.host.platform.now();
        self.merger.work.ticks += self.merger.ended.since(start).0;
        progress
    }

    /// When there is something to look at next, if nothing else happens: not before a fixed pace lets it.
    pub(crate) fn next_look(&self, now: Tsc) -> Tsc {
        let due = self.next_due();
        if due != Tsc::NEVER && self.merger.pace.is_fixed() {
            due.max(now.after(self.host.micros(REFILL_US)))
        } else {
            due
        }
    }

    /// Whether merging may still find something.
    pub(crate) fn has_pages_to_merge(&self) -> bool {
        self.next_due() != Tsc::NEVER
    }

    /// When the next look at a guest is due, or goes on.
    fn next_due(&self) -> Tsc {
        if self.merger.is_resting() {
            return Tsc::NEVER;
        }
        if self.merger.current.is_some() {
            return Tsc(0);
        }
        let due = |slot: &Slot<P::Vcpu>| self.merger.due_at(slot, &self.host.frames, self.host.state);
        self.slots.iter().map(due).min().unwrap_or(Tsc::NEVER)
    }
}

impl Merger {
    /// When a look at this guest may begin; never, when it has nothing new.
    fn due_at<V>(&self, slot: &Slot<V>, frames: &FramePool, state: HostState) -> Tsc {
        let has_room = frames.has_room_in_index();
        let guest = &slot.guest;
        if !guest.is_scanned() || guest.memory.is_dying() {
            return Tsc::NEVER;
        }
        let look = guest.memory.look();
        // Without a log only a look at the tables shows what a guest that has run since has written.
        let may_have_written = !self.has_dirty_log && guest.ran != look.ran;
        let may_be_found = has_room && !look.missed.is_empty();
        let has_news =
            !look.due.is_empty() || may_have_written || may_be_found || self.wants_samples(guest, state);
        if !has_news {
            return Tsc::NEVER;
        }
        look.began
            .map_or(Tsc(0), |began| began.after(self.epoch_in(state)))
    }

    /// Whether 2 MiB mappings that were left whole are worth another look: memory is scarcer than it was, or another
    /// one was split, with whose pages theirs may be equal.
    fn wants_samples(&self, guest: &Guest, state: HostState) -> bool {
        let look = guest.memory.look();
        let has_large = guest.memory.counters().large > 0;
        has_large && (state > look.state || look.splits != self.work.split)
    }

    /// Looks follow each other faster when memory is scarce.
    fn epoch_in(&self, state: HostState) -> Tsc {
        let shift = match state {
            HostState::High => 0,
            HostState::Soft => 1,
            HostState::Hard | HostState::Low => 2,
        };
        Tsc(self.epoch.0 >> shift)
    }
}

impl<P: Platform> Scanner<'_, P> {
    /// Steps until nothing is due or the time is over.
    fn run(&mut self, start: Tsc, until: Tsc, state: HostState) -> Progress {
        let mut progress = Progress::Idle;
        let mut now = start;
        while now < until {
            let step = self.step(now, state);
            if step == Progress::Idle {
                break;
            }
            progress = Progress::Worked;
            now = self.host.platform.now();
        }
        progress
    }

    fn step(&mut self, now: Tsc, state: HostState) -> Progress {
        let Some(index) = self.merger.current else {
            return self.begin_look(now, state);
        };
        let done = match self.merger.calm.pop() {
            Some(calm) => self.consider(index, calm, state),
            None => self.sweep_some(index, state),
        };
        if let Err(error) = done {
            self.give_up(index, error);
        }
        Progress::Worked
    }

    /// A mistake of ours was found in a guest's tables: this guest is not looked at any more.
    fn give_up(&mut self, index: usize, error: MemoryError) {
        let guest = &mut self.slots[index].guest;
        self.merger.forget(index);
        guest.config.merge = pleat_bundle::config::Merge::Off;
        let name = guest.config.name;
        self.host.fail(format_args!("merging guest `{name}`: {error:?}"));
    }

    /// Begins a look at the guest that has waited longest for one.
    fn begin_look(&mut self, now: Tsc, state: HostState) -> Progress {
        let due = self.slots.iter().enumerate();
        let due = due.map(|(index, slot)| (self.merger.due_at(slot, &self.host.frames, state), index));
        let Some((_, index)) = due.min().filter(|(at, _)| *at <= now) else {
            return Progress::Idle;
        };
        let wants_samples = self.merger.wants_samples(&self.slots[index].guest, state);
        self.merger.current = Some(index);
        let ran = self.slots[index].guest.ran;
        let look = self.slots[index].guest.memory.look_mut();
        look.began = Some(now);
        look.ran = ran;
        look.state = state;
        look.splits = self.merger.work.split;
        look.rewritten = 0;
        let (left, due) = (&mut look.left, &mut look.due);
        left.take_all(due);
        if let Err(error) = self.find_more(index, wants_samples) {
            self.give_up(index, error);
        }
        Progress::Worked
    }

    /// What is to be looked at beside what is known to be due.
    fn find_more(&mut self, index: usize, wants_samples: bool) -> Result<(), MemoryError> {
        if !self.merger.has_dirty_log {
            self.find_touched(index)?;
        }
        if wants_samples {
            self.reconsider_large(index)?;
        }
        if self.host.frames.has_room_in_index() {
            self.retry_missed(index)?;
        }
        Ok(())
    }

    /// There is room in the index again: pages of one region that found none are offered once more.
    fn retry_missed(&mut self, index: usize) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let Some((first, end)) = memory.look_mut().missed.take_first() else {
            return Ok(());
        };
        let mut at = first;
        while at < end {
            let mapping = self.host.lookup(memory, at)?;
            if let (Page::Unique(frame), Level::One, 0) = (mapping.page, mapping.level, mapping.calm_owed)
                && self.host.frames.key(frame).is_none()
            {
                self.host
                    .with_fixed_tables(memory, |stage2, tables| stage2.owe_calm(tables, at))??;
            }
            at = mapping.end();
        }
        memory.look_mut().left.add(first);
        Ok(())
    }

    /// Without a dirty log: adds the regions whose tables the processor has used since the last look.
    fn find_touched(&mut self, index: usize) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let end = memory.look().due.end();
        let mut at = Gfn::new(0);
        while at < end {
            let touched = self
                .host
                .with_fixed_tables(memory, |stage2, tables| stage2.take_accessed(tables, at))??;
            if touched.is_touched {
                memory.look_mut().left.add(at);
            }
            at = touched.next;
        }
        // The A bits are clear: translations that would keep the processor from setting them must go.
        self.host.flush(memory);
        Ok(())
    }

    /// Sweeps the next stretch of the look, or ends it.
    fn sweep_some(&mut self, index: usize, state: HostState) -> Result<(), MemoryError> {
        let memory = &mut self.slots[index].guest.memory;
        let Some((from, end)) = memory.look_mut().next_stretch() else {
            self.end_look(index, state);
            return Ok(());
        };
        let stop = self.stop_of_stretch(index, from, end)?;
        let memory = &mut self.slots[index].guest.memory;
        let frames = &self.host.frames;
        let mut tables = FixedTables(self.host.platform.memory());
        let stage2 = memory
            .stage2()
            .ok_or(MemoryError::Bug("a guest without tables"))?;
        let owe = |frame| calm::owed(frames.changes(frame));
        let swept = stage2.sweep(&mut tables, from, stop, &mut self.merger.calm, owe)?;
        // They are taken from the end.
        self.merger.calm.reverse();
        self.merger.work.swept += swept.looked_at;
        let next = swept.next.or(Some(stop)).filter(|next| *next < end);
        let look = memory.look_mut();
        look.rewritten += swept.rewritten;
        look.within = next.map(|next| (next, end));
        look.written_here = swept.written
            + if from.large_base() == from {
                0
            } else {
                look.written_here
            };
        if swept.owing > 0 {
            look.due.add(from);
        }
        let written = look.written_here;
        self.host.settle(swept.pending);
        match next {
            Some(_) => Ok(()),
            None => self.consider_collapse(index, from.large_base(), written, state),
        }
    }

    /// Where a stretch ends: where it is small pages, soon enough for a step to be short.
    fn stop_of_stretch(&mut self, index: usize, from: Gfn, end: Gfn) -> Result<Gfn, MemoryError> {
        let memory = &self.slots[index].guest.memory;
        let stop = from.checked_add(PAGES_IN_A_STEP).unwrap_or(end);
        Ok(match self.host.lookup(memory, from)?.level {
            Level::One => stop.min(end),
            _ => end,
        })
    }

    fn end_look(&mut self, index: usize, state: HostState) {
        let look = self.slots[index].guest.memory.look_mut();
        look.volatile = look.rewritten;
        self.merger.current = None;
        self.merger.work.epochs += 1;
        let now = self.host.platform.now();
        if now.since(self.merger.advised_at) >= self.merger.epoch {
            self.merger.advised_at = now;
            self.merger.advise(state);
        }
    }
}

impl Merger {
    /// Thinks the pace over, with what all guests' looks have shown since that was done before.
    fn advise(&mut self, state: HostState) {
        let before = core::mem::replace(&mut self.advised, self.work);
        let hashed = self.work.hashed - before.hashed;
        let saved = self.work.merged - before.merged;
        self.pace.advise(state, hashed, saved);
    }
}
