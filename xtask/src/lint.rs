//! `cargo xtask lint`: format, clippy, documentation, and the rules that keep the architecture.

mod graph;
mod sources;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::context::Context;
use crate::process;

const EXAMPLES: &str = "Examples:
  cargo xtask lint              format, clippy, documentation and the project's rules
  cargo xtask lint --rules      the project's rules alone (crate graph, unsafe, lints, paths)";

/// Arguments of `lint`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only the project's own rules
    #[arg(long)]
    rules: bool,
}

/// Checks everything; prints all that is wrong, not only the first.
pub fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let metadata = process::cargo_metadata(&context.paths.root.join("Cargo.toml"))?;
    let mut mistakes = graph::check(&metadata);
    mistakes.extend(sources::check(context, &metadata)?);
    for mistake in &mistakes {
        println!("lint: {mistake}");
    }
    let mut is_good = mistakes.is_empty();
    println!(
        "lint: the project's rules {}",
        if is_good { "hold" } else { "are broken" }
    );
    if !arguments.rules {
        is_good &= step(context, "format", &["fmt", "--all", "--check"], &[]);
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ];
        is_good &= step(context, "clippy", &clippy, &[]);
        let doc = ["doc", "--workspace", "--no-deps", "--locked", "--quiet"];
        is_good &= step(context, "documentation", &doc, &[("RUSTDOCFLAGS", "-D warnings")]);
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn step(context: &Context, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> bool {
    let mut command = process::cargo();
    command
        .current_dir(&context.paths.root)
        .args(arguments)
        .envs(environment.iter().copied());
    match process::run_visibly(&mut command) {
        Ok(()) => {
            println!("lint: {name} is clean");
            true
        }
        Err(error) => {
            println!("lint: {name}: {error:#}");
            false
        }
    }
}
