//! Progress for people; silent when standard error is not a terminal, apart from one line per job.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A job whose length is not known: a spinner with a text.
#[must_use]
pub fn spinner(text: &str) -> ProgressBar {
    if !is_live() {
        eprintln!("xtask: {text}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A job of a known number of steps.
#[must_use]
pub fn steps(text: &str, total: u64) -> ProgressBar {
    styled(text, total, "{msg:32} [{bar:30}] {pos}/{len}")
}

/// A download of a known number of bytes.
#[must_use]
pub fn bytes(text: &str, total: u64) -> ProgressBar {
    styled(
        text,
        total,
        "{msg:32} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
    )
}

fn styled(text: &str, total: u64, template: &str) -> ProgressBar {
    if !is_live() {
        eprintln!("xtask: {text}");
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total)
        .with_style(style)
        .with_message(text.to_owned())
}

fn is_live() -> bool {
    std::io::stderr().is_terminal()
}
