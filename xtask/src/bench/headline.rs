//! `bench headline`: 52 Debian guests of 1 GiB each on a machine of 1 GiB.
//!
//! The demonstration that made same-page merging known ran 52 guests of 1 GB on 16 GB. Here the machine has the memory of one
//! of them. The guests are started one after the other, each when the one before has come up; then each in turn
//! is told at its shell to do the work that checks itself, while all others are idle and their cold pages packed.
//!
//! - `headline-guests`: how many did it, with nobody lost, no wrong byte and all frames accounted for at the end.
//! - `headline-peak-bytes`, `headline-last-bytes`: the most that was not free at any record of the statistics, Pleat
//!   included, and what was at the last one.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Instant;

use anyhow::Result;

use super::rows::{Better, Measured, Row, Unit};
use super::scenario;
use super::{FRAME, bytes_in_use, float};
use crate::context::Context;
use crate::machine::BOCHS_HZ;
use crate::session::{Listener, Outcome};
use crate::stream::{Kind, Record};
use crate::{build, files, guests};

/// Who is in the other column: the demonstration had no figures of this kind.
pub const PEER: &str = "-";
/// The guests of the demonstration.
pub const GUESTS: u32 = 52;
/// The most that a machine runs.
pub const MOST: u32 = 64;

/// What a guest reports at its shell when all checksums were right.
const DONE: &str = "turn-ok";

/// The guests file for so many guests.
fn guests_file(count: u32) -> String {
    let mut file = format!(
        "about = \"{count} Debian guests of 1 GiB each on a machine of 1 GiB\"\n\
         [machine]\nkind = \"bochs\"\nmemory = \"1G\"\nwall_limit = \"10000s\"\n\
         [reclaim]\ngeneration = \"1s\"\ncold = \"4s\"\n\
         [run]\nfor = \"3000s\"\nuntil = [\"up\", \"{DONE}\"]\n\
         [[script]]\nevery = \"5s\"\ncommand = \"stats\"\n"
    );
    let mut step = |on: u32, event: &str, command: &str| {
        // Writing to a String cannot fail.
        let _ = write!(
            file,
            "[[script]]\non = \"{}:{event}\"\ncommand = \"{command}\"\n",
            name(on)
        );
    };
    for number in 1..count {
        step(number, "up", &format!("start {}", name(number + 1)));
    }
    let work = |number| format!("type {} workload && echo pleat-event: {DONE}", name(number));
    step(count, "up", &work(1));
    for number in 1..count {
        step(number, DONE, &work(number + 1));
    }
    for number in 1..=count {
        let start = if number == 1 { "now" } else { "later" };
        let _ = write!(
            file,
            "[[guest]]\nname = \"{}\"\nmemory = \"1G\"\nkernel = \"debian-cloud\"\ndomain = \"debian\"\n\
             start = \"{start}\"\ncommand_line = \"{} pleat.work=no\"\n",
            name(number),
            guests::LINUX_COMMAND_LINE
        );
    }
    file
}

fn name(number: u32) -> String {
    format!("debian-{number:02}")
}

const fn row(name: &'static str, unit: Unit, better: Better) -> Row {
    Row {
        name,
        unit,
        better,
        peer: None,
        goal: None,
    }
}

/// Runs it.
pub fn measure(context: &Context, count: u32) -> Result<Vec<Measured>> {
    let file = context.paths.ours().join(format!("headline-{count}.toml"));
    files::write_new(&file, guests_file(count).as_bytes())?;
    let scenario = guests::read(&file, &context.paths.shown(&file), &context.paths.root)?;
    build::programs(context, std::slice::from_ref(&scenario))?;
    let mut recorder = Recorder::new(count);
    let source = scenario::measure(context, &scenario, &mut recorder)?;
    let seconds = recorder.began.elapsed().as_secs();
    eprintln!(
        "xtask: {seconds} s of wall time; as a guests file: {}",
        context.paths.shown(&file)
    );
    recorder.print();
    let guests = Row {
        goal: Some(f64::from(count)),
        ..row("headline-guests", Unit::Guests, Better::Higher)
    };
    let bytes = |samples: Option<u64>| samples.map(float).ok_or_else(|| "no statistics came".to_owned());
    Ok(vec![
        Measured {
            row: guests,
            ours: source.and_then(|outcome| recorder.done(&outcome)).map(f64::from),
        },
        Measured {
            row: row("headline-peak-bytes", Unit::Bytes, Better::Lower),
            ours: bytes(recorder.samples.iter().map(|sample| sample.used).max()),
        },
        Measured {
            row: row("headline-last-bytes", Unit::Bytes, Better::Lower),
            ours: bytes(recorder.samples.last().map(|sample| sample.used)),
        },
    ])
}

/// The machine at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at: u64,
    up: u32,
    done: u32,
    /// Bytes that are not free.
    used: u64,
    /// Pages that the store has packed, and the bytes that it takes for them.
    packed: u64,
    pool: u64,
}

/// Follows the run, and says how it goes.
#[derive(Debug)]
struct Recorder {
    count: u32,
    began: Instant,
    up: BTreeSet<String>,
    done: BTreeSet<String>,
    samples: Vec<Sample>,
}

impl Recorder {
    fn new(count: u32) -> Self {
        Self {
            count,
            began: Instant::now(),
            up: BTreeSet::new(),
            done: BTreeSet::new(),
            samples: Vec::new(),
        }
    }

    /// How many guests did what they were to do, if the run ended well.
    fn done(&self, outcome: &Outcome) -> Result<u32, String> {
        match outcome.failures.first() {
            Some(failure) => Err(failure.clone()),
            None => Ok(number(&self.done)),
        }
    }

    fn note(&mut self, at: u64, guest: &str, event: &str) {
        let (guests, what) = match event {
            "up" => (&mut self.up, "has booted"),
            DONE => (&mut self.done, "has done its work"),
            _ => return,
        };
        if !guests.insert(guest.to_owned()) {
            return;
        }
        let (so_far, count) = (guests.len(), self.count);
        let used = self.samples.last().map_or(0, |sample| sample.used >> 20);
        let (guest_time, wall) = (at / BOCHS_HZ, self.began.elapsed().as_secs());
        eprintln!(
            "xtask: {guest} {what}: {so_far} of {count}; {used} MiB in use, {guest_time} s of guest time, {wall} s"
        );
    }

    fn sample(&self, at: u64, record: &serde_json::Value) -> Option<Sample> {
        Some(Sample {
            at,
            up: number(&self.up),
            done: number(&self.done),
            used: bytes_in_use(record)?,
            packed: record["swap"]["compressed"].as_u64()?,
            pool: record["host"]["frames_compressed_pool"].as_u64()? * FRAME,
        })
    }

    /// The footprint over time, in about twenty lines.
    fn print(&self) {
        println!("    time      up    done     in use    packed pages    packed into");
        let every = self.samples.len().div_ceil(20).max(1);
        for sample in self
            .samples
            .iter()
            .rev()
            .step_by(every)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            println!(
                "{:>6} s  {:>6}  {:>6}  {:>5} MiB  {:>14}  {:>9} MiB",
                sample.at / BOCHS_HZ,
                sample.up,
                sample.done,
                sample.used >> 20,
                sample.packed,
                sample.pool >> 20
            );
        }
    }
}

impl Listener for Recorder {
    fn record(&mut self, record: &Record) {
        let Some(at) = record.ticks else { return };
        match &record.kind {
            Kind::Event { guest, event, .. } => self.note(at, guest, event),
            Kind::Stats { record } => self.samples.extend(self.sample(at, record)),
            _ => {}
        }
    }

    fn echo(&mut self, _: &str) {}
}

/// There are no more than [`MOST`].
fn number(guests: &BTreeSet<String>) -> u32 {
    u32::try_from(guests.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{DONE, MOST, Recorder, guests_file};
    use crate::files::write_new;
    use crate::guests::read;
    use crate::session::Listener;
    use crate::stream::Record;
    use std::path::Path;

    #[test]
    fn the_file_starts_each_guest_after_the_one_before_and_then_gives_each_its_turn() {
        for count in [1, 2, MOST] {
            let file = std::env::temp_dir().join(format!("headline-{count}-{}.toml", std::process::id()));
            write_new(&file, guests_file(count).as_bytes()).unwrap();
            let scenario = read(&file, "headline.toml", Path::new("."));
            std::fs::remove_file(&file).unwrap();
            let scenario = scenario.unwrap();
            assert_eq!(scenario.guests.len(), count as usize);
            assert_eq!(scenario.script.len(), 2 * count as usize);
        }
        let file = guests_file(3);
        for step in [
            "on = \"debian-02:up\"\ncommand = \"start debian-03\"",
            "on = \"debian-03:up\"\ncommand = \"type debian-01 workload",
            "on = \"debian-01:turn-ok\"\ncommand = \"type debian-02 workload",
        ] {
            assert!(file.contains(step), "{step}");
        }
    }

    #[test]
    fn guests_and_footprints_are_counted() {
        let mut recorder = Recorder::new(2);
        for (guest, event) in [("a", "up"), ("b", "up"), ("a", "up"), ("a", DONE), ("a", "other")] {
            recorder.record(&Record::parse(&format!(
                r#"{{"t":1,"k":"event","guest":"{guest}","event":"{event}","ticks":1}}"#
            )));
        }
        recorder.record(&Record::parse(
            r#"{"t":9,"k":"stats","record":{"host":{"frames_total":10,"frames_free":4,"frames_compressed_pool":2},"swap":{"compressed":7}}}"#,
        ));
        let sample = recorder.samples[0];
        assert_eq!((sample.up, sample.done), (2, 1));
        assert_eq!((sample.used, sample.packed, sample.pool), (6 * 4096, 7, 2 * 4096));
    }
}
