//! The tests that need no machine: `cargo test` of all packages that have some.

use std::io::{BufRead, BufReader, Read};
use std::process::{ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;

use super::Report;
use crate::context::Context;
use crate::packages::{Packages, package_arguments};
use crate::{process, progress};

/// Lines of Cargo's output that are shown after a failure.
const SHOWN_LINES: usize = 60;

/// Runs them. A run in which no test was executed has failed.
pub fn run(context: &Context) -> Result<Report> {
    let began = Instant::now();
    let bar = progress::spinner("running the host tests");
    let metadata = process::cargo_metadata(&context.paths.root.join("Cargo.toml"))?;
    let packages = Packages::of(&metadata);
    // Apart, or the libraries would be tested with the features that xtask switches on in what both use.
    let mut said = String::new();
    let mut errors = String::new();
    let mut is_good = true;
    for names in [&packages.tested, &packages.tools] {
        let (status, tests, cargo) = cargo_test(context, names, &bar)?;
        said += &tests;
        errors += &cargo;
        is_good &= status.success();
    }
    bar.finish_and_clear();
    let (passed, failed) = count(&said);
    is_good &= failed == 0 && passed > 0;
    let details = if is_good {
        String::new()
    } else {
        details(&said, &errors, passed)
    };
    let failed = if is_good { 0 } else { failed.max(1) };
    let about = "unit, property and documentation tests of all crates".to_owned();
    Ok(Report {
        name: "host".to_owned(),
        about,
        passed,
        failed,
        took: began.elapsed(),
        details,
    })
}

/// Runs `cargo test`; returns how it ended, what the tests said, and what Cargo said.
fn cargo_test(
    context: &Context,
    names: &[String],
    bar: &ProgressBar,
) -> Result<(ExitStatus, String, String)> {
    let mut command = process::cargo();
    command
        .current_dir(&context.paths.root)
        .args(["test", "--locked", "--no-fail-fast"])
        .args(package_arguments(names))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let errors = child.stderr.take().context("cargo has no standard error")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let bar = bar.clone();
    // Both are read at once, or one of them would fill up and stop Cargo.
    let reader = std::thread::spawn(move || collect(errors, |line| bar.set_message(line.trim().to_owned())));
    let said = collect(output, |_| {});
    let status = child.wait().context("cannot wait for cargo")?;
    Ok((status, said, reader.join().unwrap_or_default()))
}

fn collect(output: impl Read, mut show: impl FnMut(&str)) -> String {
    let mut said = String::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        show(&line);
        said.push_str(&line);
        said.push('\n');
    }
    said
}

fn details(said: &str, errors: &str, passed: u64) -> String {
    let mut details = String::new();
    if passed == 0 {
        details += "  - no test passed\n";
    }
    let interesting: Vec<&str> = said
        .lines()
        .filter(|line| !line.ends_with("... ok") && !line.is_empty() && !line.starts_with("running "))
        .filter(|line| !line.starts_with("test result: ok"))
        .collect();
    let shown = [
        process::tail(errors, SHOWN_LINES),
        process::tail(&interesting.join("\n"), SHOWN_LINES),
    ]
    .concat();
    details.extend(shown.lines().map(|line| format!("    {line}\n")));
    details += "  again: cargo xtask test host\n";
    details
}

/// Adds up the lines `test result: ok. 3 passed; 0 failed; ...`.
fn count(said: &str) -> (u64, u64) {
    let number = |line: &str, what: &str| -> u64 {
        let before = line.split(what).next().unwrap_or_default();
        before
            .split_whitespace()
            .next_back()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    let results = said.lines().filter(|line| line.starts_with("test result:"));
    results.fold((0, 0), |(passed, failed), line| {
        (passed + number(line, " passed"), failed + number(line, " failed"))
    })
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn results_of_several_crates_are_added() {
        let said = "running 2 tests\ntest a ... ok\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured\n\
                    test result: FAILED. 3 passed; 1 failed; 0 ignored\n";
        assert_eq!(count(said), (5, 1));
        assert_eq!(count("nothing"), (0, 0));
    }
}
