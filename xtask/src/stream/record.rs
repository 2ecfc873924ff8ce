//! One line of the stream.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Cooperation, Reclaim};

/// A line, understood as far as possible.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Ticks of the time-stamp counter, where the line has them.
    pub ticks: Option<u64>,
    /// What it says.
    pub kind: Kind,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
pub enum Kind {
    /// The host's diagnostics.
    Log {
        /// error, warn, info, debug or trace.
        level: String,
        /// The message.
        text: String,
    },
    /// A chunk of a guest's console output.
    Out {
        /// The guest.
        guest: String,
        /// Any part of its output.
        text: String,
    },
    /// A guest reported something.
    Event {
        /// The guest.
        guest: String,
        /// The event's name.
        event: String,
        /// Ticks since the guest's first entry.
        ticks: u64,
    },
    /// A guest's state changed.
    State {
        /// The guest.
        guest: String,
        /// running, halted, stopped or crashed.
        state: String,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// A line of a stopped guest's report.
    Report {
        /// The guest.
        guest: String,
        /// The line.
        text: String,
    },
    /// A figure that a test kernel measured.
    Measure {
        /// The guest.
        guest: String,
        /// What was measured.
        name: String,
        /// The figure.
        value: i64,
    },
    /// A line of a console command's answer.
    Console {
        /// The line.
        text: String,
    },
    /// The statistics record.
    Stats {
        /// The record.
        record: Value,
    },
    /// What a stretch of a guest's pages contains: too much for people, no transcript keeps it.
    Pages {
        /// The guest.
        guest: String,
        /// The number of the first page.
        first: u64,
        /// A word for each page: the hash of its content, 0 for a page of zeros.
        #[serde(deserialize_with = "words")]
        hashes: Vec<u64>,
    },
    /// The run has ended.
    End {
        /// ok or failed.
        outcome: String,
        /// What failed.
        #[serde(default)]
        failures: Vec<String>,
    },
    /// Text that is no record: firmware, early boot, a crash record.
    #[serde(skip)]
    Raw(String),
    /// Memory that a guest is asked for, promised or gives.
    #[serde(untagged)]
    Cooperation(Cooperation),
    /// Memory that is taken by force.
    #[serde(untagged)]
    Reclaim(Reclaim),
}

impl Record {
    /// Reads a line. What looks like a record and is none is shown as raw text, so that nothing is lost.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let value = line
            .starts_with('{')
            .then(|| serde_json::from_str::<Value>(line).ok())
            .flatten();
        let ticks = value.as_ref().and_then(|value| value["t"].as_u64());
        match value.and_then(|value| serde_json::from_value(value).ok()) {
            Some(kind) => Self { ticks, kind },
            None => Self {
                ticks: None,
                kind: Kind::Raw(line.to_owned()),
            },
        }
    }
}

/// Words of 16 hexadecimal digits without anything between them.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (words, rest) = text.as_bytes().as_chunks::<16>();
    let word = |digits: &[u8; 16]| {
        let digits = std::str::from_utf8(digits).map_err(D::Error::custom)?;
        u64::from_str_radix(digits, 16).map_err(D::Error::custom)
    };
    if !rest.is_empty() {
        return Err(D::Error::custom("a word is cut short"));
    }
    words.iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::{Kind, Record};

    #[test]
    fn records_and_raw_text_are_told_apart() {
        let out = Record::parse(r#"{"t":7,"k":"out","guest":"a","text":"x\ny"}"#);
        assert_eq!(out.ticks, Some(7));
        assert_eq!(
            out.kind,
            Kind::Out {
                guest: "a".into(),
                text: "x\ny".into()
            }
        );
        let state = Record::parse(r#"{"t":7,"k":"state","guest":"a","state":"halted"}"#);
        assert!(matches!(state.kind, Kind::State { reason, .. } if reason.is_empty()));
        for raw in [
            "PLEAT CRASH at 0x200000",
            "{ not json",
            r#"{"t":1,"k":"unheard-of"}"#,
            r#"{"k":"out"}"#,
        ] {
            assert_eq!(Record::parse(raw).kind, Kind::Raw(raw.to_owned()));
        }
    }

    #[test]
    fn hashes_of_pages_are_words() {
        let line =
            |hashes: &str| format!(r#"{{"t":7,"k":"pages","guest":"a","first":64,"hashes":"{hashes}"}}"#);
        let two = line("0000000000000000fedcba9876543210");
        assert_eq!(
            Record::parse(&two).kind,
            Kind::Pages {
                guest: "a".into(),
                first: 64,
                hashes: vec![0, 0xfedc_ba98_7654_3210]
            }
        );
        for wrong in ["0", "fedcba987654321x", "fedcba9876543210f", "éfedcba98765432"] {
            assert!(
                matches!(Record::parse(&line(wrong)).kind, Kind::Raw(_)),
                "{wrong}"
            );
        }
    }
}
