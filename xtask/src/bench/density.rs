//! `bench density`: how little memory four Linux guests need, and what that costs.
//!
//! The scenario `density` starts four equal guests in one domain. Once all have reported `up` they do nothing; a while
//! later all are paused, and in the end every page of theirs is hashed where it lies, without salt. Statistics
//! records every 250 ms of guest time are what everything else is read from:
//!
//! - `settle-instructions`: merge work from the last `up` to the first record after which the pages that are saved
//!   (that map a shared frame beside another page, or the zero frame) never grow by more than 0.5 % of their final
//!   number, as long as guests run. Is that one of the last two seconds before the pause, then nobody knows
//!   whether it was the last to grow, and there is no figure.
//! - `idle-epoch-instructions`: merge work in the time of one epoch while all guests are paused and what they wrote
//!   last is calm; `idle-running-epoch-instructions`: the same from the settled record to the pause.
//! - `ideal-fraction`: the distinct contents of all pages, the zero page among them, against the frames that
//!   really hold them, at the same moment. `four-guests-bytes`: all that is not free then, Pleat included.
//! - `break` and what it is compared with come from the scenario `bench-merge`: a first write to a shared page, the
//!   copy of a page, an exit that does nothing.
//!
//! The figures of Linux are those of KSM over KVM and kvmtool, inside the same Bochs with the same four guests: whole
//! machine, and `ksmd` run until it had settled and for scans after that.

mod recorder;
mod series;

use anyhow::Result;

use super::float;
use super::rows::{Better, Measured, Row, Unit};
use super::scenario;
use crate::context::Context;
use crate::session::Silent;
use recorder::Recorder;
use series::Series;

/// Who is in the other column.
pub const PEER: &str = "KVM + KSM";

const FOUR_GUESTS_BYTES: Row = Row {
    name: "four-guests-bytes",
    unit: Unit::Bytes,
    better: Better::Lower,
    peer: Some(215e6),
    goal: Some(104e6),
};
const IDEAL_FRACTION: Row = Row {
    name: "ideal-fraction",
    unit: Unit::Fraction,
    better: Better::Higher,
    peer: None,
    goal: Some(0.97),
};
const SETTLE: Row = Row::instructions("settle-instructions").peer(1_480e6).goal(300e6);
const IDLE_EPOCH: Row = Row::instructions("idle-epoch-instructions").peer(344e6).goal(1e6);
const IDLE_RUNNING_EPOCH: Row = Row::instructions("idle-running-epoch-instructions");
const BREAK: Row = Row::instructions("break");
/// The same where the page has no sharers left: nothing is copied.
const BREAK_IN_PLACE: Row = Row::instructions("break-in-place");
/// What the goal of [`BREAK`] is made from.
const COPY_PAGE: Row = Row::instructions("copy-page");
const NULL_EXIT: Row = Row::instructions("null-exit");
/// A break may cost so many times a copy and an exit.
const BREAK_FACTOR: f64 = 1.3;

/// Measures all rows.
pub fn measure(context: &Context) -> Result<Vec<Measured>> {
    let [density, breaks] = scenario::prepare(context, ["density", "bench-merge"])?;
    let mut recorder = Recorder::new(density.guests.len());
    let source = scenario::measure(context, &density, &mut recorder)?;
    let series = source.and_then(|_| recorder.finish(u64::from(density.merge.epoch_us)));
    let figure = |row: Row, figure: fn(&Series) -> Result<f64, String>| Measured {
        row,
        ours: series.as_ref().map_err(Clone::clone).and_then(figure),
    };
    let mut measured = vec![
        figure(FOUR_GUESTS_BYTES, |series| Ok(float(series.bytes()))),
        figure(IDEAL_FRACTION, |series| Ok(series.ideal_fraction())),
        figure(SETTLE, |series| series.settle_instructions().map(float)),
        figure(IDLE_EPOCH, Series::paused_epoch),
        figure(IDLE_RUNNING_EPOCH, Series::running_epoch),
    ];
    let breaks = scenario::measure(context, &breaks, &mut Silent)?;
    let of_break = |row: Row| (row, scenario::measured(&breaks, row.name));
    measured.extend(with_goal([BREAK, COPY_PAGE, NULL_EXIT].map(of_break)));
    let (row, ours) = of_break(BREAK_IN_PLACE);
    measured.push(Measured { row, ours });
    Ok(measured)
}

/// The goal of a break follows from what is measured beside it.
fn with_goal(rows: [(Row, Result<f64, String>); 3]) -> [Measured; 3] {
    let goal = match &rows {
        [_, (_, Ok(copy)), (_, Ok(exit))] => Some((BREAK_FACTOR * (copy + exit)).floor()),
        _ => None,
    };
    rows.map(|(row, ours)| Measured {
        row: Row {
            goal: goal.filter(|_| row.name == BREAK.name),
            ..row
        },
        ours,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BREAK, COPY_PAGE, NULL_EXIT, with_goal};
    use crate::guests::{self, Scenario, When};

    /// What [`super::recorder`] reads from the stream is what this file asks for.
    #[test]
    fn the_scenario_says_what_the_figures_need() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let file = root.join("guest-tests/scenarios/density.toml");
        let Scenario {
            guests,
            script,
            expect,
            ..
        } = guests::read(&file, "density.toml", &root).unwrap();
        assert!(expect.is_none(), "it is no test");
        assert_eq!(guests.len(), 4);
        let when = |wanted: &str| {
            script
                .iter()
                .find(|step| step.command == wanted)
                .map(|step| &step.when)
        };
        let has = |when: &When, command: &str| {
            script
                .iter()
                .any(|step| step.when == *when && step.command == command)
        };
        for guest in &guests {
            assert_eq!((guest.domain.as_str(), guest.memory_bytes), ("web", 128 << 20));
            assert!(matches!(
                when(&format!("pause {}", guest.name)),
                Some(When::Micros(_))
            ));
            let up = When::Event {
                guest: guest.name.clone(),
                event: "up".to_owned(),
            };
            assert!(has(&up, "stats"), "when {} is up", guest.name);
        }
        assert!(has(when("pages").unwrap(), "stats"), "of the same moment");
        assert!(
            script
                .iter()
                .any(|step| matches!(step.when, When::Every { .. }) && step.command == "stats")
        );
    }

    #[test]
    fn a_break_is_measured_against_a_copy_and_an_exit() {
        let rows = |exit| [(BREAK, Ok(1200.0)), (COPY_PAGE, Ok(600.0)), (NULL_EXIT, exit)];
        let [of_break, copy, _] = with_goal(rows(Ok(350.0)));
        assert_eq!((of_break.row.goal, copy.row.goal), (Some(1235.0), None));
        let [of_break, ..] = with_goal(rows(Err("was not reported".to_owned())));
        assert_eq!((of_break.row.goal, of_break.ours), (None, Ok(1200.0)));
    }
}
