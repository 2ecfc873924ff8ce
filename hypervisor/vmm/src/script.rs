//! Console commands that run by themselves.

use crate::guest::Guest;
use arrayvec::ArrayVec;
use pleat_bundle::config::{MAX_STEPS, Step, When};
use pleat_types::Tsc;

/// The steps that have not run yet.
#[derive(Debug)]
pub(crate) struct Script {
    steps: ArrayVec<Step<'static>, MAX_STEPS>,
}

impl Script {
    /// All steps are to run.
    pub(crate) fn new(steps: &ArrayVec<Step<'static>, MAX_STEPS>) -> Self {
        Self { steps: steps.clone() }
    }

    /// The next command that is due, `elapsed` microseconds after the first guest's entry; it is taken out.
    pub(crate) fn take_due<'g>(
        &mut self,
        elapsed: Option<u64>,
        guests: impl Iterator<Item = &'g Guest> + Clone,
    ) -> Option<&'static str> {
        let is_due = |step: &Step<'static>| match step.when {
            When::Micros(micros) => elapsed.is_some_and(|elapsed| elapsed >= micros),
            When::Event { guest, event } => guests
                .clone()
                .any(|candidate| candidate.config.name == guest && candidate.has_reported(event)),
        };
        let index = self.steps.iter().position(is_due)?;
        Some(self.steps.remove(index).command)
    }

    /// The microsecond at which the next timed step is due.
    pub(crate) fn next_micros(&self) -> Option<u64> {
        let micros = |step: &Step<'_>| match step.when {
            When::Micros(micros) => Some(micros),
            When::Event { .. } => None,
        };
        self.steps.iter().filter_map(micros).min()
    }

    /// A due time in ticks.
    pub(crate) fn next_due(&self, first_entry: Option<Tsc>, ticks: impl Fn(u64) -> Tsc) -> Tsc {
        match (first_entry, self.next_micros()) {
            (Some(first), Some(micros)) => first.after(ticks(micros)),
            _ => Tsc::NEVER,
        }
    }
}
