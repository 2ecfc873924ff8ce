//! What one can type at the console.

use core::fmt;
use pleat_overcommit::promise::Level;
use pleat_types::Provocation;

/// The most MiB that anybody can mean: 1 TiB.
const MIB_MAX: u64 = 1 << 20;

/// A command, with the guest's name where it needs one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command<'t> {
    Help,
    Guests,
    Stats,
    Ept(&'t str),
    Audit,
    Start(&'t str),
    Kill(&'t str),
    Pause(&'t str),
    Resume(&'t str),
    Attach(&'t str),
    Type(&'t str, &'t str),
    Merge(MergeCommand<'t>),
    Pages,
    /// Show all balloons; or let this guest have so many MiB of memory.
    Balloon(Option<(&'t str, u64)>),
    /// Show what is plugged; or let this guest's memory grow or shrink to so many MiB.
    Mem(Option<(&'t str, u64)>),
    Promises,
    /// Show what guests are told; or tell this guest that, `None`: by what there is.
    Pressure(Option<(&'t str, Option<Level>)>),
    Devices(&'t str),
    /// How long a guest's pages have not been used.
    Age(&'t str),
    /// What the swap store has.
    Swap,
    /// Show what reclaim does; switch it first.
    Reclaim(Option<bool>),
    /// Why memory was taken from a guest, and what it waits for.
    Why(&'t str),
    Crash(Provocation),
    Quit,
}

/// What to do about merging.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MergeCommand<'t> {
    /// Show what it does.
    Show,
    /// Let the scanner run.
    On,
    /// Let it rest; what is merged stays merged.
    Off,
    /// Give it so many instructions in a second; `None`: it decides by itself.
    Pace(Option<u64>),
    /// Say why pages of this guest are not merged.
    Why(&'t str),
}

/// Why a line is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CommandError<'t> {
    /// No command has this name.
    Unknown(&'t str),
    /// The command needs the name of a guest.
    MissingGuest(&'t str),
    /// There is no such way to crash.
    UnknownCrash,
    /// `merge` does not know this.
    UnknownMerge,
    /// The command needs a number of MiB behind the guest's name.
    MissingMib(&'t str),
    /// There is no such level of pressure.
    UnknownLevel,
    /// `reclaim` does not know this.
    UnknownSwitch,
    /// The command takes no more words.
    Surplus(&'t str),
}

/// The commands with their argument and their explanation, for `help`.
pub(crate) const HELP: [(&str, &str, &str); 24] = [
    ("help", "", "this list"),
    (
        "guests",
        "",
        "all guests: state, memory, processor time, what ended them",
    ),
    (
        "stats",
        "",
        "host memory and faults, and the statistics record on the stream",
    ),
    (
        "ept",
        "GUEST",
        "what backs a guest's memory, its page tables, faults and exits",
    ),
    ("audit", "", "are all host frames accounted for?"),
    ("start", "GUEST", "start a guest that has not been started yet"),
    ("kill", "GUEST", "end a guest and take its memory back"),
    ("pause", "GUEST", "keep a guest from running"),
    ("resume", "GUEST", "let a paused guest run again"),
    ("attach", "GUEST", "type at a guest's console; Ctrl-] detaches"),
    (
        "type",
        "GUEST",
        "type the words that follow, and return, at a guest's console",
    ),
    (
        "merge",
        "",
        "equal pages that were merged; also: on, off, pace N|auto, why GUEST",
    ),
    (
        "pages",
        "",
        "a hash of each page of all guests on the stream, to compare with what merging finds",
    ),
    (
        "balloon",
        "",
        "all balloons; GUEST MIB: so much memory is left to a guest",
    ),
    (
        "mem",
        "",
        "plugged memory; GUEST MIB: a guest grows or shrinks to that",
    ),
    (
        "promises",
        "",
        "what guests are entitled to, and what they use of it",
    ),
    (
        "pressure",
        "",
        "what guests are told about memory; GUEST none|some|full|auto: tell a guest that",
    ),
    (
        "devices",
        "GUEST",
        "a guest's virtio devices: features, queues, interrupts, what they did",
    ),
    ("age", "GUEST", "how long a guest's pages have not been used"),
    ("swap", "", "what the swap store has, and what it has done"),
    (
        "reclaim",
        "",
        "what is taken by force, from whom, and what that costs; also: on, off",
    ),
    (
        "why",
        "GUEST",
        "why memory was taken from a guest, and what it waits for",
    ),
    ("crash", "HOW", "bring Pleat itself down, to see its crash record"),
    ("quit", "", "end the run: statistics, then power off"),
];

/// Reads a command.
pub(crate) fn parse(line: &str) -> Result<Command<'_>, CommandError<'_>> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next().unwrap_or("");
    let argument = words.next();
    if name == "type" {
        let guest = argument.ok_or(CommandError::MissingGuest(name))?;
        return Ok(Command::Type(guest, behind(line, guest)));
    }
    let command = match name {
        "merge" => Some(merge(argument, &mut words)?),
        "balloon" => Some(Command::Balloon(mib_of(name, argument, &mut words)?)),
        "mem" => Some(Command::Mem(mib_of(name, argument, &mut words)?)),
        "reclaim" => Some(Command::Reclaim(switch_of(argument)?)),
        "pressure" => Some(Command::Pressure(level_of(argument, &mut words)?)),
        _ => None,
    };
    if let Some(command) = command {
        return words
            .next()
            .map_or(Ok(command), |word| Err(CommandError::Surplus(word)));
    }
    let plain = |command: Command<'static>| match argument {
        None => Ok(command),
        Some(word) => Err(CommandError::Surplus(word)),
    };
    let guest = argument.ok_or(CommandError::MissingGuest(name));
    let command = match name {
        "help" | "?" => plain(Command::Help),
        "guests" => plain(Command::Guests),
        "stats" => plain(Command::Stats),
        "audit" => plain(Command::Audit),
        "pages" => plain(Command::Pages),
        "promises" => plain(Command::Promises),
        "swap" => plain(Command::Swap),
        "quit" => plain(Command::Quit),
        "ept" => guest.map(Command::Ept),
        "start" => guest.map(Command::Start),
        "kill" => guest.map(Command::Kill),
        "pause" => guest.map(Command::Pause),
        "resume" => guest.map(Command::Resume),
        "attach" => guest.map(Command::Attach),
        "devices" => guest.map(Command::Devices),
        "age" => guest.map(Command::Age),
        "why" => guest.map(Command::Why),
        "crash" => provocation(argument).map(Command::Crash),
        _ => Err(CommandError::Unknown(name)),
    }?;
    match words.next() {
        None => Ok(command),
        Some(word) => Err(CommandError::Surplus(word)),
    }
}

/// What `merge` is told to do.
fn merge<'t>(
    what: Option<&'t str>,
    words: &mut impl Iterator<Item = &'t str>,
) -> Result<Command<'t>, CommandError<'t>> {
    let command = match what {
        None => MergeCommand::Show,
        Some("on") => MergeCommand::On,
        Some("off") => MergeCommand::Off,
        Some("pace") => MergeCommand::Pace(pace(words.next()).ok_or(CommandError::UnknownMerge)?),
        Some("why") => MergeCommand::Why(words.next().ok_or(CommandError::MissingGuest("merge why"))?),
        Some(_) => return Err(CommandError::UnknownMerge),
    };
    Ok(Command::Merge(command))
}

/// A guest and a number of MiB behind the command's name, or nothing.
fn mib_of<'t>(
    name: &'t str,
    guest: Option<&'t str>,
    words: &mut impl Iterator<Item = &'t str>,
) -> Result<Option<(&'t str, u64)>, CommandError<'t>> {
    let Some(guest) = guest else { return Ok(None) };
    let mib = words.next().and_then(|word| word.parse().ok());
    // More than fits a machine is no number of MiB.
    let mib = mib.filter(|mib| *mib <= MIB_MAX);
    Ok(Some((guest, mib.ok_or(CommandError::MissingMib(name))?)))
}

/// A guest and a level of pressure, or nothing.
fn level_of<'t>(
    guest: Option<&'t str>,
    words: &mut impl Iterator<Item = &'t str>,
) -> Result<Option<(&'t str, Option<Level>)>, CommandError<'t>> {
    let Some(guest) = guest else { return Ok(None) };
    let level = match words.next() {
        Some("none") => Some(Level::None),
        Some("some") => Some(Level::Some),
        Some("full") => Some(Level::Full),
        Some("auto") => None,
        _ => return Err(CommandError::UnknownLevel),
    };
    Ok(Some((guest, level)))
}

/// On, off, or nothing.
fn switch_of<'t>(word: Option<&'t str>) -> Result<Option<bool>, CommandError<'t>> {
    match word {
        None => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(_) => Err(CommandError::UnknownSwitch),
    }
}

/// A number of instructions in a second, with `k`, `M` or `G` behind it; or `auto`.
fn pace(word: Option<&str>) -> Option<Option<u64>> {
    const UNITS: [(char, u64); 3] = [('k', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let word = word?;
    if word == "auto" {
        return Some(None);
    }
    let unit = UNITS.into_iter().find(|(unit, _)| word.ends_with(*unit));
    let (digits, scale) = unit.map_or((word, 1), |(unit, scale)| (word.trim_end_matches(unit), scale));
    digits.parse::<u64>().ok()?.checked_mul(scale).map(Some)
}

/// What follows the word `guest` on the line, as it stands there.
fn behind<'t>(line: &'t str, guest: &'t str) -> &'t str {
    let after_command = line
        .trim_start()
        .trim_start_matches(|letter: char| !letter.is_ascii_whitespace());
    after_command
        .trim_start()
        .strip_prefix(guest)
        .unwrap_or_default()
        .trim()
}

/// The words for ways to crash.
const CRASHES: [(&str, Provocation); 5] = [
    ("panic", Provocation::Panic),
    ("read-null", Provocation::ReadNull),
    ("write-code", Provocation::WriteCode),
    ("execute-data", Provocation::ExecuteData),
    ("overflow-stack", Provocation::OverflowStack),
];

fn provocation<'t>(word: Option<&str>) -> Result<Provocation, CommandError<'t>> {
    let known = CRASHES.iter().find(|(name, _)| Some(*name) == word);
    known.map(|(_, how)| *how).ok_or(CommandError::UnknownCrash)
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "`{name}` is not a command; allowed are")?;
                for (index, (command, ..)) in HELP.iter().enumerate() {
                    write!(f, "{} {command}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::MissingGuest(command) => {
                write!(f, "`{command}` needs the name of a guest: {command} GUEST")
            }
            Self::UnknownCrash => {
                f.write_str("`crash` needs to be told how:")?;
                CRASHES.iter().try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Self::UnknownMerge => {
                f.write_str("`merge` takes nothing, on, off, pace N (20M, say), pace auto, or why GUEST")
            }
            Self::MissingMib(command) => {
                write!(
                    f,
                    "`{command}` takes nothing, or a guest and a number of MiB: {command} GUEST 96"
                )
            }
            Self::UnknownLevel => {
                f.write_str("`pressure` takes nothing, or a guest and none, some, full or auto")
            }
            Self::UnknownSwitch => f.write_str("`reclaim` takes nothing, on, or off"),
            Self::Surplus(word) => write!(f, "`{word}` is one word too many"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn commands_and_their_arguments() {
        assert_eq!(parse("  ept   linux-1 "), Ok(Command::Ept("linux-1")));
        assert_eq!(parse("guests"), Ok(Command::Guests));
        assert_eq!(parse("kill"), Err(CommandError::MissingGuest("kill")));
        assert_eq!(parse("audit now"), Err(CommandError::Surplus("now")));
        assert_eq!(parse("kill a b"), Err(CommandError::Surplus("b")));
        assert_eq!(parse(" type a  echo  b "), Ok(Command::Type("a", "echo  b")));
        assert_eq!(parse("type a"), Ok(Command::Type("a", "")));
        assert_eq!(parse("type"), Err(CommandError::MissingGuest("type")));
        assert_eq!(
            parse("crash write-code"),
            Ok(Command::Crash(Provocation::WriteCode))
        );
        let merge = |line| match parse(line) {
            Ok(Command::Merge(what)) => Some(what),
            _ => None,
        };
        assert_eq!(merge("merge"), Some(MergeCommand::Show));
        assert_eq!(merge("merge off"), Some(MergeCommand::Off));
        assert_eq!(
            merge("merge pace 20M"),
            Some(MergeCommand::Pace(Some(20_000_000)))
        );
        assert_eq!(merge("merge pace 7"), Some(MergeCommand::Pace(Some(7))));
        assert_eq!(merge("merge pace auto"), Some(MergeCommand::Pace(None)));
        assert_eq!(merge("merge why a"), Some(MergeCommand::Why("a")));
        assert_eq!(parse("merge pace 20X"), Err(CommandError::UnknownMerge));
        assert_eq!(parse("merge pace 99999999999G"), Err(CommandError::UnknownMerge));
        assert_eq!(parse("merge fast"), Err(CommandError::UnknownMerge));
        assert_eq!(parse("merge on now"), Err(CommandError::Surplus("now")));
        assert_eq!(parse("merge why"), Err(CommandError::MissingGuest("merge why")));
        assert_eq!(parse("crash softly"), Err(CommandError::UnknownCrash));
    }

    #[test]
    fn the_error_names_what_is_allowed_and_help_lists_what_is_parsed() {
        let text = parse("frobnicate").expect_err("unknown").to_string();
        for (name, argument, _) in HELP {
            assert!(text.contains(name), "{text}");
            let word = match argument {
                "" => "",
                "HOW" => "panic",
                _ => "x",
            };
            let line = std::format!("{name} {word}");
            assert!(parse(&line).is_ok(), "{line}");
        }
    }
}
