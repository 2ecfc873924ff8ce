//! The lines that host, agent and subscribers exchange.
//!
//! What comes from others is a claim: a line that is not understood is no line. Words behind those that are known are left
//! alone, so that a newer host can say more.

use std::fmt;
use std::str::FromStr;

/// How short of memory the host is, as far as this guest is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Not at all.
    #[default]
    None,
    /// Somewhat: what costs little to give should be given.
    Some,
    /// Very: memory will be taken by force.
    Full,
}

impl Level {
    /// The level's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Some => "some",
            Self::Full => "full",
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::None, Self::Some, Self::Full];
        all.into_iter()
            .find(|level| level.word() == word)
            .ok_or_else(|| format!("`{word}` is no level; there are none, some and full"))
    }
}

/// What the host says: `pressure some free=1024 wanted=512`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// The level.
    pub level: Level,
    /// Free memory of the host, in KiB.
    pub free_kib: u64,
    /// What this guest is asked to give, in KiB.
    pub wanted_kib: u64,
}

impl Pressure {
    /// Reads a line of the host.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        if words.next()? != "pressure" {
            return None;
        }
        let mut pressure = Self {
            level: words.next()?.parse().ok()?,
            ..Self::default()
        };
        for word in words {
            match word.split_once('=')? {
                ("free", kib) => pressure.free_kib = kib.parse().ok()?,
                ("wanted", kib) => pressure.wanted_kib = kib.parse().ok()?,
                _ => {}
            }
        }
        Some(pressure)
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            level,
            free_kib,
            wanted_kib,
        } = self;
        write!(f, "pressure {} free={free_kib} wanted={wanted_kib}", level.word())
    }
}

/// What a subscriber says to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `subscribe some`: give me a descriptor, and wake me at this level and above.
    Subscribe(Level),
    /// `collected 512`: so many KiB were given back; the agent tells the host.
    Collected(u64),
}

impl Request {
    /// Reads a line of a subscriber.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let request = match (words.next()?, words.next()?) {
            ("subscribe", "some") => Self::Subscribe(Level::Some),
            ("subscribe", "full") => Self::Subscribe(Level::Full),
            ("collected", kib) => Self::Collected(kib.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use proptest::prop_assert_eq;

    use super::{Level, Pressure, Request};

    #[test]
    fn lines_of_the_host_are_read() {
        let some = Pressure {
            level: Level::Some,
            free_kib: 1024,
            wanted_kib: 512,
        };
        assert_eq!(Pressure::parse("pressure some free=1024 wanted=512"), Some(some));
        assert_eq!(
            Pressure::parse("  pressure some wanted=512 free=1024 since=7 "),
            Some(some)
        );
        assert_eq!(Pressure::parse("pressure none"), Some(Pressure::default()));
    }

    #[test]
    fn garbage_is_no_line() {
        let garbage = [
            "",
            "pressure",
            "pressure much free=1 wanted=1",
            "pressure some free",
            "pressure some free=-1",
            "pressure some free=1.5",
            "pressure some free=99999999999999999999",
            "Pressure some free=1",
            "\u{0}pressure some",
            "hello world",
        ];
        for line in garbage {
            assert_eq!(Pressure::parse(line), None, "{line}");
        }
    }

    #[test]
    fn lines_of_subscribers_are_read() {
        assert_eq!(
            Request::parse("subscribe some"),
            Some(Request::Subscribe(Level::Some))
        );
        assert_eq!(
            Request::parse("subscribe full"),
            Some(Request::Subscribe(Level::Full))
        );
        assert_eq!(Request::parse("collected 12"), Some(Request::Collected(12)));
        for line in [
            "subscribe none",
            "subscribe",
            "collected",
            "collected -1",
            "collected 1 2",
            "x y",
        ] {
            assert_eq!(Request::parse(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in any::<String>()) {
            let _ = (Pressure::parse(&line), Request::parse(&line));
        }

        #[test]
        fn what_is_written_is_read(free_kib in any::<u64>(), wanted_kib in any::<u64>(), level in 0..3) {
            let level = [Level::None, Level::Some, Level::Full][level as usize];
            let pressure = Pressure { level, free_kib, wanted_kib };
            prop_assert_eq!(Pressure::parse(&pressure.to_string()), Some(pressure));
        }
    }
}
