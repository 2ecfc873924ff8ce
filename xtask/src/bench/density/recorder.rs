//! Collects from the stream what the figures are made of.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::series::{Sample, Series};
use crate::session::Listener;
use crate::stream::{Kind, Record};

/// Follows a run.
#[derive(Debug)]
pub struct Recorder {
    guests: usize,
    samples: Vec<Sample>,
    /// When each guest that did reported `up`.
    up: BTreeMap<String, u64>,
    /// When the console said of each guest that it is paused.
    paused: Vec<u64>,
    /// When the first hash came.
    hashed: Option<u64>,
    /// The distinct contents of pages that are not all zeros.
    contents: HashSet<u64>,
    /// Pages whose content was told.
    pages: u64,
}

impl Recorder {
    /// For a run of so many guests.
    #[must_use]
    pub fn new(guests: usize) -> Self {
        Self {
            guests,
            samples: Vec::new(),
            up: BTreeMap::new(),
            paused: Vec::new(),
            hashed: None,
            contents: HashSet::new(),
            pages: 0,
        }
    }

    /// What was collected, or what is missing.
    pub fn finish(self, epoch_us: u64) -> Result<Series, String> {
        let of_all = |what: &str, seen: usize| format!("{seen} of {} guests {what}", self.guests);
        if self.up.len() != self.guests {
            return Err(of_all("reported up", self.up.len()));
        }
        if self.paused.len() != self.guests {
            return Err(of_all("were paused", self.paused.len()));
        }
        let up = self.up.into_values().max().unwrap_or_default();
        let paused = self.paused.into_iter().min().unwrap_or_default();
        let hashed = self.hashed.ok_or("no page was hashed")?;
        let mut samples = self.samples;
        samples.retain(|sample| sample.at <= hashed);
        let last = samples.last().ok_or("there are no statistics")?;
        // A guest with devices has a page of RAM beside its memory: their MSI-X tables.
        let most = last.promised + self.guests as u64;
        if !(last.promised..=most).contains(&self.pages) {
            return Err(format!("{} of {} pages were hashed", self.pages, last.promised));
        }
        let ideal = self.contents.len() as u64 + 1;
        Series::new(samples, up, paused, ideal, epoch_us)
    }

    fn pages(&mut self, at: u64, hashes: &[u64]) {
        self.hashed.get_or_insert(at);
        self.pages += hashes.len() as u64;
        self.contents.extend(hashes.iter().filter(|hash| **hash != 0));
    }
}

impl Listener for Recorder {
    fn record(&mut self, record: &Record) {
        let Some(at) = record.ticks else { return };
        match &record.kind {
            Kind::Event { guest, event, .. } if event == "up" => {
                self.up.entry(guest.clone()).or_insert(at);
            }
            Kind::Console { text } if text.ends_with(" is paused") => self.paused.push(at),
            Kind::Stats { record } => self.samples.extend(sample(at, record)),
            Kind::Pages { hashes, .. } => self.pages(at, hashes),
            _ => {}
        }
    }

    fn echo(&mut self, _: &str) {}
}

/// What the figures need of a statistics record.
fn sample(at: u64, record: &Value) -> Option<Sample> {
    let number = |path: &str| record.pointer(path)?.as_u64();
    let guests = record["guests"].as_array()?;
    let promised = guests.iter().map(|guest| guest["frames_promised"].as_u64());
    Some(Sample {
        at,
        instructions: number("/merge/instructions")?,
        sharing: number("/merge/sharing")?,
        zero: number("/merge/zero")?,
        used: number("/host/frames_total")?.checked_sub(number("/host/frames_free")?)?,
        guests: number("/host/frames_guests")?,
        promised: promised.sum::<Option<u64>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::Recorder;
    use crate::session::Listener;
    use crate::stream::Record;

    fn stats(at: u64, instructions: u64) -> String {
        format!(
            r#"{{"t":{at},"k":"stats","record":{{"host":{{"frames_total":100,"frames_free":58,"frames_guests":9}},
            "merge":{{"instructions":{instructions},"sharing":20,"zero":30}},
            "guests":[{{"frames_promised":3}},{{"frames_promised":2}}]}}}}"#
        )
        .replace('\n', "")
    }

    /// Two guests, of three and two pages, that are up after one second, paused after five, hashed after 20.
    fn lines() -> Vec<String> {
        let second = 200_000_000;
        let event = |at: u64, guest: &str| {
            format!(r#"{{"t":{at},"k":"event","guest":"{guest}","event":"up","ticks":7}}"#)
        };
        let paused = |at: u64, guest: &str| {
            format!(r#"{{"t":{at},"k":"console","text":"guest `{guest}` is paused"}}"#)
        };
        let pages = |guest: &str, hashes: &[u64]| {
            let hashes: String = hashes.iter().map(|hash| format!("{hash:016x}")).collect();
            let at = 20 * second;
            format!(r#"{{"t":{at},"k":"pages","guest":"{guest}","first":0,"hashes":"{hashes}"}}"#)
        };
        let mut lines = vec![event(second / 2, "a"), event(second, "b"), event(second * 2, "b")];
        lines.extend((1..=20).map(|at| stats(at * second, 1000 + at.min(10) * 100)));
        lines.extend([paused(5 * second, "a"), paused(5 * second + 1, "b")]);
        lines.extend([pages("a", &[5, 0, 7]), pages("b", &[0, 5])]);
        lines.push(stats(21 * second, 9999));
        lines
    }

    fn follow(lines: &[String]) -> Recorder {
        let mut recorder = Recorder::new(2);
        lines
            .iter()
            .for_each(|line| recorder.record(&Record::parse(line)));
        recorder
    }

    #[test]
    fn figures_are_read_from_the_stream() {
        let series = follow(&lines()).finish(200_000).unwrap();
        assert_eq!(series.bytes(), 42 * 4096);
        // Two contents and the zero page, in nine frames and the zero frame.
        assert_eq!(series.ideal_fraction(), 0.3);
        assert_eq!(series.settle_instructions(), Ok(0));
        assert_eq!(series.running_epoch(), Ok(20.0));
        assert!(series.paused_epoch().unwrap() < 2.0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |part: &str| {
            let lines: Vec<String> = lines().into_iter().filter(|line| !line.contains(part)).collect();
            follow(&lines).finish(200_000).unwrap_err()
        };
        assert_eq!(without("\"up\""), "0 of 2 guests reported up");
        assert_eq!(without("`b` is paused"), "1 of 2 guests were paused");
        assert_eq!(without("\"pages\""), "no page was hashed");
        assert_eq!(without("\"pages\",\"guest\":\"b\""), "3 of 5 pages were hashed");
        assert_eq!(without("\"stats\""), "there are no statistics");
    }
}
