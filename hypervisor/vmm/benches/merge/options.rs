//! The command line: `cargo bench -p pleat-vmm --bench merge -- --mib 1024 --json FILE`.

use std::path::PathBuf;
use std::str::FromStr;

/// The smallest and the largest size of either side, in MiB.
const MIB: std::ops::RangeInclusive<usize> = 16..=2048;

/// What is said when the command line is wrong.
const USAGE: &str = "\
usage: cargo bench -p pleat-vmm --bench merge -- [OPTIONS]
  --mib N            memory of either side, 16 to 2048 MiB (512)
  --repetitions N    how often everything is measured; medians are shown (3)
  --seed N           what contents and places are generated from (1)
  --without-ksm      leave Linux's KSM out: no ratios
  --json FILE        write the rows to this file";

/// Whether Linux's KSM takes part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Where it can.
    Wanted,
    /// Not at all: for profiles of our side.
    LeftOut,
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    pub mib: usize,
    pub repetitions: usize,
    pub seed: u64,
    pub peer: Peer,
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            mib: 512,
            repetitions: 3,
            seed: 1,
            peer: Peer::Wanted,
            json: None,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // Cargo adds it.
                "--bench" => {}
                "--mib" => options.mib = number(&argument, arguments.next())?,
                "--repetitions" => options.repetitions = number(&argument, arguments.next())?,
                "--seed" => options.seed = number(&argument, arguments.next())?,
                "--without-ksm" => options.peer = Peer::LeftOut,
                "--json" => {
                    let file = arguments.next().ok_or("--json needs the name of a file")?;
                    options.json = Some(file.into());
                }
                _ => return Err(format!("`{argument}` is not an option\n{USAGE}")),
            }
        }
        if !MIB.contains(&options.mib) || options.repetitions == 0 {
            return Err(format!(
                "--mib is {} to {}, --repetitions at least 1\n{USAGE}",
                MIB.start(),
                MIB.end()
            ));
        }
        Ok(options)
    }
}

fn number<T: FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("{name} needs a number\n{USAGE}"))?;
    value
        .parse()
        .map_err(|_| format!("{name} needs a number, not `{value}`\n{USAGE}"))
}
