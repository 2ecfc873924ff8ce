//! Random guests on a random machine, with merging in between: no byte is ever wrong, and no frame is lost.
//!
//! `PROPTEST_CASES` in the environment makes it longer.

use crate::fake::Op;
use crate::merging::{at, finish, page, sleep};
use crate::merging_breaks::{assert_audits_clean, audits, reboot};
use crate::oracle::Oracle;
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{GuestConfig, Merge, OnReboot, Pages, ReclaimConfig, Step};
use pleat_vmm::Outcome;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// How long a case runs.
const RUN_MS: u64 = 12;
/// The first page that can lie in a mapping of 2 MiB.
const LARGE_FIRST: u64 = 0xb0;

/// What a guest does next.
#[derive(Clone, Debug)]
enum Act {
    /// Fills pages with one word.
    Fill { first: u64, count: u64, word: u64 },
    /// Fills pages with words of their own.
    Count { first: u64, count: u64, word: u64 },
    /// Stores a word at any byte of a page; it may end in the next one.
    Store { page: u64, offset: u64, word: u64 },
    /// Compares some words of a page.
    Check { page: u64 },
    /// Uses time.
    Spin { turns: usize },
}

/// What becomes of it in the end.
#[derive(Clone, Copy, Debug)]
enum End {
    Sleeps,
    Finishes,
    Restarts,
}

#[derive(Clone, Debug)]
struct Life {
    config: GuestConfig<'static>,
    acts: Vec<Act>,
    end: End,
}

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

/// Few pages and few contents, so that they meet; now and then all of a large mapping.
fn act() -> impl Strategy<Value = Act> {
    let first = || prop_oneof![4 => 0u64..12, 2 => LARGE_FIRST..LARGE_FIRST + 12, 1 => 0u64..LARGE_FIRST];
    let count = || prop_oneof![4 => 1u64..6, 1 => 1u64..100];
    let word = || prop_oneof![1 => Just(0u64), 4 => 1u64..4, 1 => any::<u64>()];
    prop_oneof![
        4 => (first(), count(), word()).prop_map(|(first, count, word)| Act::Fill { first, count, word }),
        2 => (first(), count(), 0u64..8).prop_map(|(first, count, word)| Act::Count { first, count, word }),
        1 => (Just(LARGE_FIRST), 400u64..513, 0u64..8)
            .prop_map(|(first, count, word)| Act::Count { first, count, word }),
        6 => (first(), prop_oneof![Just(0u64), 0u64..4096, 4085u64..4096], word())
            .prop_map(|(page, offset, word)| Act::Store { page, offset, word }),
        4 => first().prop_map(|page| Act::Check { page }),
        4 => (1usize..30).prop_map(|turns| Act::Spin { turns }),
    ]
}

fn life(name: &'static str) -> impl Strategy<Value = Life> {
    let domain = prop_oneof![2 => Just("one"), 1 => Just("two")];
    let pages = prop_oneof![Just(Pages::Small), Just(Pages::Large)];
    let merge = prop_oneof![7 => Just(Merge::On), 1 => Just(Merge::Off)];
    let end = prop_oneof![4 => Just(End::Sleeps), 1 => Just(End::Finishes), 2 => Just(End::Restarts)];
    (domain, pages, merge, 2u64..4, end, vec(act(), 10..70)).prop_map(
        move |(domain, pages, merge, regions, end, acts)| {
            let mut config = guest(name);
            config.domain = domain;
            config.pages = pages;
            config.merge = merge;
            config.memory_bytes = regions << 21;
            if matches!(end, End::Restarts) {
                config.on_reboot = OnReboot::Restart;
            }
            Life { config, acts, end }
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
    (memory, any::<bool>(), bits, epoch, 1u8..60, pace, (reclaim(), commands)).prop_map(
        |(memory_mib, has_dirty_log, hash_bits, epoch_us, split_percent, pace, (reclaim, commands))| Host {
            memory_mib,
            has_dirty_log,
            hash_bits,
            epoch_us,
            split_percent,
            pace,
            reclaim,
            commands,
        },
    )
}

/// Off, on as usual, and so that pages come and go all the time.
fn reclaim() -> impl Strategy<Value = ReclaimConfig> {
    let cold = prop_oneof![1 => Just(None), 3 => (1u8..4).prop_map(Some)];
    let busy = (prop_oneof![Just(30u32), Just(200), Just(1000)], cold, 0u8..76).prop_map(
        |(generation_us, cold_generations, compressed_percent)| ReclaimConfig {
            is_on: true,
            generation_us,
            cold_generations,
            compressed_percent,
        },
    );
    prop_oneof![1 => Just(ReclaimConfig::OFF), 1 => Just(ReclaimConfig::default()), 5 => busy]
}

/// Three words of a page and one over its end.
fn check(oracle: &Oracle, n: u64) -> impl Iterator<Item = Op> {
    let places = [0, 2040, 4088, 4091].map(|offset| page(n) + offset);
    places.map(|gpa| Op::Expect(gpa, oracle.word(gpa))).into_iter()
}

/// The program of a life. What it expects is known beforehand: nobody else writes to its memory.
fn program(life: &Life) -> Vec<Op> {
    // The last page stays out: no word may end behind it.
    let pages = (life.config.memory_bytes >> 12) - (page(0) >> 12) - 1;
    let mut oracle = Oracle::default();
    let mut all = vec![];
    for act in &life.acts {
        let steps: Vec<Op> = match *act {
            Act::Fill { first, count, word } => (first..first + count)
                .map(|n| Op::StorePage(page(n % pages), word))
                .collect(),
            Act::Count { first, count, word } => (first..first + count)
                .map(|n| Op::StorePage(page(n % pages), word + n % 64))
                .collect(),
            Act::Store {
                page: n,
                offset,
                word,
            } => vec![Op::Store(page(n % pages) + offset, word)],
            Act::Check { page: n } => check(&oracle, n % pages).collect(),
            Act::Spin { turns } => vec![Op::Spin(10_000); turns],
        };
        steps.iter().for_each(|step| oracle.step(step));
        all.extend(steps);
    }
    all.extend((0..24).flat_map(|n| check(&oracle, n)));
    all.extend(match life.end {
        End::Sleeps => sleep(),
        End::Finishes => vec![finish()],
        End::Restarts => vec![reboot()],
    });
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

/// The only thing that may fail: a guest that restarts when others have taken all memory.
fn is_excused(failure: &serde_json::Value) -> bool {
    failure
        .as_str()
        .is_some_and(|text| text.contains("out of memory"))
}

fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(12)
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
        assert_audits_clean(&report.answers());
        let failures = report.stats()["failures"].as_array().expect("a list");
        proptest::prop_assert!(failures.iter().all(is_excused), "{failures:?}");
        proptest::prop_assert!(report.outcome == Outcome::Ok || !failures.is_empty());
        report.check_memory();
    }
}
