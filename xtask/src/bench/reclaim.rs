//! `bench reclaim`: how memory comes back from guests, and what that costs them.
//!
//! - `footprint-return`: a Linux guest fills its page cache from a disk and drops it, and fills files in memory and
//!   removes them. Frames that back the guest 10 s of guest time after each, against those before; the worse of the two.
//! - `pressure-forced-reclaim`: two Linux guests with garbage-collected heaps and full page caches, on a machine with too
//!   little memory for their garbage. What they had to reclaim in the midst of allocations (pages of direct reclaim,
//!   from their /proc/vmstat), with the port for messages about pressure against without it: the same scenario
//!   twice, and this is the only difference.
//! - `compressed-store`, `compressed-load`, `disk-store`, `disk-load`: a page that packs to a quarter is kept, and read for
//!   the first time after. Storing is Pleat's work, without waiting for a disk; loading is what the guest sees, with it.
//! - `four-idle-guests-bytes`: all that is not free on a machine with four idle Linux guests whose cold pages were
//!   packed; then each answers at its console.
//! - `eight-guests-wrong-bytes`: eight Linux guests do work that checks itself on 5.3 times less memory than they were promised,
//!   with both tiers and with each alone.

mod footprint;
mod store;

use anyhow::Result;

use super::float;
use super::rows::{Better, Measured, Row, Unit};
use super::scenario::{self, Source};
use crate::context::Context;
use crate::guests::Scenario;
use crate::session::Silent;
use footprint::Recorder;

/// Who is in the other column: nobody yet.
pub const PEER: &str = "-";

const fn fraction(name: &'static str, goal: f64) -> Row {
    Row {
        name,
        unit: Unit::Fraction,
        better: Better::Lower,
        peer: None,
        goal: Some(goal),
    }
}

const FOOTPRINT_RETURN: Row = fraction("footprint-return", 1.10);
const FORCED_RECLAIM: Row = fraction("pressure-forced-reclaim", 0.5);
/// Measures all rows.
pub fn measure(context: &Context) -> Result<Vec<Measured>> {
    let [footprint, pressure] = scenario::prepare(context, ["bench-footprint", "bench-pressure"])?;
    let mut recorder = Recorder::default();
    let source = scenario::measure(context, &footprint, &mut recorder)?;
    let with = scenario::measure(context, &pressure, &mut Silent)?;
    let without = scenario::measure(context, &without_messages(&pressure), &mut Silent)?;
    let mut measured = vec![
        Measured {
            row: FOOTPRINT_RETURN,
            ours: source.and_then(|_| recorder.worst_return()),
        },
        Measured {
            row: FORCED_RECLAIM,
            ours: ratio(forced(&with), forced(&without)),
        },
    ];
    measured.extend(store::measure(context)?);
    Ok(measured)
}

/// The same guests without the port that messages come by.
fn without_messages(scenario: &Scenario) -> Scenario {
    let mut other = scenario.clone();
    other.name += "-off";
    for guest in &mut other.guests {
        guest.devices.has_console = false;
    }
    other
}

/// Pages that direct reclaim took in all guests.
fn forced(source: &Source) -> Result<u64, String> {
    let outcome = source.as_ref().map_err(Clone::clone)?;
    let guests = &outcome.transcript.guests;
    let of_guests = guests.iter().map(|(name, guest)| {
        forced_in(&guest.console).ok_or_else(|| format!("{name} did not say what it had to reclaim"))
    });
    of_guests.sum()
}

/// The same from what a guest printed: lines such as `vmstat: pgsteal_direct 12`.
fn forced_in(console: &str) -> Option<u64> {
    let pages = |line: &str| {
        line.trim_end()
            .strip_prefix("vmstat: pgsteal_direct ")?
            .parse()
            .ok()
    };
    console.lines().find_map(pages)
}

fn ratio(with: Result<u64, String>, without: Result<u64, String>) -> Result<f64, String> {
    let (with, without) = (with?, without?);
    eprintln!("xtask: pages reclaimed by force: {with} with messages, {without} without");
    if without == 0 {
        return Err("nothing was reclaimed by force without messages either".to_owned());
    }
    Ok(float(with) / float(without))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{forced_in, ratio, without_messages};
    use crate::guests::{self, Scenario, When};

    pub fn scenario(name: &str) -> Scenario {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let file = root.join(format!("guest-tests/scenarios/{name}.toml"));
        guests::read(&file, name, &root).unwrap()
    }

    #[test]
    fn forced_reclaim_is_read_from_what_guests_print() {
        let console = "x\nvmstat: pgsteal_kswapd 9\nvmstat: pgsteal_direct 30\r\nvmstat: allocstall_normal 4\n\
                       vmstat: allocstall_movable 1\nvmstat: oom_kill 7\n";
        assert_eq!(
            forced_in(console),
            Some(30),
            "pages, and not how often somebody waited"
        );
        assert_eq!(
            forced_in("vmstat: pgsteal_direct many\nvmstat: oom_kill 3\n"),
            None
        );
        assert_eq!(ratio(Ok(10), Ok(40)), Ok(0.25));
        assert!(ratio(Ok(0), Ok(0)).unwrap_err().contains("nothing"));
        assert!(ratio(Err("a".to_owned()), Ok(1)).is_err());
    }

    #[test]
    fn two_runs_differ_in_the_messages_alone() {
        let with = scenario("bench-pressure");
        let without = without_messages(&with);
        assert!(with.guests.len() > 1 && with.guests.iter().all(|guest| guest.devices.has_console));
        assert!(without.guests.iter().all(|guest| !guest.devices.has_console));
        let mut same = without;
        for guest in &mut same.guests {
            guest.devices.has_console = true;
        }
        same.name.clone_from(&with.name);
        assert_eq!(format!("{same:?}"), format!("{with:?}"));
    }

    /// What the recorder reads from the stream is what the scenario and its guest's job say.
    #[test]
    fn the_footprint_is_recorded_when_it_matters() {
        let footprint = scenario("bench-footprint");
        let guest = &footprint.guests[0];
        assert!(guest.command_line.contains("pleat.job=footprint") && guest.devices.disk.is_some());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let job = std::fs::read_to_string(root.join("guest-tests/agent/jobs/job-footprint")).unwrap();
        for phase in super::footprint::PHASES {
            for moment in ["before", "full", "freed"] {
                assert!(job.contains(&format!("event {phase}-{moment}")));
            }
        }
        let mut steps = footprint.script.iter();
        assert!(steps.any(|step| matches!(step.when, When::Every { .. }) && step.command == "stats"));
    }
}
