//! `cargo xtask lint`: format, clippy, documentation, and the rules that keep the architecture.

mod graph;
mod sources;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::context::Context;
use crate::packages::{Packages, package_arguments};
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
        let packages = Packages::of(&metadata);
        let bare: Vec<String> = packages
            .tested
            .iter()
            .chain(&packages.freestanding)
            .cloned()
            .collect();
        for (group, names, targets) in [
            ("tools", &packages.tools, &["--all-targets"][..]),
            ("tests of the libraries", &packages.tested, &["--tests"]),
            ("libraries and freestanding programs", &bare, &["--lib", "--bins"]),
        ] {
            let names = package_arguments(names);
            let names = || names.iter().map(String::as_str);
            let clippy = ["clippy", "--locked", "--quiet"].into_iter().chain(names());
            let clippy: Vec<&str> = clippy
                .chain(targets.iter().copied())
                .chain(["--", "-D", "warnings"])
                .collect();
            is_good &= step(context, &format!("clippy of the {group}"), &clippy, &[]);
            let doc: Vec<&str> = ["doc", "--no-deps", "--locked", "--quiet"]
                .into_iter()
                .chain(names())
                .collect();
            let name = format!("documentation of the {group}");
            is_good &= step(context, &name, &doc, &[("RUSTDOCFLAGS", "-D warnings")]);
        }
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
