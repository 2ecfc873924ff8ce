//! Records about memory that guests are asked for, promised and give, as lines for people.

use serde::Deserialize;

/// A frame in KiB.
const FRAME_KIB: u64 = 4;

/// What a record says about the host's or a guest's memory, or about the devices that it is moved with. Sizes are in frames of 4 KiB unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "k", rename_all = "lowercase")]
pub enum Cooperation {
    /// Its balloon has another target.
    Balloon {
        /// The guest.
        guest: String,
        /// So many frames it is to hold.
        target: u64,
        /// So many it holds.
        ballooned: u64,
        /// Which rule wants it so.
        reason: String,
    },
    /// It is asked to have more memory than it started with.
    Mem {
        /// The guest.
        guest: String,
        /// So many frames more.
        requested: u64,
    },
    /// It was told how short memory is.
    Pressure {
        /// The guest.
        guest: String,
        /// none, some or full.
        level: String,
        /// So many frames the host has free.
        free: u64,
        /// So many it is to give.
        wanted: u64,
    },
    /// Its programs gave memory back by themselves.
    Collected {
        /// The guest.
        guest: String,
        /// By their own word, in KiB.
        kib: u64,
    },
    /// How short the host is of memory.
    Host {
        /// high, soft, hard or low.
        state: String,
        /// So many frames are free.
        free: u64,
    },
    /// A device of its is driven, or not any more.
    Device {
        /// The guest.
        guest: String,
        /// Which one.
        device: String,
        /// driven, no driver, or which rule was broken.
        state: String,
    },
    /// It was let in, or not.
    Promise {
        /// The guest.
        guest: String,
        /// admitted or refused.
        outcome: String,
        /// So many frames it may touch.
        promised: u64,
        /// So many it can always have.
        reservation: u64,
    },
}

impl Cooperation {
    /// Whether somebody who follows a run wants to see it: what is as expected at the start is no news.
    #[must_use]
    pub fn is_news(&self) -> bool {
        match self {
            Self::Promise { outcome, .. } => outcome != "admitted",
            Self::Device { state, .. } => state != "driven",
            _ => true,
        }
    }

    /// It as a line.
    #[must_use]
    pub fn line(&self) -> String {
        let shown = |frames: &u64| shown_frames(*frames);
        match self {
            Self::Balloon {
                guest,
                target,
                ballooned,
                reason,
            } => format!(
                "{guest}: balloon is to hold {}, holds {} ({reason})",
                shown(target),
                shown(ballooned)
            ),
            Self::Mem { guest, requested } => {
                format!(
                    "{guest}: is asked to have {} beyond its first memory",
                    shown(requested)
                )
            }
            Self::Pressure {
                guest,
                level,
                free,
                wanted,
            } => {
                let wish = match wanted {
                    0 => String::new(),
                    _ => format!(", {} wanted of it", shown(wanted)),
                };
                format!("{guest}: pressure {level}, host has {} free{wish}", shown(free))
            }
            Self::Host { state, free } => format!("host: {} free, state {state}", shown(free)),
            Self::Device { guest, device, state } => format!("{guest}: {device}: {state}"),
            Self::Collected { guest, kib } => format!("{guest}: says it gave back {}", shown_kib(*kib)),
            Self::Promise {
                guest,
                outcome,
                promised,
                reservation,
            } => format!(
                "{guest}: {outcome} with {} promised, {} of it reserved",
                shown(promised),
                shown(reservation)
            ),
        }
    }
}

/// A number of frames as a size.
pub(super) fn shown_frames(frames: u64) -> String {
    shown_kib(frames.saturating_mul(FRAME_KIB))
}

/// A size as Pleat's own tables have it.
fn shown_kib(kib: u64) -> String {
    if kib < 10 * 1024 {
        return format!("{kib} KiB");
    }
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

#[cfg(test)]
mod tests {
    use super::Cooperation;
    use crate::stream::{Kind, Record};

    fn parsed(line: &str) -> Cooperation {
        match Record::parse(line).kind {
            Kind::Cooperation(cooperation) => cooperation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_about_memory_become_lines_with_sizes() {
        for (record, line) in [
            (
                r#"{"t":7,"k":"balloon","guest":"a","target":8192,"ballooned":100,"reason":"limit"}"#,
                "a: balloon is to hold 32.0 MiB, holds 400 KiB (limit)",
            ),
            (
                r#"{"t":7,"k":"mem","guest":"a","requested":32768}"#,
                "a: is asked to have 128.0 MiB beyond its first memory",
            ),
            (
                r#"{"t":7,"k":"pressure","guest":"a","level":"some","free":2560,"wanted":2700}"#,
                "a: pressure some, host has 10.0 MiB free, 10.5 MiB wanted of it",
            ),
            (
                r#"{"t":7,"k":"pressure","guest":"a","level":"none","free":1,"wanted":0}"#,
                "a: pressure none, host has 4 KiB free",
            ),
            (
                r#"{"t":7,"k":"host","state":"hard","free":3891}"#,
                "host: 15.1 MiB free, state hard",
            ),
            (
                r#"{"t":7,"k":"device","guest":"a","device":"console","state":"no driver"}"#,
                "a: console: no driver",
            ),
            (
                r#"{"t":7,"k":"collected","guest":"a","kib":18446744073709551615}"#,
                "a: says it gave back 18014398509481983.9 MiB",
            ),
            (
                r#"{"t":7,"k":"promise","guest":"a","outcome":"refused","promised":1,"reservation":18446744073709551615,"limit":3}"#,
                "a: refused with 4 KiB promised, 18014398509481983.9 MiB of it reserved",
            ),
        ] {
            assert_eq!(parsed(record).line(), line);
        }
    }

    #[test]
    fn what_goes_well_is_no_news_and_what_does_not_is() {
        let promise = |outcome: &str| {
            parsed(&format!(
                r#"{{"k":"promise","guest":"a","outcome":"{outcome}","promised":1,"reservation":0}}"#
            ))
        };
        assert!(!promise("admitted").is_news());
        assert!(promise("refused").is_news());
        let device = |state: &str| {
            parsed(&format!(
                r#"{{"k":"device","guest":"a","device":"console","state":"{state}"}}"#
            ))
        };
        assert!(!device("driven").is_news());
        assert!(device("no driver").is_news());
    }

    #[test]
    fn a_record_that_lacks_a_field_is_shown_as_it_is() {
        let odd = r#"{"k":"balloon","guest":"a"}"#;
        assert_eq!(Record::parse(odd).kind, Kind::Raw(odd.to_owned()));
    }
}
