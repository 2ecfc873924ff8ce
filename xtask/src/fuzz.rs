//! `cargo xtask fuzz`: bytes without end for what a guest may say to its devices.
//!
//! It needs a nightly compiler and cargo-fuzz, which nothing else here does; so it is no part of `test`.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;

use crate::context::Context;
use crate::{guests, process};

const EXAMPLES: &str = "Examples:
  cargo xtask fuzz                      the first target, for a minute
  cargo xtask fuzz board --for 10m      a target by its name, for longer
  cargo xtask fuzz --list               which targets there are

It needs a nightly compiler and cargo-fuzz:
  rustup toolchain install nightly --profile minimal
  cargo install cargo-fuzz

What was found interesting stays below the target directory and is where the next run begins.";

/// Where the targets are, below the workspace.
const DIRECTORY: &str = "hypervisor/devices/fuzz";

/// Arguments of `fuzz`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The target; without one, the first
    target: Option<String>,
    /// End after this much wall time, for example 10m
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    for_time: String,
    /// Only list the targets
    #[arg(long)]
    list: bool,
}

/// Runs a target until it finds something or its time is over.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let directory = context.paths.root.join(DIRECTORY);
    let targets = targets(&directory)?;
    if arguments.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(ExitCode::SUCCESS);
    }
    let target = choose(&targets, arguments.target.as_deref())?;
    let micros = guests::micros(&arguments.for_time).map_err(|message| anyhow!("--for: {message}"))?;
    check_tools()?;
    let ours = context.paths.ours().join("fuzz").join(target);
    let (corpus, artifacts) = (ours.join("corpus"), ours.join("artifacts"));
    for place in [&corpus, &artifacts] {
        fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    }
    let mut command = nightly();
    command
        .current_dir(&directory)
        .env("CARGO_TARGET_DIR", context.paths.ours().join("fuzz/build"))
        .args(["fuzz", "run", "--fuzz-dir", ".", target])
        .arg(&corpus)
        .arg("--")
        // libFuzzer takes a time of 0 for no end.
        .arg(format!("-max_total_time={}", micros.div_ceil(1_000_000).max(1)))
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    process::run_visibly(&mut command).with_context(|| {
        let shown = context.paths.shown(&artifacts);
        format!("`{target}` found something, or did not run; inputs that break it are in {shown}")
    })?;
    println!("fuzz: {target}: nothing found in {}", arguments.for_time);
    Ok(ExitCode::SUCCESS)
}

/// The targets by name, in order.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let places = directory.join("fuzz_targets");
    let entries = fs::read_dir(&places).with_context(|| format!("cannot read {}", places.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut names: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|ending| ending == "rs"))
        .filter_map(|file| Some(file.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "there are no targets in {}", places.display());
    Ok(names)
}

fn choose<'a>(targets: &'a [String], wanted: Option<&str>) -> Result<&'a str> {
    let found = match wanted {
        None => targets.first(),
        Some(wanted) => targets.iter().find(|target| *target == wanted),
    };
    found
        .map(String::as_str)
        .with_context(|| format!("no such target; there are: {}", targets.join(", ")))
}

/// Cargo of the nightly toolchain. Cargo of ours has set variables that would lead back to it.
fn nightly() -> Command {
    let mut command = Command::new("cargo");
    command.arg("+nightly");
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

/// Says what to install when something is missing.
fn check_tools() -> Result<()> {
    if process::run(nightly().arg("--version")).is_err() {
        bail!(
            "fuzzing needs a nightly compiler, and there is none; install it:\n  \
             rustup toolchain install nightly --profile minimal"
        );
    }
    if process::run(nightly().args(["fuzz", "--version"])).is_err() {
        bail!("fuzzing needs cargo-fuzz, which is not there; install it:\n  cargo install cargo-fuzz");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{DIRECTORY, choose, targets};

    #[test]
    fn targets_are_chosen_by_name_and_the_first_is_usual() {
        let targets = ["balloon".to_owned(), "board".to_owned()];
        assert_eq!(choose(&targets, None).unwrap(), "balloon");
        assert_eq!(choose(&targets, Some("board")).unwrap(), "board");
        let message = choose(&targets, Some("bord")).unwrap_err().to_string();
        assert!(message.contains("balloon, board"), "{message}");
    }

    #[test]
    fn the_workspace_s_targets_are_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let found = targets(&root.join(DIRECTORY)).unwrap();
        assert!(found.iter().any(|target| target == "board"), "{found:?}");
    }
}
