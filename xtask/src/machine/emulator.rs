//! A running emulator: its output line by line, and its end by our own hand.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What an emulator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A line of the record stream.
    Line(String),
    /// The output has ended: the emulator is ending.
    End,
    /// Nothing within the time.
    Nothing,
}

/// A running emulator. Dropping it ends the process.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    lines: Receiver<String>,
}

impl Emulator {
    /// Starts a command whose standard output carries the record stream. `filter` takes out what the
    /// emulator itself says there.
    pub fn spawn(mut command: Command, filter: Box<dyn LineFilter>) -> Result<Self> {
        let name = crate::process::shown(&command);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{name}`"))?;
        let output = child
            .stdout
            .take()
            .context("the emulator has no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || forward(output, filter, &sender));
        Ok(Self { child, lines })
    }

    /// The next line, waiting for it until `deadline` at most.
    pub fn next(&self, deadline: Instant) -> Said {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(line) => Said::Line(line),
            Err(RecvTimeoutError::Timeout) => Said::Nothing,
            Err(RecvTimeoutError::Disconnected) => Said::End,
        }
    }

    /// Waits a little for it to end by itself, then ends it.
    pub fn finish(mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // By its own process id; when it has ended already, both calls say so and that is fine.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Tells the record stream from what the emulator itself prints.
pub trait LineFilter: Send {
    /// The part of a line that belongs to the stream, if any does.
    fn keep<'a>(&mut self, line: &'a str) -> Option<&'a str>;
}

/// Everything belongs to the stream.
#[derive(Debug)]
pub struct KeepAll;

impl LineFilter for KeepAll {
    fn keep<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        Some(line)
    }
}

fn forward(output: impl Read, mut filter: Box<dyn LineFilter>, lines: &Sender<String>) {
    let mut reader = BufReader::new(output);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read != 0) {
        let line = String::from_utf8_lossy(&bytes);
        if let Some(kept) = filter.keep(line.trim_end_matches(['\n', '\r']))
            && lines.send(kept.to_owned()).is_err()
        {
            return;
        }
        bytes.clear();
    }
}
