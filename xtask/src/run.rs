//! `cargo xtask run`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use crate::console::Console;
use crate::context::Context;
use crate::guests::{self, MachineKind, Scenario};
use crate::session::{self, Outcome};
use crate::stream::{Lines, View};
use crate::{build, files};

const EXAMPLES: &str = "Examples:
  cargo xtask run                                 three Linux guests and a console to type at
  cargo xtask run --headless                      the same, ends by itself when all have done their work
  cargo xtask run my-guests.toml --for 30s        guests of your own, for 30 s of guest time
  cargo xtask run --headless --json stats.json    write the statistics record
  cargo xtask run --machine bochs --until up      until every guest has reported `up`

On the console: `help` lists commands, `attach <guest>` types at a guest (Ctrl-] leaves it),
Ctrl-A x ends the run.";

/// Arguments of `run`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The guests file; without one, guest-tests/scenarios/linux-three.toml
    file: Option<PathBuf>,
    /// Which emulator; the file's choice, else `auto`
    #[arg(long)]
    machine: Option<MachineKind>,
    /// No console to type at; ends by itself
    #[arg(long)]
    headless: bool,
    /// End after this much guest time, for example 30s
    #[arg(long = "for", value_name = "TIME")]
    for_time: Option<String>,
    /// End when every guest has reported this event; may be given several times
    #[arg(long, value_name = "EVENT")]
    until: Vec<String>,
    /// Write the statistics record to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// End the emulator after this much wall time (headless runs), for example 5m
    #[arg(long, value_name = "TIME")]
    limit: Option<String>,
}

/// Runs a guests file.
pub fn run(context: &Context, arguments: Arguments) -> Result<ExitCode> {
    let is_interactive =
        !arguments.headless && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut scenario = scenario(context, &arguments)?;
    if is_interactive && arguments.for_time.is_none() {
        scenario.for_ms = None; // whoever types decides when it ends
    }
    build::programs(context, std::slice::from_ref(&scenario))?;
    let console = is_interactive.then(Console::open).transpose()?;
    let lines = if is_interactive { Lines::Raw } else { Lines::Plain };
    let names = scenario.guests.iter().map(|guest| guest.name.clone()).collect();
    let mut view = View::new(std::io::stdout(), names, lines);
    if is_interactive {
        view.note("Ctrl-A x ends the run; `help` lists the console's commands");
    }
    let wish = arguments.machine.unwrap_or(scenario.machine.kind);
    let outcome = session::run(context, &scenario, wish, console, &mut view)?;
    finish(context, &scenario, &arguments, &outcome)
}

fn scenario(context: &Context, arguments: &Arguments) -> Result<Scenario> {
    let usual = || context.paths.scenarios().join("linux-three.toml");
    let file = arguments.file.clone().unwrap_or_else(usual);
    let mut scenario = guests::read(&file, &context.paths.shown(&file), &context.paths.root)?;
    let time =
        |option: &str, text: &str| guests::micros(text).map_err(|message| anyhow!("{option}: {message}"));
    if let Some(text) = &arguments.for_time {
        scenario.for_ms = Some(time("--for", text)?.div_ceil(1_000));
    }
    if let Some(text) = &arguments.limit {
        scenario.machine.wall_seconds = time("--limit", text)?.div_ceil(1_000_000);
    }
    if !arguments.until.is_empty() {
        scenario.until.clone_from(&arguments.until);
    }
    Ok(scenario)
}

fn finish(
    context: &Context,
    scenario: &Scenario,
    arguments: &Arguments,
    outcome: &Outcome,
) -> Result<ExitCode> {
    if let Some(file) = &arguments.json {
        let text = format!("{}\n", serde_json::to_string_pretty(&outcome.statistics())?);
        files::write_new(&std::path::absolute(file).context("--json")?, text.as_bytes())?;
    }
    let logs = context.paths.shown(&outcome.directory);
    let seconds = outcome.took.as_secs_f64();
    if outcome.failures.is_empty() {
        eprintln!(
            "xtask: {} ran well on {} in {seconds:.1} s; logs in {logs}",
            scenario.name,
            outcome.kind.name()
        );
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "xtask: {} failed on {} after {seconds:.1} s:",
        scenario.name,
        outcome.kind.name()
    );
    for failure in &outcome.failures {
        eprintln!("  - {failure}");
    }
    eprintln!("xtask: logs in {logs}");
    Ok(ExitCode::FAILURE)
}
