//! Console commands that run by themselves.

use crate::guest::Guest;
use arrayvec::ArrayVec;
use pleat_bundle::config::{MAX_STEPS, Step, When};
use pleat_types::Tsc;

/// The steps that are still to run.
#[derive(Debug)]
pub(crate) struct Script {
    steps: ArrayVec<Pending, MAX_STEPS>,
    /// So many reports of guests have been looked at: those steps that wait for one are due only when there are more.
    looked_at: Option<u64>,
}

/// A step that is to run, once or once more.
#[derive(Clone, Debug)]
struct Pending {
    when: Due,
    command: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Due {
    /// Once, at this microsecond.
    At(u64),
    /// Once, when this guest has reported this event.
    On {
        guest: &'static str,
        event: &'static str,
    },
    /// At the microsecond `next`, and again after each period.
    Every { period: u64, next: u64 },
}

impl Due {
    fn new(when: &When<'static>) -> Self {
        match *when {
            When::Micros(micros) => Self::At(micros),
            When::Event { guest, event } => Self::On { guest, event },
            When::Every { period_us, from_us } => Self::Every {
                period: period_us.max(1),
                next: from_us,
            },
        }
    }
}

impl Script {
    /// All steps are to run.
    pub(crate) fn new(steps: &ArrayVec<Step<'static>, MAX_STEPS>) -> Self {
        let pending = |step: &Step<'static>| Pending {
            when: Due::new(&step.when),
            command: step.command,
        };
        Self {
            steps: steps.iter().map(pending).collect(),
            looked_at: None,
        }
    }

    /// The next command that is due, `elapsed` microseconds after the first guest's entry. A step that runs once
    /// is taken out and goes before those that repeat: it cannot keep them waiting for long, they could it for ever.
    pub(crate) fn take_due<'g>(
        &mut self,
        elapsed: Option<u64>,
        guests: impl Iterator<Item = &'g Guest> + Clone,
    ) -> Option<&'static str> {
        let reports = guests.clone().map(Guest::reports).sum();
        let has_news = self.looked_at != Some(reports);
        let is_due = |step: &Pending| match step.when {
            Due::At(micros) => elapsed.is_some_and(|elapsed| elapsed >= micros),
            Due::On { guest, event } if has_news => guests
                .clone()
                .any(|candidate| candidate.config.name == guest && candidate.has_reported(event)),
            Due::On { .. } | Due::Every { .. } => false,
        };
        if let Some(index) = self.steps.iter().position(is_due) {
            return Some(self.steps.remove(index).command);
        }
        self.looked_at = Some(reports);
        self.repeat(elapsed?)
    }

    /// Of the repeated commands that are due, the one that has waited longest. It is due again at the first of its
    /// times that has not passed.
    fn repeat(&mut self, elapsed: u64) -> Option<&'static str> {
        let due = |step: &Pending| match step.when {
            Due::Every { next, .. } if next <= elapsed => Some(next),
            _ => None,
        };
        let waiting = self.steps.iter_mut().filter_map(|step| Some((due(step)?, step)));
        let (_, step) = waiting.min_by_key(|(next, _)| *next)?;
        if let Due::Every { period, next } = &mut step.when {
            let times = (elapsed - *next) / *period + 1;
            *next = next.saturating_add(times.saturating_mul(*period));
        }
        Some(step.command)
    }

    /// When the next step is due that runs once at a given time.
    pub(crate) fn next_due(&self, first_entry: Option<Tsc>, ticks: impl Fn(u64) -> Tsc) -> Tsc {
        let micros = |step: &Pending| match step.when {
            Due::At(micros) => Some(micros),
            Due::On { .. } | Due::Every { .. } => None,
        };
        earliest(self.steps.iter().filter_map(micros), first_entry, ticks)
    }

    /// When the next repeated step is due.
    pub(crate) fn next_repeat(&self, first_entry: Option<Tsc>, ticks: impl Fn(u64) -> Tsc) -> Tsc {
        let micros = |step: &Pending| match step.when {
            Due::Every { next, .. } => Some(next),
            Due::At(_) | Due::On { .. } => None,
        };
        earliest(self.steps.iter().filter_map(micros), first_entry, ticks)
    }
}

/// The earliest of some due times, in ticks.
fn earliest(micros: impl Iterator<Item = u64>, first_entry: Option<Tsc>, ticks: impl Fn(u64) -> Tsc) -> Tsc {
    match (first_entry, micros.min()) {
        (Some(first), Some(micros)) => first.after(ticks(micros)),
        _ => Tsc::NEVER,
    }
}
