//! Which pages become one, and that nobody sees a difference.

use crate::fake::{Op, exits, hypercall};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{GuestConfig, Merge, Step, When};
use pleat_types::{Exit, hypercall as calls};
use pleat_vmm::Outcome;
use serde_json::Value;

/// Pages that every guest of these tests has after loading and that are the same in all of them: two of the kernel,
/// the boot parameters, the command line, the ACPI tables.
pub const LOADED: u64 = 5;
/// The least time between two looks.
pub const EPOCH_US: u32 = 200;
/// Where the tests' own pages begin.
pub const PAGES: u64 = 0x15_0000;

pub fn in_domain(name: &'static str, domain: &'static str) -> GuestConfig<'static> {
    let mut config = guest(name);
    config.domain = domain;
    config
}

pub fn sleep() -> Vec<Op> {
    vec![Op::Interrupts(true), exits(Exit::Hlt)]
}

pub fn finish() -> Op {
    hypercall(calls::FINISH, 0, 0, 0)
}

/// The address of the n-th page.
pub const fn page(n: u64) -> u64 {
    PAGES + (n << 12)
}

/// Fills pages with words.
pub fn fill(pages: impl IntoIterator<Item = (u64, u64)>) -> Vec<Op> {
    let store = |(n, word)| Op::StorePage(page(n), word);
    pages.into_iter().map(store).collect()
}

/// Compares pages with words.
pub fn compare(pages: impl IntoIterator<Item = (u64, u64)>) -> Vec<Op> {
    let expect = |(n, word)| Op::ExpectPage(page(n), word);
    pages.into_iter().map(expect).collect()
}

/// Lets so many epochs pass on the processor, with many turns of others in between.
pub fn wait(epochs: u64) -> Vec<Op> {
    vec![Op::Spin(u64::from(EPOCH_US) * 250); epochs as usize * 4]
}

pub fn at(micros: u64, command: &'static str) -> Step<'static> {
    let when = When::Micros(micros);
    Step { when, command }
}

/// A machine of these guests that runs for some milliseconds.
pub fn machine(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, has_dirty_log: bool, for_ms: u64) -> Machine {
    let mut machine = Machine::new(guests);
    machine.has_dirty_log = has_dirty_log;
    machine.config.merge.epoch_us = EPOCH_US;
    machine.config.for_ms = Some(for_ms);
    machine
}

/// What the n-th statistics record says about merging.
pub fn merge_at(report: &Report, n: usize, what: &str) -> u64 {
    number(&report.of_kind("stats")[n]["record"]["merge"][what])
}

/// What the last one says.
pub fn merge(report: &Report, what: &str) -> u64 {
    number(&report.stats()["merge"][what])
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

pub fn fault(report: &Report, guest: &str, kind: &str) -> u64 {
    number(&report.guest(guest)["faults"][kind])
}

#[test]
fn equal_pages_of_a_domain_become_one_and_those_of_others_do_not() {
    for has_dirty_log in [false, true] {
        let some = |count: u64| {
            [
                fill((0..count).map(|n| (n, 7))),
                fill([(20, 100 + count)]),
                sleep(),
            ]
            .concat()
        };
        let mut off = in_domain("off", "two");
        off.merge = Merge::Off;
        let guests = vec![
            (in_domain("a", "one"), some(8)),
            (in_domain("b", "one"), some(4)),
            (in_domain("c", "two"), some(3)),
            (off, some(2)),
        ];
        let report = machine(guests, has_dirty_log, 5).run();
        let shared = ["a", "b", "c", "off"].map(|name| number(&report.guest(name)["shared"]));
        assert_eq!(shared, [8 + LOADED, 4 + LOADED, 3, 0]);
        let frames = LOADED + 2;
        assert_eq!(merge(&report, "shared"), frames);
        assert_eq!(merge(&report, "sharing"), shared.iter().sum::<u64>() - frames);
        // The one page of its own that each has, and what nobody else in its domain has.
        let unique = ["a", "b", "c", "off"].map(|name| number(&report.guest(name)["unique"]));
        assert_eq!(unique, [1, 1, 1 + LOADED, 3 + LOADED]);
        let held = unique.iter().sum::<u64>() + frames;
        assert_eq!(number(&report.stats()["host"]["frames_guests"]), held);
        assert_eq!(report.outcome, Outcome::Ok);
    }
}

#[test]
fn pages_that_differ_in_one_byte_stay_apart() {
    for last in [0, 1, 4088] {
        let odd = Op::Store(page(1) + last, 8);
        let program = [fill([(0, 7), (1, 7)]), vec![odd], sleep()].concat();
        let report = machine(vec![(guest("a"), program)], true, 5).run();
        assert_eq!(number(&report.guest("a")["shared"]), 0, "{last}");
    }
}

#[test]
fn pages_of_zeros_go_to_the_zero_frame() {
    for has_dirty_log in [false, true] {
        let zeros = (0..6).map(|n| (n, 0));
        let program = [
            fill((0..6).map(|n| (n, 3))),
            fill(zeros.clone()),
            wait(6),
            compare(zeros),
            vec![Op::Store(page(2) + 8, 1)],
            vec![
                Op::Expect(page(2) + 8, 1),
                Op::Expect(page(2), 0),
                Op::Expect(page(3) + 8, 0),
            ],
            sleep(),
        ];
        let mut machine = machine(vec![(guest("a"), program.concat())], has_dirty_log, 5);
        machine.config.script.push(at(1000, "stats"));
        let report = machine.run();
        assert_eq!(merge_at(&report, 0, "zero"), 6);
        assert_eq!(merge_at(&report, 0, "merged_zero"), 6);
        assert_eq!(merge(&report, "zero"), 5);
        assert_eq!(merge(&report, "shared"), 0);
        assert_eq!(fault(&report, "a", "zero-broken"), 1);
    }
}

#[test]
fn what_was_merged_and_written_over_with_the_same_is_merged_again() {
    for has_dirty_log in [false, true] {
        let all = || (0..6).map(|n| (n, 7));
        let round = || [fill(all()), compare(all()), wait(6), compare(all())].concat();
        let program = [round(), round(), round(), sleep()].concat();
        let report = machine(vec![(guest("a"), program)], has_dirty_log, 8).run();
        assert_eq!(number(&report.guest("a")["shared"]), 6);
        assert!(merge(&report, "merged") >= 3 * 5, "{}", report.stats()["merge"]);
        let broken = fault(&report, "a", "share-broken") + fault(&report, "a", "share-taken");
        assert_eq!(broken, 2 * 6);
    }
}

/// A word that goes to and fro in a page of sevens, for ever.
fn restless(first: usize) -> Vec<Op> {
    vec![
        Op::Store(page(0), 1),
        Op::Spin(20_000),
        Op::Store(page(0), 7),
        Op::Spin(20_000),
        Op::Jump(first),
    ]
}

#[test]
fn a_page_that_never_rests_keeps_no_others_from_merging() {
    for has_dirty_log in [false, true] {
        // It rests at first, so that it is known by its content.
        let begin = [fill([(0, 7)]), wait(5)].concat();
        let restless = [begin.clone(), restless(begin.len())].concat();
        let late = [wait(8), fill([(0, 7), (1, 7)]), sleep()].concat();
        let guests = vec![
            (in_domain("restless", "d"), restless),
            (in_domain("b", "d"), late.clone()),
            (in_domain("c", "d"), late),
        ];
        let report = machine(guests, has_dirty_log, 12).run();
        for name in ["b", "c"] {
            assert_eq!(number(&report.guest(name)["shared"]), 2 + LOADED, "{name}");
        }
        assert_eq!(number(&report.guest("restless")["shared"]), LOADED);
        assert!(number(&report.guest("restless")["volatile"]) >= 1);
    }
}

#[test]
fn a_page_that_changes_whenever_it_was_hashed_is_hashed_less_and_less() {
    const WRITES: u64 = 40;
    for has_dirty_log in [false, true] {
        let write = |n| [vec![Op::Store(page(0), n)], wait(3)].concat();
        let program = [fill([(0, 7)]), (1..=WRITES).flat_map(write).collect(), sleep()].concat();
        let report = machine(vec![(guest("a"), program)], has_dirty_log, 40).run();
        let hashed = merge(&report, "hashed") - LOADED;
        assert!((2..=6).contains(&hashed), "{hashed} of {WRITES}");
        assert_eq!(number(&report.guest("a")["unique"]), 1 + LOADED);
    }
}

/// What merging has done at each of the statistics records.
fn work(report: &Report) -> Vec<[u64; 3]> {
    let records = report.of_kind("stats").len();
    let of = |n| ["hashed", "swept", "instructions"].map(|what| merge_at(report, n, what));
    (0..records).map(of).collect()
}

/// A guest that has written some pages and then does this, looked at again and again.
fn settled(then: Vec<Op>, has_dirty_log: bool) -> Report {
    let begin = [fill((0..8).map(|n| (n, n % 4 + 1))), then].concat();
    let mut machine = machine(vec![(guest("a"), begin)], has_dirty_log, 40);
    let every = When::Every {
        period_us: 2000,
        from_us: 5000,
    };
    machine.config.script.push(Step {
        when: every,
        command: "stats",
    });
    machine.run()
}

#[test]
fn an_idle_machine_does_no_merge_work() {
    for has_dirty_log in [false, true] {
        let work = work(&settled(sleep(), has_dirty_log));
        assert!(work.len() > 10);
        assert!(work[0][0] >= 8 && work[0][1] >= 8, "{:?}", work[0]);
        assert!(work.iter().all(|later| *later == work[0]), "{work:?}");
    }
}

#[test]
fn with_a_dirty_log_a_guest_that_only_reads_causes_no_merge_work() {
    let reads = vec![Op::Expect(page(0), 1), Op::Spin(5000), Op::Jump(8)];
    let by_log = work(&settled(reads.clone(), true));
    assert!(by_log.iter().all(|later| *later == by_log[0]), "{by_log:?}");
    // Without one, what was used has to be looked at; but nothing is hashed.
    let by_flags = work(&settled(reads, false));
    assert!(
        by_flags.iter().all(|later| later[0] == by_flags[0][0]),
        "{by_flags:?}"
    );
    assert!(by_flags[10][1] > by_flags[0][1]);
    let spins = work(&settled(vec![Op::Spin(5000), Op::Jump(8)], false));
    assert!(spins.iter().all(|later| later[..2] == spins[0][..2]), "{spins:?}");
}

#[test]
fn more_pages_than_the_dirty_log_holds_are_all_found() {
    const COUNT: u64 = 700;
    let mut config = guest("a");
    config.memory_bytes = 8 << 20;
    let pages = || (0..COUNT).map(|n| (0x100 + n, n % 7 + 1));
    let program = [fill(pages()), wait(6), compare(pages()), sleep()].concat();
    let report = machine(vec![(config, program)], true, 8).run();
    assert!(number(&report.guest("a")["exits"]["dirty-log-full"]) >= 1);
    assert_eq!(number(&report.guest("a")["shared"]), COUNT);
    assert_eq!(merge(&report, "shared"), 7);
}

/// Two guests of 24 different pages each, the same in both.
fn twins(bits: u8) -> Report {
    let pages = || (0..24).map(|n| (n, n + 1));
    let program = [fill(pages()), wait(6), compare(pages()), sleep()].concat();
    let guests = vec![
        (in_domain("a", "d"), program.clone()),
        (in_domain("b", "d"), program),
    ];
    let mut machine = machine(guests, true, 10);
    machine.config.merge.hash_bits = bits;
    machine.run()
}

#[test]
fn pages_with_equal_keys_are_merged_by_their_bytes_only() {
    let report = twins(32);
    assert_eq!(merge(&report, "shared"), 24 + LOADED);
    assert_eq!(merge(&report, "collisions"), 0);
    let report = twins(0);
    // One key has room for eight frames.
    assert_eq!(merge(&report, "indexed"), 8);
    assert!(
        (1..=8).contains(&merge(&report, "shared")),
        "{}",
        report.stats()["merge"]
    );
    assert!(merge(&report, "collisions") > 24);
    let report = twins(3);
    assert!(merge(&report, "shared") > 20, "{}", report.stats()["merge"]);
    assert!(merge(&report, "collisions") > 24);
}
