//! `cargo xtask test`: host tests, then every scenario that expects something.

mod host;
mod table;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::context::Context;
use crate::guests::{self, Boot, Scenario};
use crate::machine::{self, Kind};
use crate::session;
use crate::tools::Tool;
use crate::{build, process};

/// Emulators at the same time: each keeps one processor busy.
const PARALLEL: usize = 2;
/// Lines of a failed run's log that are shown.
const TAIL_LINES: usize = 25;

const EXAMPLES: &str = "Examples:
  cargo xtask test              everything: host tests, then all scenarios
  cargo xtask test host         the host tests alone
  cargo xtask test linux        the scenarios with `linux` in their name";

/// Arguments of `test`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Part of a scenario's name, or `host` for the host tests
    filter: Option<String>,
    /// Emulators at the same time
    #[arg(long, default_value_t = PARALLEL, value_name = "N")]
    jobs: usize,
}

/// What came of one test.
#[derive(Debug)]
pub struct Report {
    /// The scenario's name, or `host`.
    name: String,
    /// One line about it.
    about: String,
    /// Tests that passed and failed: one for a scenario, many for the host.
    passed: u64,
    failed: u64,
    took: Duration,
    /// What is wrong, and how to see it again.
    details: String,
}

/// Runs the tests that match.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref();
    let scenarios = scenarios(context, filter)?;
    let runs_host = filter.is_none_or(|filter| filter == "host");
    let mut reports = Vec::new();
    if runs_host {
        reports.push(host::run(context)?);
    }
    if !scenarios.is_empty() {
        build::programs(context, &scenarios)?;
        fetch(context, &scenarios)?;
        reports.extend(run_scenarios(context, scenarios, arguments.jobs.max(1)));
    }
    table::print(&reports);
    let passed: u64 = reports.iter().map(|report| report.passed).sum();
    let failed: u64 = reports.iter().map(|report| report.failed).sum();
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All scenarios that expect something and match.
fn scenarios(context: &Context, filter: Option<&str>) -> Result<Vec<Scenario>> {
    let mut files: Vec<_> = std::fs::read_dir(context.paths.scenarios())?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
    files.sort();
    let read =
        |file: &std::path::PathBuf| guests::read(file, &context.paths.shown(file), &context.paths.root);
    let mut all: Vec<Scenario> = files.iter().map(read).collect::<Result<_>>()?;
    all.retain(|scenario| scenario.expect.is_some());
    let names: Vec<String> = all.iter().map(|scenario| scenario.name.clone()).collect();
    let Some(filter) = filter else { return Ok(all) };
    all.retain(|scenario| scenario.name.contains(filter));
    if all.is_empty() && filter != "host" {
        bail!(
            "no test matches `{filter}`; there are: host, {}",
            names.join(", ")
        );
    }
    Ok(all)
}

/// Fetches what the scenarios need, before several of them ask for it at once.
fn fetch(context: &Context, scenarios: &[Scenario]) -> Result<()> {
    for scenario in scenarios {
        let kind = machine::choose(scenario.machine.kind)?;
        context.tools.get(if kind == Kind::Bochs {
            Tool::Bochs
        } else {
            Tool::Qemu
        })?;
        if scenario.machine.boot == Boot::Iso {
            context.tools.get(Tool::Grub)?;
        }
        if scenario.guests.iter().any(|guest| guest.kernel.is_debian()) {
            build::fetch_linux(context, scenario)?;
        }
    }
    Ok(())
}

fn run_scenarios(context: &Context, scenarios: Vec<Scenario>, jobs: usize) -> Vec<Report> {
    let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let waiting = Mutex::new(VecDeque::from(scenarios));
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(scenario) = next() {
                    let report = run_one(context, &scenario);
                    eprintln!(
                        "xtask: {} {} ({:.1} s)",
                        report.name,
                        report.verdict(),
                        report.took.as_secs_f64()
                    );
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    let mut reports = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|report: &Report| names.iter().position(|name| *name == report.name));
    reports
}

fn run_one(context: &Context, scenario: &Scenario) -> Report {
    let began = Instant::now();
    let details = match session::run(
        context,
        scenario,
        scenario.machine.kind,
        None,
        &mut session::Silent,
    ) {
        Ok(outcome) if outcome.failures.is_empty() => String::new(),
        Ok(outcome) => failure_details(context, scenario, &outcome),
        Err(error) => format!("  - {error:#}\n"),
    };
    let failed = u64::from(!details.is_empty());
    let (name, about) = (scenario.name.clone(), scenario.about.clone());
    Report {
        name,
        about,
        passed: 1 - failed,
        failed,
        took: began.elapsed(),
        details,
    }
}

fn failure_details(context: &Context, scenario: &Scenario, outcome: &session::Outcome) -> String {
    let mut details: String = outcome
        .failures
        .iter()
        .map(|failure| format!("  - {failure}\n"))
        .collect();
    let host = process::tail(&outcome.transcript.host, TAIL_LINES);
    details += &format!(
        "  the end of {}/host.log:\n",
        context.paths.shown(&outcome.directory)
    );
    details.extend(host.lines().map(|line| format!("    {line}\n")));
    details += &format!(
        "  again: cargo xtask run --headless {}\n",
        context.paths.shown(&scenario.file)
    );
    details
}

impl Report {
    const fn verdict(&self) -> &'static str {
        match (self.failed, self.passed) {
            (0, 1..) => "passed",
            _ => "FAILED",
        }
    }
}
