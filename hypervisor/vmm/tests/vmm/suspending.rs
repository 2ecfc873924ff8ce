//! Guests that are kept from running, and guests that are left alone, while memory is short.

use crate::fake::Op;
use crate::merging::{at, fault, fill, finish, in_domain, number, page};
use crate::scenario::{Machine, Report};
use pleat_bundle::config::{GuestConfig, Merge, MergeConfig, ReclaimConfig};
use pleat_vmm::Outcome;
use std::ops::Range;

/// Frames of the machine: 8 MiB, of which some are not for guests.
const MEMORY: usize = 8 << 20;

fn sized(name: &'static str, priority: u8) -> GuestConfig<'static> {
    let mut config = in_domain(name, name);
    config.memory_bytes = 8 << 20;
    config.merge = Merge::Off;
    config.terms.priority = priority;
    config
}

fn machine(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, reclaim: ReclaimConfig, for_ms: u64) -> Machine {
    let mut machine = Machine::new(guests);
    machine.memory_bytes = MEMORY;
    machine.config.merge = MergeConfig::OFF;
    machine.config.reclaim = reclaim;
    machine.config.for_ms = Some(for_ms);
    machine
}

fn by_force() -> ReclaimConfig {
    ReclaimConfig {
        generation_us: 2_000,
        ..ReclaimConfig::default()
    }
}

/// Pages with two different words each, which can be packed.
fn packable(pages: Range<u64>) -> Vec<Op> {
    let marks = pages.clone().map(|n| Op::Store(page(n) + 8, 1000 + n));
    [fill(pages.map(|n| (n, n + 1))), marks.collect()].concat()
}

fn counted(report: &Report, guest: &str, what: &str) -> u64 {
    number(&report.guest(guest)[what])
}

fn states(report: &Report, kind: &str, guest: &str) -> Vec<String> {
    let records = report.of_kind(kind);
    let of_guest = records.iter().filter(|record| record["guest"] == guest);
    of_guest
        .map(|record| record["state"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Pages that cannot be packed: their words are as good as random.
fn noise(pages: Range<u64>) -> Vec<Op> {
    let mut random = pages.start.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut word = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let places = pages.flat_map(|n| (0..512).map(move |at| page(n) + at * 8));
    places.map(|place| Op::Store(place, word())).collect()
}

/// One guest wants more than the other, of a lower priority, has left; that runs for ever. Nothing can be packed.
fn one_waits_beside_one_that_runs(priority: u8, for_ms: u64) -> Machine {
    let runs = noise(0..900);
    let first = runs.len();
    let runs = [runs, vec![Op::Spin(20_000_000), Op::Jump(first)]].concat();
    let waits = [
        vec![Op::Spin(20_000_000)],
        noise(2000..3100),
        vec![Op::Spin(20_000_000)],
    ]
    .concat();
    let again = waits.len() - 1;
    let waits = [waits, vec![Op::Jump(again)]].concat();
    let mut waiter = sized("waits", 100);
    waiter.memory_bytes = 16 << 20;
    let guests = vec![(waiter, waits), (sized("runs", priority), runs)];
    // What cannot be packed is tried again in each generation.
    let seldom = ReclaimConfig {
        generation_us: 1_000_000,
        ..ReclaimConfig::default()
    };
    machine(guests, seldom, for_ms)
}

#[test]
fn the_lowest_priority_is_suspended_and_goes_on_when_nobody_else_needs_the_memory() {
    let mut machine = one_waits_beside_one_that_runs(10, 6_000);
    machine.config.script.extend([
        at(4_000_000, "why runs"),
        at(4_000_000, "guests"),
        at(4_500_000, "kill waits"),
    ]);
    let report = machine.run();
    assert_eq!(
        counted(&report, "runs", "suspensions"),
        1,
        "{}",
        report.guest("runs")
    );
    assert_eq!(counted(&report, "waits", "suspensions"), 0);
    assert_eq!(report.guest("runs")["state"], "running");
    assert_eq!(states(&report, "suspend", "runs"), ["suspended", "resumed"]);
    let answers = report.answers();
    for expected in [
        "guest `runs` is suspended: others wait for memory",
        "is suspended until there is memory for it",
        "runs             suspended",
        "guest `runs` is resumed: nobody else needs the memory",
    ] {
        assert!(answers.contains(expected), "{expected}: {answers}");
    }
}

#[test]
fn who_was_suspended_in_vain_is_stopped_and_the_others_go_on() {
    let report = one_waits_beside_one_that_runs(10, 14_000).run();
    assert_eq!(report.guest("runs")["state"], "stopped");
    let reason = report.guest("runs")["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(reason.starts_with("host out of memory"), "{reason}");
    assert_eq!(
        report.guest("waits")["state"],
        "running",
        "{}",
        report.guest("waits")
    );
    assert_eq!(states(&report, "suspend", "runs"), ["suspended"]);
}

#[test]
fn nobody_is_suspended_for_a_guest_of_a_lower_priority() {
    let report = one_waits_beside_one_that_runs(200, 11_000).run();
    assert_eq!(counted(&report, "runs", "suspensions"), 0);
    assert_eq!(counted(&report, "waits", "suspensions"), 0);
    assert_eq!(report.guest("runs")["state"], "running");
    assert_eq!(report.guest("waits")["state"], "stopped");
}

/// Two that run for ever: one has so many pages, the other a quarter of that.
fn one_has_more(pages: u64, for_ms: u64) -> Machine {
    let runs = |pages: u64| {
        let program = fill((0..pages).map(|n| (n, n + 1)));
        let first = program.len();
        [program, vec![Op::Spin(200_000), Op::Jump(first)]].concat()
    };
    let guests = vec![
        (sized("much", 100), runs(pages)),
        (sized("little", 100), runs(pages / 4)),
    ];
    machine(guests, ReclaimConfig::OFF, for_ms)
}

/// The same, with so much that next to nothing is free.
fn one_has_too_much(for_ms: u64) -> Machine {
    let few = one_has_more(400, 20).run();
    let free = number(&few.stats()["host"]["frames_free"]);
    one_has_more(400 + (free - 25) * 4 / 5, for_ms)
}

#[test]
fn while_the_host_is_low_who_has_more_than_its_part_waits_half_of_the_time() {
    let mut machine = one_has_too_much(4_000);
    for micros in [1_050_000, 1_250_000, 1_450_000, 1_650_000, 1_850_000] {
        machine
            .config
            .script
            .extend([at(micros, "guests"), at(micros, "why much")]);
    }
    let report = machine.run();
    assert_eq!(
        report.stats()["host"]["state"],
        "low",
        "{}",
        report.stats()["host"]
    );
    assert!(counted(&report, "much", "holds") >= 2, "{}", report.guest("much"));
    assert_eq!(counted(&report, "little", "holds"), 0);
    let (much, little) = (
        counted(&report, "much", "instructions"),
        counted(&report, "little", "instructions"),
    );
    // A quarter of all for the one: half of its half.
    assert!(much * 5 > little && much * 2 < little, "{much} beside {little}");
    let answers = report.answers();
    assert!(answers.contains("much             held"), "{answers}");
    assert!(answers.contains("waits while memory is low: it has more than its part"));
    assert!(states(&report, "hold", "much").starts_with(&["held".into(), "released".into()]));
}

#[test]
fn who_is_alone_never_waits_for_its_part() {
    let mut machine = one_has_too_much(4_000);
    machine.config.script.push(at(1_000_000, "pause little"));
    let report = machine.run();
    let much = counted(&report, "much", "instructions");
    assert!(much > 2_900_000_000, "{much} ticks of 4 s: it waited for nobody");
}

/// Works over more than half of the memory, again and again, two pages in a millisecond.
fn thrash(name: &'static str) -> (GuestConfig<'static>, Vec<Op>) {
    let pages = 0..1_300;
    let program = packable(pages.clone());
    let first = program.len();
    let uses = pages.flat_map(|n| [Op::Expect(page(n) + 8, 1000 + n), Op::Spin(500_000)]);
    let program: Vec<Op> = program.into_iter().chain(uses).chain([Op::Jump(first)]).collect();
    (sized(name, 100), program)
}

#[test]
fn of_two_that_thrash_one_after_the_other_has_the_token() {
    let mut machine = machine(vec![thrash("a"), thrash("b")], by_force(), 2_600);
    machine
        .config
        .script
        .extend([at(2_400_000, "reclaim"), at(2_400_000, "why a")]);
    let report = machine.run();
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.stats()["failures"]);
    for name in ["a", "b"] {
        assert!(
            counted(&report, name, "token_turns") >= 1,
            "{}",
            report.guest(name)
        );
        assert!(fault(&report, name, "swapped-in") > 100, "{name}");
        let taken = report.of_kind("taken");
        assert!(
            taken
                .iter()
                .any(|record| record["guest"] == name && record["held"] != 0)
        );
    }
    let answers = report.answers();
    assert!(answers.contains("to be left alone"), "{answers}");
    assert!(answers.contains("it has had the token"), "{answers}");
}

#[test]
fn who_ends_leaves_the_token() {
    let (a, program) = thrash("a");
    let ends = [program[..program.len() - 1].to_vec(), vec![finish()]].concat();
    let mut machine = machine(vec![(a, ends), thrash("b")], by_force(), 1_500);
    machine.config.script.push(at(1_400_000, "reclaim"));
    let report = machine.run();
    assert_eq!(report.guest("a")["reason"], "finished");
    assert_eq!(report.guest("b")["state"], "running");
    let answers = report.answers();
    assert!(!answers.contains("the turn of `a`"), "{answers}");
}
