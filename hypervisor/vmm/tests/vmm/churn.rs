//! Random guests on a random machine, with merging in between: no byte is ever wrong, and no frame is lost.
//!
//! `PROPTEST_CASES` in the environment makes it longer.

use crate::fake::Op;
use crate::lives::{self, Act, cases, check_run, kind, pages_of, reclaim};
use crate::merging::at;
use crate::merging_breaks::audits;
use crate::oracle::Oracle;
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{Merge, ReclaimConfig, Step};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

type Life = lives::Life<Act>;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// How long a case runs.
const RUN_MS: u64 = 12;
/// The only thing that may fail: a guest that restarts when others have taken all memory.
const EXCUSES: [&str; 1] = ["out of memory"];

/// The machine, and what its operator does.
#[derive(Clone, Debug)]
struct Host {
    memory_mib: usize,
    has_dirty_log: bool,
    hash_bits: u8,
    epoch_us: u32,
    split_percent: u8,
    pace: Option<u64>,
    reclaim: ReclaimConfig,
    commands: Vec<(u64, &'static str)>,
}

fn life(name: &'static str) -> impl Strategy<Value = Life> {
    let merge = prop_oneof![7 => Just(Merge::On), 1 => Just(Merge::Off)];
    (kind(), merge, 2u64..4, vec(lives::act(), 10..70)).prop_map(
        move |((domain, pages, end), merge, regions, acts)| {
            let mut config = guest(name);
            config.domain = domain;
            config.pages = pages;
            config.merge = merge;
            config.memory_bytes = regions << 21;
            Life::new(config, acts, end)
        },
    )
}

fn command() -> impl Strategy<Value = (u64, &'static str)> {
    let what = prop_oneof![
        Just("kill a"),
        Just("kill b"),
        Just("pause a"),
        Just("pause c"),
        Just("resume a"),
        Just("resume c"),
        Just("merge off"),
        Just("merge on"),
        Just("merge on"),
        Just("merge pace 1M"),
        Just("merge pace 300M"),
        Just("merge pace auto"),
        Just("merge why b"),
        Just("pages"),
        Just("audit"),
    ];
    (0..RUN_MS * 1000, what)
}

fn host() -> impl Strategy<Value = Host> {
    let bits = prop_oneof![4 => Just(32u8), 1 => Just(4), 1 => Just(0)];
    let pace = prop_oneof![2 => Just(None), 2 => Just(Some(1_000_000_000)), 1 => Just(Some(2_000_000))];
    let commands = vec(command(), 0..7);
    let epoch = prop_oneof![Just(20u32), Just(100), Just(400)];
    let memory = prop_oneof![5usize..9, 9usize..24];
    (
        memory,
        any::<bool>(),
        bits,
        epoch,
        1u8..60,
        pace,
        (reclaim(), commands),
    )
        .prop_map(
            |(memory_mib, has_dirty_log, hash_bits, epoch_us, split_percent, pace, (reclaim, commands))| {
                Host {
                    memory_mib,
                    has_dirty_log,
                    hash_bits,
                    epoch_us,
                    split_percent,
                    pace,
                    reclaim,
                    commands,
                }
            },
        )
}

/// The program of a life. What it expects is known beforehand: nobody else writes to its memory.
fn program(life: &Life) -> Vec<Op> {
    let pages = pages_of(&life.config);
    let mut oracle = Oracle::default();
    let mut all = vec![];
    for act in &life.acts {
        let steps = act.steps(pages, &oracle);
        steps.iter().for_each(|step| oracle.step(step));
        all.extend(steps);
    }
    all.extend(life.last_steps(&oracle));
    all
}

fn run(lives: &[Life], host: &Host) -> Report {
    let guests = lives.iter().map(|life| (life.config.clone(), program(life)));
    let mut machine = Machine::new(guests.collect());
    machine.memory_bytes = host.memory_mib << 20;
    machine.has_dirty_log = host.has_dirty_log;
    let config = &mut machine.config;
    config.merge.hash_bits = host.hash_bits;
    config.merge.epoch_us = host.epoch_us;
    config.merge.split_percent = host.split_percent;
    config.merge.pace = host.pace;
    config.reclaim = host.reclaim;
    config.for_ms = Some(RUN_MS);
    let commands = host.commands.iter().map(|(micros, command)| at(*micros, command));
    config.script = commands
        .chain([audits(1300)])
        .collect::<Vec<Step<'_>>>()
        .into_iter()
        .collect();
    machine.run()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn every_byte_is_right_whatever_is_merged_and_parted(
        lives in (life(NAMES[0]), life(NAMES[1]), life(NAMES[2]), life(NAMES[3])),
        count in 2usize..5,
        host in host(),
    ) {
        let (a, b, c, d) = lives;
        let report = run(&[a, b, c, d][..count], &host);
        check_run(&report, &EXCUSES);
    }
}
