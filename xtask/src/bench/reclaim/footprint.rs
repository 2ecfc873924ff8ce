//! What backs a guest, over time, and at the moments that its job tells of.

use std::collections::BTreeMap;

use serde_json::Value;

use super::float;
use crate::machine::BOCHS_HZ;
use crate::session::Listener;
use crate::stream::{Kind, Record};

/// What the job fills and frees: each tells `<phase>-before`, `<phase>-full` and `<phase>-freed`.
pub const PHASES: [&str; 2] = ["cache", "files"];
/// So long after the guest freed it, memory has to be back.
const PATIENCE: u64 = 10 * BOCHS_HZ;
/// The last record before that must be no older.
const FRESH: u64 = BOCHS_HZ;
/// What a phase fills is at least so many frames, or there was nothing to return: 32 MiB.
const LEAST_FILLED: u64 = 8192;

/// Follows a run with one guest.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Frames that back the guest, by time.
    samples: Vec<(u64, u64)>,
    events: BTreeMap<String, u64>,
}

impl Recorder {
    /// The footprint after against before, of the phase where that is worst.
    pub fn worst_return(&self) -> Result<f64, String> {
        let returns = PHASES.map(|phase| self.one_return(phase));
        returns
            .into_iter()
            .try_fold(0.0, |worst: f64, one| Ok(worst.max(one?)))
    }

    fn one_return(&self, phase: &str) -> Result<f64, String> {
        let before = self.at(phase, "before")?;
        let full = self.at(phase, "full")?;
        let freed = self.event(phase, "freed")?;
        if full < before + LEAST_FILLED {
            return Err(format!(
                "the {phase} backed by the host grew from {before} to {full} frames only"
            ));
        }
        let in_time = |at: u64| (freed + PATIENCE - FRESH..=freed + PATIENCE).contains(&at);
        let after = self.samples.iter().rev().find(|(at, _)| in_time(*at));
        let (_, after) = after.ok_or_else(|| format!("no statistics came 10 s after {phase}-freed"))?;
        eprintln!("xtask: {phase}: {before} frames before, {full} filled, {after} 10 s after it was freed");
        Ok(float(*after) / float(before))
    }

    fn event(&self, phase: &str, moment: &str) -> Result<u64, String> {
        let name = format!("{phase}-{moment}");
        self.events
            .get(&name)
            .copied()
            .ok_or_else(|| format!("{name} was not reported"))
    }

    /// The first footprint that was recorded after an event.
    fn at(&self, phase: &str, moment: &str) -> Result<u64, String> {
        let event = self.event(phase, moment)?;
        let sample = self.samples.iter().find(|(at, _)| *at >= event);
        let (_, frames) = sample.ok_or_else(|| format!("no statistics came after {phase}-{moment}"))?;
        Ok(*frames)
    }
}

impl Listener for Recorder {
    fn record(&mut self, record: &Record) {
        let Some(at) = record.ticks else { return };
        match &record.kind {
            Kind::Event { event, .. } => {
                self.events.entry(event.clone()).or_insert(at);
            }
            Kind::Stats { record } => self.samples.extend(footprint(record).map(|frames| (at, frames))),
            _ => {}
        }
    }

    fn echo(&mut self, _: &str) {}
}

/// Frames that back the first guest; one that it shares counts as its own.
fn footprint(record: &Value) -> Option<u64> {
    let number = |name: &str| record["guests"][0][name].as_u64();
    Some(number("unique")? + number("shared")? + 512 * number("large")? + 512 * 512 * number("huge")?)
}

#[cfg(test)]
mod tests {
    use super::{BOCHS_HZ, Recorder};
    use crate::session::Listener;
    use crate::stream::Record;

    /// Events and footprints by seconds.
    fn follow(events: &[(u64, &str)], frames: &[(u64, u64)]) -> Recorder {
        let mut recorder = Recorder::default();
        for (second, event) in events {
            let at = second * BOCHS_HZ;
            recorder.record(&Record::parse(&format!(
                r#"{{"t":{at},"k":"event","guest":"g","event":"{event}","ticks":1}}"#
            )));
        }
        for (second, unique) in frames {
            let at = second * BOCHS_HZ + 1;
            recorder.record(&Record::parse(&format!(
                r#"{{"t":{at},"k":"stats","record":{{"guests":[{{"unique":{unique},"shared":100,"large":1,"huge":0}}]}}}}"#
            )));
        }
        recorder
    }

    const EVENTS: [(u64, &str); 6] = [
        (5, "cache-before"),
        (8, "cache-full"),
        (10, "cache-freed"),
        (30, "files-before"),
        (33, "files-full"),
        (35, "files-freed"),
    ];
    /// With 612 frames that are shared or in a large mapping: 10,000 before, 30,000 full.
    const FRAMES: [(u64, u64); 8] = [
        (5, 9388),
        (8, 29388),
        (10, 29388),
        (19, 10388),
        (21, 9388),
        (30, 9388),
        (33, 29388),
        (44, 9888),
    ];

    #[test]
    fn the_worse_phase_counts_ten_seconds_after_it_was_freed() {
        assert_eq!(follow(&EVENTS, &FRAMES).worst_return(), Ok(1.1));
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |event: &str| {
            let events: Vec<_> = EVENTS.into_iter().filter(|(_, name)| *name != event).collect();
            follow(&events, &FRAMES).worst_return().unwrap_err()
        };
        assert_eq!(without("files-freed"), "files-freed was not reported");
        let late: Vec<_> = FRAMES.into_iter().filter(|(second, _)| *second != 44).collect();
        let why = follow(&EVENTS, &late).worst_return().unwrap_err();
        assert!(why.contains("10 s after files-freed"), "{why}");
        let small = FRAMES.map(|(second, frames)| (second, frames.min(12_000)));
        let why = follow(&EVENTS, &small).worst_return().unwrap_err();
        assert!(
            why.contains("cache backed by the host grew from 10000 to 12612"),
            "{why}"
        );
    }
}
