//! What must hold after a run.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// How a run is expected to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Pleat ends and reports no failure.
    #[default]
    Ok,
    /// Pleat ends and reports failures.
    Failed,
    /// Pleat says that this processor lacks something.
    CannotRun,
    /// Pleat ends in a crash record.
    Crash,
}

/// Everything a scenario expects.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// How the run ends.
    pub outcome: Outcome,
    /// Text that the host must have said.
    pub text: Vec<String>,
    /// Patterns that a line of the host must match.
    pub regex: Vec<Regex>,
    /// Patterns that no line, of the host or a guest, may match.
    pub forbid: Vec<Regex>,
    /// Bounds on fields of the statistics record, by path.
    pub statistics: BTreeMap<String, Bound>,
    /// What must hold for single guests.
    pub guests: BTreeMap<String, GuestExpectation>,
}

/// What must hold for one guest.
#[derive(Clone, Debug, Default)]
pub struct GuestExpectation {
    /// The state it ends in.
    pub state: Option<String>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// Events it must have reported.
    pub events: Vec<String>,
    /// Text on its console.
    pub text: Vec<String>,
    /// Patterns that a line of its console must match.
    pub regex: Vec<Regex>,
    /// Bounds on figures it reports.
    pub measures: BTreeMap<String, Bound>,
}

/// A bound on a value; at least one part is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bound {
    /// At least.
    pub min: Option<i64>,
    /// At most.
    pub max: Option<i64>,
    /// Exactly.
    pub equals: Option<Value>,
}

impl Bound {
    /// What is wrong with a value, if anything.
    #[must_use]
    pub fn objection(&self, value: &Value) -> Option<String> {
        if let Some(wanted) = &self.equals {
            return (wanted != value).then(|| format!("is {value}, must be {wanted}"));
        }
        let Some(number) = value.as_i64() else {
            return Some(format!("is {value}, which is no number"));
        };
        if let Some(min) = self.min.filter(|min| number < *min) {
            return Some(format!("is {number}, must be at least {min}"));
        }
        let max = self.max.filter(|max| number > *max)?;
        Some(format!("is {number}, must be at most {max}"))
    }
}
