//! Records about memory that is taken by force, and about what guests bear meanwhile, as lines for people.

use serde::Deserialize;

use super::cooperation::shown_frames;

/// What a record says about reclaim. Sizes are in frames of 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
pub enum Reclaim {
    /// Frames were taken from a guest since the last such record.
    Taken {
        /// The guest.
        guest: String,
        /// So many that had not been used for long.
        cold: u64,
        /// So many before anybody had to wait.
        ahead: u64,
        /// So many because somebody waited.
        now: u64,
        /// So many it has left.
        held: u64,
        /// So many pages have come back to it in all.
        came_back: u64,
    },
    /// The swap store has another state.
    Store {
        /// open or full.
        state: String,
        /// none, open, full, read-only or gone.
        disk: String,
        /// Frames of the pool.
        pool: u64,
        /// Blocks of the disk that are used.
        blocks: u64,
        /// Requests that have failed.
        failures: u64,
    },
    /// A content that a guest needs is lost.
    Lost {
        /// The guest.
        guest: String,
        /// Where it was.
        slot: u64,
    },
    /// The token that shields a thrashing guest has moved.
    Token {
        /// Who has it; nobody if it is empty.
        guest: String,
        /// Who had it.
        from: String,
        /// Why.
        reason: String,
    },
    /// A guest was suspended for others, or goes on.
    Suspend {
        /// The guest.
        guest: String,
        /// suspended or resumed.
        state: String,
        /// Why.
        reason: String,
    },
    /// A guest waits while the host is low, or does no longer.
    Hold {
        /// The guest.
        guest: String,
        /// held or released.
        state: String,
    },
}

impl Reclaim {
    /// It as a line.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Taken {
                guest,
                cold,
                ahead,
                now,
                held,
                came_back,
            } => format!(
                "{guest}: {} taken by force ({cold} cold, {ahead} ahead, {now} now), {} left, {came_back} pages came back",
                shown_frames(cold.saturating_add(*ahead).saturating_add(*now)),
                shown_frames(*held)
            ),
            Self::Store {
                state,
                disk,
                pool,
                blocks,
                failures,
            } => format!(
                "swap store is {state} with {}, its disk is {disk} with {}, {failures} failures",
                shown_frames(*pool),
                shown_frames(*blocks)
            ),
            Self::Lost { guest, slot } => format!("{guest}: what slot {slot} kept of it is lost"),
            Self::Token { guest, from, reason } if guest.is_empty() => {
                format!("{from}: is no longer shielded ({reason})")
            }
            Self::Token { guest, reason, .. } => format!("{guest}: is shielded for a while ({reason})"),
            Self::Suspend { guest, state, reason } => format!("{guest}: {state}, {reason}"),
            Self::Hold { guest, state } => format!("{guest}: {state} while memory is low"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::stream::{Kind, Record};

    #[test]
    fn records_about_reclaim_become_lines() {
        for (record, line) in [
            (
                r#"{"t":7,"k":"taken","guest":"a","cold":1,"ahead":2,"now":3,"held":2560,"came_back":9}"#,
                "a: 24 KiB taken by force (1 cold, 2 ahead, 3 now), 10.0 MiB left, 9 pages came back",
            ),
            (
                r#"{"t":7,"k":"store","state":"full","disk":"gone","pool":1,"blocks":0,"failures":3}"#,
                "swap store is full with 4 KiB, its disk is gone with 0 KiB, 3 failures",
            ),
            (
                r#"{"t":7,"k":"lost","guest":"a","slot":12}"#,
                "a: what slot 12 kept of it is lost",
            ),
            (
                r#"{"t":7,"k":"token","guest":"a","from":"","reason":"thrashing"}"#,
                "a: is shielded for a while (thrashing)",
            ),
            (
                r#"{"t":7,"k":"token","guest":"","from":"a","reason":"idle"}"#,
                "a: is no longer shielded (idle)",
            ),
            (
                r#"{"t":7,"k":"suspend","guest":"a","state":"resumed","reason":"nobody else needs the memory"}"#,
                "a: resumed, nobody else needs the memory",
            ),
            (
                r#"{"t":7,"k":"hold","guest":"a","state":"held"}"#,
                "a: held while memory is low",
            ),
        ] {
            match Record::parse(record).kind {
                Kind::Reclaim(reclaim) => assert_eq!(reclaim.line(), line),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_record_that_lacks_a_field_is_shown_as_it_is() {
        let odd = r#"{"k":"taken","guest":"a"}"#;
        assert_eq!(Record::parse(odd).kind, Kind::Raw(odd.to_owned()));
    }
}
