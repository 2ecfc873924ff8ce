//! What Pleat's record stream says.

use serde_json::Value;

/// One statistics record: the part that is of interest here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Ticks since reset, when it was sent.
    pub at: u64,
    /// Ticks spent on merging.
    pub ticks: u64,
    /// Work that was done: hashed, compared, merged.
    pub work: [u64; 3],
    pub epochs: u64,
    pub swept: u64,
    pub collisions: u64,
    /// Bytes of the index and the lists of sharers.
    pub index_bytes: u64,
    pub frames_total: u64,
    pub frames_tables: u64,
}

impl Snapshot {
    fn of(record: &Value) -> Self {
        let (merge, host) = (&record["merge"], &record["host"]);
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        Self {
            at: number(&record["instructions"]),
            ticks: number(&merge["instructions"]),
            work: ["hashed", "compared", "merged"].map(|name| number(&merge[name])),
            epochs: number(&merge["epochs"]),
            swept: number(&merge["swept"]),
            collisions: number(&merge["collisions"]),
            index_bytes: number(&merge["metadata_bytes"]),
            frames_total: number(&host["frames_total"]),
            frames_tables: number(&host["frames_tables"]),
        }
    }

    /// Work that was done since `earlier`.
    pub fn work_since(&self, earlier: &Self) -> [u64; 3] {
        [0, 1, 2].map(|kind| self.work[kind] - earlier.work[kind])
    }
}

/// Something in the stream that the bench acts on.
#[derive(Debug)]
pub enum Record {
    /// Statistics.
    Statistics(Snapshot),
    /// The guest has ended, which it never should: why.
    GuestEnded(String),
}

/// The reader of the stream: one record a line.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    line: Vec<u8>,
}

impl Stream {
    /// Takes what was sent, in pieces of any length.
    pub fn take(&mut self, bytes: &[u8], mut act: impl FnMut(Record)) {
        for byte in bytes {
            if *byte == b'\n' {
                if let Some(record) = read(&self.line) {
                    act(record);
                }
                self.line.clear();
            } else {
                self.line.push(*byte);
            }
        }
    }
}

/// A record that matters.
fn read(line: &[u8]) -> Option<Record> {
    let record: Value = serde_json::from_slice(line).ok()?;
    match record["k"].as_str()? {
        "stats" => Some(Record::Statistics(Snapshot::of(&record["record"]))),
        "state" if record["state"] != "running" => Some(Record::GuestEnded(format!(
            "{}: {}",
            record["state"], record["reason"]
        ))),
        _ => None,
    }
}
