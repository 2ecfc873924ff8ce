//! One run of a scenario: pack, start, listen, end, judge.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::build::{self, BootOptions};
use crate::console::Console;
use crate::context::Context;
use crate::guests::{Boot, MachineKind, Scenario};
use crate::machine::{self, BOCHS_HZ, Emulator, Kind, Media, Said, Start};
use crate::stream::{Record, Transcript};
use crate::verdict;

/// Set by Ctrl-C: every run ends its emulator and returns.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How long an emulator may take to end once it has said that it will.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a waiting run looks at the clock and at Ctrl-C.
const BEAT: Duration = Duration::from_millis(30);

/// How the emulator came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself.
    ByItself,
    /// We ended it at the wall-clock limit.
    TimedOut,
    /// Somebody pressed Ctrl-C, or the keys for leaving.
    ByHand,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which emulator it was.
    pub kind: Kind,
    /// Everything that was said.
    pub transcript: Transcript,
    /// What is wrong; empty when all is well.
    pub failures: Vec<String>,
    /// Wall time of the emulator.
    pub took: Duration,
    /// Logs and configuration of the run.
    pub directory: PathBuf,
}

impl Outcome {
    /// The statistics record with what only xtask knows.
    #[must_use]
    pub fn statistics(&self) -> Value {
        let mut record = self
            .transcript
            .statistics
            .clone()
            .unwrap_or_else(|| json!({ "schema": 1 }));
        if let Some(fields) = record.as_object_mut() {
            fields.shift_insert(1.min(fields.len()), "machine".to_owned(), json!(self.kind.name()));
            fields.insert(
                "outcome".to_owned(),
                json!(if self.failures.is_empty() { "ok" } else { "failed" }),
            );
            fields.insert("failures".to_owned(), json!(self.failures));
        }
        record
    }
}

/// Who follows a run while it goes on.
pub trait Listener {
    /// A record has come.
    fn record(&mut self, record: &Record);
    /// Keys were pressed: what to show for them.
    fn echo(&mut self, text: &str);
}

/// Nobody follows; the transcript is enough.
#[derive(Debug)]
pub struct Silent;

impl Listener for Silent {
    fn record(&mut self, _: &Record) {}
    fn echo(&mut self, _: &str) {}
}

/// Runs a scenario whose programs are built. Everything goes to `listener` as it comes.
pub fn run(
    context: &Context,
    scenario: &Scenario,
    wish: MachineKind,
    mut console: Option<Console>,
    listener: &mut impl Listener,
) -> Result<Outcome> {
    let kind = machine::choose(wish)?;
    let directory = context.paths.fresh_run(&scenario.name)?;
    let options = BootOptions {
        tsc_hz: (kind == Kind::Bochs).then_some(BOCHS_HZ),
        is_interactive: console.is_some(),
        has_disk: scenario.machine.disk.is_some(),
    };
    let files = build::pack(context, scenario, options, &directory)?;
    let iso = match scenario.machine.boot {
        Boot::Rom => None,
        Boot::Iso => Some(crate::image::make(context, &files, &directory.join("pleat.iso"))?),
    };
    let start = Start {
        spec: &scenario.machine,
        media: iso.as_deref().map_or(Media::Rom(&files), Media::Iso),
        directory: &directory,
        console_port: console.as_ref().map(Console::port),
    };
    machine::make_disk(&start)?;
    let began = Instant::now();
    let emulator = machine::start(context, kind, &start)?;
    if let Some(console) = &mut console {
        console.connect()?;
    }
    let limit = Duration::from_secs(scenario.machine.wall_seconds);
    let limit = console.is_none().then(|| began + limit);
    let mut transcript = Transcript::default();
    let ending = hear(&emulator, limit, console.as_mut(), &mut transcript, listener);
    let patience = if ending == Ending::ByItself {
        PATIENCE
    } else {
        Duration::ZERO
    };
    emulator.finish(patience);
    machine::remove_disk(&start)?;
    drop(console);
    let failures = judge(scenario, &transcript, ending, &directory)?;
    Ok(Outcome {
        kind,
        transcript,
        failures,
        took: began.elapsed(),
        directory,
    })
}

/// Writes what was said into the run's directory, and says what is wrong.
fn judge(
    scenario: &Scenario,
    transcript: &Transcript,
    ending: Ending,
    directory: &Path,
) -> Result<Vec<String>> {
    transcript
        .write_logs(directory)
        .context("cannot write the logs")?;
    let mut failures = verdict::failures(scenario, transcript, ending);
    if !failures.is_empty() && transcript.end.is_none() {
        failures.extend(last_words(directory));
    }
    Ok(failures)
}

/// What the emulator itself said last, where nobody else can say why a run ended.
fn last_words(directory: &Path) -> Option<String> {
    let read = |name| std::fs::read_to_string(directory.join(name)).ok();
    let text = read("bochs.err").or_else(|| read("qemu.err"))?;
    let last = text
        .lines()
        .rfind(|line| !line.is_empty() && !line.starts_with("====="))?;
    Some(format!("the emulator's last words: {last}"))
}

/// Reads the stream until the emulator ends or has to be ended.
fn hear(
    emulator: &Emulator,
    mut limit: Option<Instant>,
    mut console: Option<&mut Console>,
    transcript: &mut Transcript,
    listener: &mut impl Listener,
) -> Ending {
    let mut is_leaving = false;
    loop {
        match emulator.next(Instant::now() + BEAT) {
            Said::Line(line) => {
                // What was typed comes before its answer.
                if let Some(console) = &mut console {
                    listener.echo(&console.echo());
                }
                let record = Record::parse(&line);
                transcript.add(&record);
                listener.record(&record);
                if let Some(console) = &mut console {
                    console.hear(&record.kind);
                }
            }
            Said::End if is_leaving => return Ending::ByHand,
            Said::End => return Ending::ByItself,
            Said::Nothing => {}
        }
        if let Some(console) = &mut console {
            listener.echo(&console.echo());
            if console.wants_out() && !is_leaving {
                is_leaving = true;
                limit = Some(Instant::now() + PATIENCE);
            }
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Ending::ByHand;
        }
        if limit.is_some_and(|limit| Instant::now() > limit) {
            return if is_leaving {
                Ending::ByHand
            } else {
                Ending::TimedOut
            };
        }
    }
}
