//! `pleat-agent`: the agent, and two commands for people and scripts.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::{Long, Short, Value, ValueExt};

use pleat_agent::client::{self, Subscription, Woken};
use pleat_agent::daemon::Daemon;
use pleat_agent::message::{Level, Pressure};
use pleat_agent::{log, places};

const HELP: &str = "\
pleat-agent: tells processes of this guest when its host is short of memory

Usage:
  pleat-agent run [--port FILE]           the agent; it stays
  pleat-agent status                      how short of memory the host is
  pleat-agent wait LEVEL [--count N] [-- COMMAND...]
                                          at each rise to LEVEL (some or full), or when it is told again, runs
                                          COMMAND; without one, ends at the first

Options:
  --directory DIR   where the agent's socket and its file `level` are (usual: /run/pleat)
  --port FILE       the port (usual: the virtio console's port org.pleat.pressure)
  --count N         ends after N times
  --version, --help

Examples:
  pleat-agent run &
  pleat-agent status
  pleat-agent wait some -- sh -c 'echo 3 >/proc/sys/vm/drop_caches'
  pleat-agent wait full --count 1 -- systemctl stop batch.service

COMMAND finds the host's line in PLEAT_PRESSURE, such as `pressure some free=10240 wanted=2048`.
";

/// After an agent was lost, until it is looked for again.
const RETRY: Duration = Duration::from_secs(1);

enum Action {
    Help,
    Version,
    Run,
    Status,
    Wait(Level),
}

struct Arguments {
    action: Action,
    directory: PathBuf,
    port: Option<PathBuf>,
    count: Option<u64>,
    command: Vec<OsString>,
}

/// Does what the command line asks for.
pub fn main(parser: lexopt::Parser) -> Result<()> {
    act(&arguments(parser)?)
}

fn arguments(mut parser: lexopt::Parser) -> Result<Arguments> {
    let mut arguments = Arguments {
        action: Action::Help,
        directory: PathBuf::from(places::DIRECTORY),
        port: None,
        count: None,
        command: Vec::new(),
    };
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("directory") => arguments.directory = parser.value()?.into(),
            Long("port") => arguments.port = Some(parser.value()?.into()),
            Long("count") => arguments.count = Some(parser.value()?.parse()?),
            Long("version") | Short('V') => words = vec!["version".to_owned()],
            Long("help") | Short('h') => return Ok(arguments),
            // What stands behind LEVEL is the command, and its options are its own.
            Value(word) if is_whole(&words) => {
                arguments.command.push(word);
                arguments.command.extend(parser.raw_args()?);
            }
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.action = match words[..] {
        [] | ["help"] => Action::Help,
        ["version"] => Action::Version,
        ["run"] => Action::Run,
        ["status"] => Action::Status,
        ["wait", level @ ("some" | "full")] => Action::Wait(level.parse().map_err(anyhow::Error::msg)?),
        ["wait", ..] => bail!("`wait` needs a level: some or full; see `pleat-agent --help`"),
        _ => bail!(
            "`{}` is no command; there are run, status and wait; see `pleat-agent --help`",
            words.join(" ")
        ),
    };
    Ok(arguments)
}

/// A command line that is complete but for the command to run.
fn is_whole(words: &[String]) -> bool {
    words.len() == 2 && words.first().is_some_and(|word| word == "wait")
}

fn act(arguments: &Arguments) -> Result<()> {
    match arguments.action {
        Action::Help => print!("{HELP}"),
        Action::Version => println!("pleat-agent {}", env!("CARGO_PKG_VERSION")),
        Action::Run => run(arguments)?,
        Action::Status => println!("{}", status(&client::ask(&arguments.directory)?)),
        Action::Wait(level) => wait(arguments, level)?,
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<()> {
    let open = || match &arguments.port {
        Some(path) => places::open(path),
        None => places::open_port(),
    };
    // Whoever tells others that memory is short is not to be ended because it is. Only root may ask for that.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    Daemon::new(&arguments.directory, open)?.run()
}

fn status(pressure: &Pressure) -> String {
    let mib = |kib: u64| kib.div_ceil(1024);
    let asked = match pressure.wanted_kib {
        0 => "asks this guest for nothing".to_owned(),
        kib => format!("asks this guest for {} MiB", mib(kib)),
    };
    match pressure.level {
        Level::None => "pressure none: the host has enough memory".to_owned(),
        level => format!(
            "pressure {}: the host has {} MiB left, and {asked}",
            level.word(),
            mib(pressure.free_kib)
        ),
    }
}

fn wait(arguments: &Arguments, level: Level) -> Result<()> {
    let mut left = match (arguments.count, arguments.command.is_empty()) {
        (Some(count), _) => count,
        (None, true) => 1,
        (None, false) => u64::MAX,
    };
    let (mut subscription, _) = Subscription::open(&arguments.directory, level)?;
    while left > 0 {
        match subscription.wait(None)? {
            Woken::Pressure => {
                left -= 1;
                answer(arguments)?;
            }
            Woken::Nothing => {}
            Woken::AgentGone => subscription = again(&arguments.directory, level),
        }
    }
    Ok(())
}

/// A new subscription, as soon as there is an agent again.
fn again(directory: &Path, level: Level) -> Subscription {
    loop {
        std::thread::sleep(RETRY);
        if let Ok((subscription, _)) = Subscription::open(directory, level) {
            return subscription;
        }
    }
}

fn answer(arguments: &Arguments) -> Result<()> {
    let line = client::ask(&arguments.directory)?.to_string();
    let Some((program, rest)) = arguments.command.split_first() else {
        println!("{line}");
        return Ok(());
    };
    let status = Command::new(program)
        .args(rest)
        .env("PLEAT_PRESSURE", line)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // The next rise may find it in a better mood.
    if !status.success() {
        log::say(&format!("pleat-agent: {} ended with {status}", program.display()));
    }
    Ok(())
}
