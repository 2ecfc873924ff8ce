//! What the swap store costs, and what it makes possible.

use anyhow::Result;
use serde_json::Value;

use super::super::bytes_in_use;
use super::super::rows::{Better, Measured, Row, Unit};
use super::super::scenario::{self, Source};
use super::float;
use crate::context::Context;
use crate::guests::Scenario;
use crate::machine::BOCHS_HZ;
use crate::session::{Listener, Silent};
use crate::stream::{Kind, Record};

const fn bytes(name: &'static str, goal: f64) -> Row {
    Row {
        name,
        unit: Unit::Bytes,
        better: Better::Lower,
        peer: None,
        goal: Some(goal),
    }
}

const IDLE_BYTES: Row = bytes("four-idle-guests-bytes", 60e6);
const WRONG_BYTES: Row = bytes("eight-guests-wrong-bytes", 0.0);
const COMPRESSED_STORE: Row = Row::instructions("compressed-store");
const COMPRESSED_LOAD: Row = Row::instructions("compressed-load");
const DISK_STORE: Row = Row::instructions("disk-store");
const DISK_LOAD: Row = Row::instructions("disk-load");

/// What an idle guest reports when it is spoken to.
const ANSWER: &str = "answered";

/// Measures its rows.
pub fn measure(context: &Context) -> Result<Vec<Measured>> {
    let names = ["bench-swap", "bench-swap-disk", "linux-cold", "linux-eight"];
    let [packed, disk, cold, eight] = scenario::prepare(context, names)?;
    let packed = scenario::measure(context, &packed, &mut Silent)?;
    let disk = scenario::measure(context, &disk, &mut Silent)?;
    let mut idle = Idle::new(cold.guests.len());
    let cold = scenario::measure(context, &cold, &mut idle)?;
    let wrong = wrong_bytes(context, &eight)?;
    let row = |row, ours| Measured { row, ours };
    Ok(vec![
        row(COMPRESSED_STORE, per_page(&packed, &["store_ticks"], "stores")),
        row(COMPRESSED_LOAD, scenario::measured(&packed, "first-read")),
        row(
            DISK_STORE,
            per_page(&disk, &["store_ticks", "disk_store_ticks"], "disk_stores"),
        ),
        row(DISK_LOAD, scenario::measured(&disk, "first-read")),
        row(IDLE_BYTES, cold.and_then(|_| idle.bytes())),
        row(WRONG_BYTES, wrong),
    ])
}

/// Ticks of work for each of some operations, from the last statistics record.
fn per_page(source: &Source, ticks: &[&str], count: &str) -> Result<f64, String> {
    let outcome = source.as_ref().map_err(Clone::clone)?;
    let record = outcome.transcript.statistics.as_ref();
    let record = record.ok_or("there are no statistics")?;
    let number = |name: &str| {
        record["swap"][name]
            .as_u64()
            .ok_or_else(|| format!("there is no {name}"))
    };
    let ticks: u64 = ticks.iter().map(|name| number(name)).sum::<Result<_, _>>()?;
    match number(count)? {
        0 => Err(format!("{count} is 0")),
        count => Ok(float(ticks) / float(count)),
    }
}

/// Eight guests that check their work, with both tiers and with each alone. A guest that finds one wrong byte, or does not
/// get through, fails the run: then there is no figure, but what was wrong.
fn wrong_bytes(context: &Context, both: &Scenario) -> Result<Result<f64, String>> {
    for scenario in [both.clone(), packed_alone(both), disk_alone(both)] {
        let name = &scenario.name;
        match scenario::measure(context, &scenario, &mut Silent)? {
            Err(why) => return Ok(Err(why)),
            Ok(outcome) => {
                if let Some(failure) = outcome.failures.first() {
                    return Ok(Err(format!("{name}: {failure}")));
                }
                eprintln!(
                    "xtask: {name}: {}",
                    share_of_disk(outcome.transcript.statistics.as_ref())
                );
            }
        }
    }
    Ok(Ok(0.0))
}

fn packed_alone(both: &Scenario) -> Scenario {
    let mut other = both.clone();
    other.name += "-packed";
    other.machine.disk = None;
    other
}

fn disk_alone(both: &Scenario) -> Scenario {
    let mut other = both.clone();
    other.name += "-disk";
    other.reclaim.compressed_percent = 0;
    other
}

/// How many of the pages that came back had to be read.
fn share_of_disk(record: Option<&Value>) -> String {
    let number = |name: &str| record.and_then(|record| record["swap"][name].as_u64());
    match (number("loads"), number("disk_loads")) {
        (Some(loads), Some(reads)) => {
            format!("{reads} of {loads} pages that came back were read from the disk")
        }
        _ => "there are no statistics".to_owned(),
    }
}

/// Follows guests that do nothing until they are spoken to.
#[derive(Debug)]
struct Idle {
    guests: usize,
    answered: usize,
    /// When all memory was last looked at before the first answer, and what was not free.
    used: Option<(u64, u64)>,
}

impl Idle {
    const fn new(guests: usize) -> Self {
        Self {
            guests,
            answered: 0,
            used: None,
        }
    }

    fn bytes(&self) -> Result<f64, String> {
        let (at, used) = self.used.ok_or("there are no statistics")?;
        if self.answered != self.guests {
            return Err(format!("{} of {} guests answered", self.answered, self.guests));
        }
        eprintln!(
            "xtask: the idle guests after {} s of guest time; then each answered",
            at / BOCHS_HZ
        );
        Ok(float(used))
    }
}

impl Listener for Idle {
    fn record(&mut self, record: &Record) {
        let Some(at) = record.ticks else { return };
        match &record.kind {
            Kind::Event { event, .. } if event == ANSWER => self.answered += 1,
            Kind::Stats { record } if self.answered == 0 => {
                self.used = bytes_in_use(record).map(|used| (at, used)).or(self.used);
            }
            _ => {}
        }
    }

    fn echo(&mut self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::super::tests::scenario;
    use super::{ANSWER, Idle, disk_alone, packed_alone, share_of_disk};
    use crate::session::Listener;
    use crate::stream::Record;
    use serde_json::json;

    #[test]
    fn idle_guests_are_measured_before_they_answer_and_all_have_to() {
        let mut idle = Idle::new(2);
        let stats = |free: u64| {
            Record::parse(&format!(
                r#"{{"t":1,"k":"stats","record":{{"host":{{"frames_total":10,"frames_free":{free}}}}}}}"#
            ))
        };
        let answer = |guest: &str| {
            Record::parse(&format!(
                r#"{{"t":1,"k":"event","guest":"{guest}","event":"{ANSWER}","ticks":1}}"#
            ))
        };
        idle.record(&stats(3));
        idle.record(&stats(4));
        idle.record(&answer("a"));
        idle.record(&stats(1));
        assert!(idle.bytes().unwrap_err().contains("1 of 2"));
        idle.record(&answer("b"));
        assert_eq!(idle.bytes(), Ok(6.0 * 4096.0));
    }

    #[test]
    fn each_tier_is_alone_once() {
        let both = scenario("linux-eight");
        assert!(both.machine.disk.is_some() && both.reclaim.compressed_percent > 0);
        let (packed, disk) = (packed_alone(&both), disk_alone(&both));
        assert!(packed.machine.disk.is_none() && packed.reclaim.compressed_percent > 0);
        assert!(disk.machine.disk.is_some() && disk.reclaim.compressed_percent == 0);
    }

    #[test]
    fn the_share_of_the_disk_is_read_from_the_record() {
        let record = json!({"swap": {"loads": 9, "disk_loads": 4}});
        assert!(share_of_disk(Some(&record)).starts_with("4 of 9"));
        assert!(share_of_disk(None).contains("no statistics"));
    }
}
