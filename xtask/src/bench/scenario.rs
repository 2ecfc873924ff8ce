//! Scenarios that are run for their figures.

use anyhow::{Result, bail};

use crate::context::Context;
use crate::guests::{self, MachineKind, Scenario};
use crate::machine::{self, Kind};
use crate::session::{self, Listener, Outcome};
use crate::{build, progress};

/// Where figures of one run come from, or why there are none.
pub type Source = Result<Outcome, String>;

/// Reads the scenarios with these names and builds their programs, in one call of Cargo.
pub fn prepare<const N: usize>(context: &Context, names: [&str; N]) -> Result<[Scenario; N]> {
    if machine::choose(MachineKind::Auto)? != Kind::Bochs {
        eprintln!("xtask: measured in Bochs all the same: its ticks are instructions, and repeat");
    }
    let read = |name: &str| {
        let file = context.paths.scenarios().join(format!("{name}.toml"));
        guests::read(&file, &context.paths.shown(&file), &context.paths.root)
    };
    let scenarios: Vec<Scenario> = names.iter().map(|name| read(name)).collect::<Result<_>>()?;
    build::programs(context, &scenarios)?;
    let Ok(scenarios) = scenarios.try_into() else {
        bail!("a scenario was lost"); // each name gave one
    };
    Ok(scenarios)
}

/// Runs a scenario. That it misses its expectations is no reason to hide its figures.
pub fn measure(context: &Context, scenario: &Scenario, listener: &mut impl Listener) -> Result<Source> {
    let name = &scenario.name;
    let bar = progress::spinner(&format!("measuring {name}"));
    let outcome = session::run(context, scenario, MachineKind::Bochs, None, listener);
    bar.finish_and_clear();
    let outcome = outcome?;
    if outcome.transcript.end.is_none() {
        let why = outcome.failures.join("; ");
        if why.is_empty() {
            bail!("{name} was ended by hand");
        }
        return Ok(Err(format!("{name}: {why}")));
    }
    for failure in &outcome.failures {
        eprintln!("xtask: {name}: {failure}");
    }
    Ok(Ok(outcome))
}

/// A figure that a test kernel of this run measured.
pub fn measured(source: &Source, name: &str) -> Result<f64, String> {
    let outcome = source.as_ref().map_err(Clone::clone)?;
    let mut guests = outcome.transcript.guests.values();
    let found = guests.find_map(|guest| guest.measures.get(name));
    // Below 2^53 each whole number is a double; none of our figures gets there.
    #[allow(clippy::cast_precision_loss)]
    found
        .filter(|value| **value >= 0)
        .map(|value| *value as f64)
        .ok_or_else(|| format!("{name} was not reported"))
}
