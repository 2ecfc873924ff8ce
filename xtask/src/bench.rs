//! `cargo xtask bench`: figures beside those of others.

mod density;
mod exits;
mod headline;
mod merge;
mod reclaim;
mod rows;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::context::Context;
use crate::files;
use rows::Measured;

const EXAMPLES: &str = "Examples:
  cargo xtask bench exits                     what exits cost, beside Linux KVM on the same emulator
  cargo xtask bench density                   how little memory four Linux guests need, and what merging costs
  cargo xtask bench merge                     the merging engine on this machine, beside Linux's KSM
  cargo xtask bench reclaim                   how guests give memory back, and what that costs them
  cargo xtask bench headline                  52 guests of 1 GiB on a machine of 1 GiB; takes long
  cargo xtask bench exits --json exits.json   the same as a record";

/// Arguments of `bench`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which figures
    name: Name,
    /// How many guests the headline has
    #[arg(long, default_value_t = headline::GUESTS, value_parser = clap::value_parser!(u32).range(1..=i64::from(headline::MOST)), value_name = "N")]
    guests: u32,
    /// Write the record to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The benches that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Exits, interrupts, faults, and the way of a Linux guest to its init
    Exits,
    /// Four Linux guests in one domain: memory in use against the ideal, work until the machine is settled (no later
    /// record of the statistics has more than 0.5 % more saved pages) and afterwards; a write that breaks a share
    Density,
    /// The merging engine on the host, in one run with KSM
    Merge,
    /// Linux guests give memory back: what they freed, and what they are asked for with and without messages
    Reclaim,
    /// 52 Debian guests of 1 GiB each on a machine of 1 GiB, each booted by itself, then each doing work that checks itself in
    /// turn; takes long
    Headline,
}

impl Name {
    const fn text(self) -> &'static str {
        match self {
            Self::Exits => "exits",
            Self::Density => "density",
            Self::Merge => "merge",
            Self::Reclaim => "reclaim",
            Self::Headline => "headline",
        }
    }
}

/// Measures and prints.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let rows = match arguments.name {
        Name::Exits => show(&exits::measure(context)?, exits::PEER),
        Name::Density => show(&density::measure(context)?, density::PEER),
        Name::Merge => merge::measure(context)?,
        Name::Reclaim => show(&reclaim::measure(context)?, reclaim::PEER),
        Name::Headline => show(&headline::measure(context, arguments.guests)?, headline::PEER),
    };
    let is_complete = rows.iter().all(|row| !row["ours"].is_null());
    if let Some(file) = &arguments.json {
        let record = json!({ "schema": 1, "bench": arguments.name.text(), "rows": rows });
        let text = format!("{}\n", serde_json::to_string_pretty(&record)?);
        files::write_new(&std::path::absolute(file).context("--json")?, text.as_bytes())?;
    }
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the table; returns the rows of the record.
fn show(measured: &[Measured], peer: &str) -> Vec<Value> {
    print!("{}", rows::table(measured, peer));
    rows::elements(measured)
}

/// Bytes of a frame.
const FRAME: u64 = 4096;

/// Bytes that are not free on the whole machine, Pleat included, by a statistics record.
fn bytes_in_use(record: &Value) -> Option<u64> {
    let frames = |name: &str| record["host"][name].as_u64();
    Some(frames("frames_total")?.checked_sub(frames("frames_free")?)? * FRAME)
}

/// A count as a figure: below 2^53, where all of ours are, nothing is lost.
#[allow(clippy::cast_precision_loss)]
const fn float(count: u64) -> f64 {
    count as f64
}
