//! `cargo xtask bench`: figures beside those of others, in ticks of the emulated time-stamp counter.

mod rows;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::context::Context;
use crate::guests::{self, MachineKind, Scenario};
use crate::machine::{self, Kind};
use crate::session::{self, Outcome};
use crate::{build, files};
use rows::{EXITS, GUEST_TO_INIT, RESET_TO_FIRST_LINE, Row};

const EXAMPLES: &str = "Examples:
  cargo xtask bench exits                     what exits cost, beside Linux KVM on the same emulator
  cargo xtask bench exits --json exits.json   the same as a record";

/// Arguments of `bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which figures
    name: Name,
    /// Write the record to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The benches that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Exits, interrupts, faults, and the way of a Linux guest to its init
    Exits,
}

/// Where figures of one run come from, or why there are none.
type Source = Result<Outcome, String>;

/// Measures and prints.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let Name::Exits = arguments.name;
    if machine::choose(MachineKind::Auto)? != Kind::Bochs {
        eprintln!("xtask: measured in Bochs all the same: its ticks are instructions, and repeat");
    }
    let exits = measure(context, "bench-exits")?;
    let linux = measure(context, "bench-linux")?;
    let measured: Vec<(&Row, Result<u64, String>)> = EXITS
        .iter()
        .map(|row| (row, value(row, &exits, &linux)))
        .collect();
    print(&measured);
    if let Some(file) = &arguments.json {
        let text = format!("{}\n", serde_json::to_string_pretty(&record(&measured))?);
        files::write_new(&std::path::absolute(file).context("--json")?, text.as_bytes())?;
    }
    let is_complete = measured.iter().all(|(_, value)| value.is_ok());
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the scenario with this name. That it misses its expectations is no reason to hide its figures.
fn measure(context: &Context, name: &str) -> Result<Source> {
    let file = context.paths.scenarios().join(format!("{name}.toml"));
    let scenario: Scenario = guests::read(&file, &context.paths.shown(&file), &context.paths.root)?;
    build::programs(context, std::slice::from_ref(&scenario))?;
    let bar = crate::progress::spinner(&format!("measuring {name}"));
    let outcome = session::run(context, &scenario, MachineKind::Bochs, None, &mut session::Silent);
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

fn value(row: &Row, exits: &Source, linux: &Source) -> Result<u64, String> {
    let (source, name) = if row.name == GUEST_TO_INIT {
        (linux, "up")
    } else {
        (exits, row.name)
    };
    let outcome = source.as_ref().map_err(Clone::clone)?;
    let transcript = &outcome.transcript;
    let missing = || format!("{name} was not reported");
    if row.name == RESET_TO_FIRST_LINE {
        return transcript.ticks_to_first_line().ok_or_else(missing);
    }
    let mut guests = transcript.guests.values();
    if row.name == GUEST_TO_INIT {
        let mut events = guests.flat_map(|guest| &guest.events);
        return events
            .find(|(event, _)| event == name)
            .map(|(_, ticks)| *ticks)
            .ok_or_else(missing);
    }
    let found = guests.find_map(|guest| guest.measures.get(name));
    found
        .and_then(|value| u64::try_from(*value).ok())
        .ok_or_else(missing)
}

fn print(measured: &[(&Row, Result<u64, String>)]) {
    println!(
        "{:22} {:>12} {:>12} {:>12}   (instructions)",
        "", "Pleat", "Linux KVM", "goal"
    );
    let shown = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    for (row, value) in measured {
        let ours = match value {
            Ok(value) => value.to_string(),
            Err(why) => {
                println!("{:22} not measured: {why}", row.name);
                continue;
            }
        };
        let mark = row.goal.map_or("", |goal| {
            if value.as_ref().is_ok_and(|value| *value <= goal) {
                "reached"
            } else {
                "MISSED"
            }
        });
        println!(
            "{:22} {ours:>12} {:>12} {:>12}   {mark}",
            row.name,
            shown(row.peer),
            shown(row.goal)
        );
    }
}

fn record(measured: &[(&Row, Result<u64, String>)]) -> Value {
    let row = |(row, value): &(&Row, Result<u64, String>)| {
        let mut element = json!({
            "name": row.name,
            "unit": "instructions",
            "ours": value.as_ref().ok(),
            "peer": row.peer,
            "goal": row.goal,
            "better": "lower",
        });
        if let Err(why) = value {
            element["why"] = json!(why);
        }
        element
    };
    json!({ "schema": 1, "bench": "exits", "rows": measured.iter().map(row).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::record;
    use super::rows::EXITS;

    #[test]
    fn the_record_has_a_reason_where_it_has_no_figure() {
        let measured = vec![
            (&EXITS[0], Ok(300)),
            (&EXITS[1], Err("was not reported".to_owned())),
        ];
        let record = record(&measured);
        assert_eq!(
            (record["bench"].as_str(), record["rows"][0]["ours"].as_u64()),
            (Some("exits"), Some(300))
        );
        assert!(record["rows"][0].get("why").is_none());
        assert!(record["rows"][1]["ours"].is_null());
        assert_eq!(record["rows"][1]["why"], "was not reported");
    }
}
