//! Everything that was said during a run, sorted by who said it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::{Kind, Record};

/// The end of a run as Pleat reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// ok or failed.
    pub outcome: String,
    /// What failed.
    pub failures: Vec<String>,
}

/// One guest's part.
#[derive(Clone, Debug, Default)]
pub struct GuestTranscript {
    /// Its console output.
    pub console: String,
    /// Events in order, with ticks since its first entry.
    pub events: Vec<(String, u64)>,
    /// The last state and its reason.
    pub state: Option<(String, String)>,
    /// Figures it measured.
    pub measures: BTreeMap<String, i64>,
}

/// The whole run.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    /// What the host said: log, raw text, answers, reports.
    pub host: String,
    /// What the guests said.
    pub guests: BTreeMap<String, GuestTranscript>,
    /// The last statistics record.
    pub statistics: Option<Value>,
    /// Pleat's own verdict.
    pub end: Option<End>,
}

const CANNOT_RUN: &str = "PLEAT CANNOT RUN";
const CRASH: &str = "PLEAT CRASH";
const FIRST_LINE: &str = "first line ";

impl Transcript {
    /// Takes the next record.
    pub fn add(&mut self, record: &Record) {
        match &record.kind {
            Kind::Log { level, text } => self.host_line(&format!("{level}: {text}")),
            Kind::Raw(text) | Kind::Console { text } => self.host_line(text),
            Kind::Out { guest, text } => self.guest(guest).console.push_str(text),
            Kind::Event { guest, event, ticks } => self.guest(guest).events.push((event.clone(), *ticks)),
            Kind::State { guest, state, reason } => {
                self.guest(guest).state = Some((state.clone(), reason.clone()));
                self.host_line(&format!("{guest}: {state} {reason}"));
            }
            Kind::Report { guest, text } => self.host_line(&format!("{guest}: {text}")),
            Kind::Measure { guest, name, value } => {
                self.guest(guest).measures.insert(name.clone(), *value);
            }
            Kind::Stats { record } => self.statistics = Some(record.clone()),
            Kind::Cooperation(said) => self.host_line(&said.line()),
            Kind::Reclaim(said) => self.host_line(&said.line()),
            // Megabytes that only who asked for them wants.
            Kind::Pages { .. } => {}
            Kind::End { outcome, failures } => {
                self.end = Some(End {
                    outcome: outcome.clone(),
                    failures: failures.clone(),
                });
            }
        }
    }

    /// The line in which Pleat says what this processor lacks.
    #[must_use]
    pub fn cannot_run(&self) -> Option<&str> {
        self.host_line_with(CANNOT_RUN)
    }

    /// The first line of a crash record.
    #[must_use]
    pub fn crash(&self) -> Option<&str> {
        self.host_line_with(CRASH)
    }

    /// Ticks from the reset of the machine to Pleat's first line, which says so itself.
    #[must_use]
    pub fn ticks_to_first_line(&self) -> Option<u64> {
        let line = self.host_line_with(FIRST_LINE)?;
        line.split(FIRST_LINE)
            .nth(1)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    }

    /// Writes a file for the host and one for each guest.
    pub fn write_logs(&self, directory: &Path) -> Result<()> {
        crate::files::write_new(&directory.join("host.log"), self.host.as_bytes())?;
        for (name, guest) in &self.guests {
            crate::files::write_new(&directory.join(format!("{name}.log")), guest.console.as_bytes())?;
        }
        Ok(())
    }

    fn guest(&mut self, name: &str) -> &mut GuestTranscript {
        self.guests.entry(name.to_owned()).or_default()
    }

    fn host_line(&mut self, line: &str) {
        self.host.push_str(line);
        self.host.push('\n');
    }

    fn host_line_with(&self, text: &str) -> Option<&str> {
        self.host.lines().find(|line| line.contains(text))
    }
}
