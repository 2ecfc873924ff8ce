//! The only door to Pleat: `cargo xtask <verb>`.
//!
//! Everything is built, fetched, run, tested and measured through here; continuous integration calls
//! the same verbs.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod console;
mod context;
mod files;
mod fuzz;
mod guests;
mod image;
mod lint;
mod machine;
mod packages;
mod paths;
mod process;
mod progress;
mod run;
mod session;
mod stream;
mod test;
mod tools;
mod verdict;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    version,
    about = "Builds, runs, tests and measures Pleat"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build everything, start a machine with Pleat and the guests of a TOML file, show what they say
    Run(run::Arguments),
    /// Run the host tests and all scenarios that expect something
    Test(test::Arguments),
    /// Feed what guests may say to their devices with random bytes (needs nightly and cargo-fuzz)
    Fuzz(fuzz::Arguments),
    /// Check format, clippy, documentation, crate graph, unsafe and lints
    Lint(lint::Arguments),
    /// Measure, and print our figures beside those of others
    Bench(bench::Arguments),
    /// Make an ISO image that GRUB boots, on emulators and real machines
    Image(image::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The emulators are ended by the runs that started them; a second Ctrl-C ends xtask at once.
    let handler = || {
        if session::INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("xtask: Ctrl-C will not end emulators: {error}");
    }
    let outcome = context::Context::new().and_then(|context| match cli.verb {
        Verb::Run(arguments) => run::run(&context, arguments),
        Verb::Test(arguments) => test::run(&context, &arguments),
        Verb::Fuzz(arguments) => fuzz::run(&context, &arguments),
        Verb::Lint(arguments) => lint::run(&context, &arguments),
        Verb::Bench(arguments) => bench::run(&context, &arguments),
        Verb::Image(arguments) => image::run(&context, &arguments),
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
