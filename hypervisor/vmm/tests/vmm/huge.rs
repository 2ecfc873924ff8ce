//! Guests that are backed by 1 GiB at a time.

use crate::fake::{Op, exits, hypercall};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{GuestConfig, OnReboot, Pages, Step, When};
use pleat_types::{Exit, PortAccess, PortSize, hypercall as calls};
use pleat_vmm::Outcome;

const GIB: u64 = 1 << 30;

fn huge(name: &'static str) -> GuestConfig<'static> {
    let mut config = guest(name);
    config.memory_bytes = 2 * GIB;
    config.pages = Pages::Huge;
    config
}

/// The second GiB of this machine is free.
fn machine(guests: Vec<(GuestConfig<'static>, Vec<Op>)>) -> Machine {
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 2 << 30;
    machine
}

fn finish() -> Op {
    hypercall(calls::FINISH, 0, 0, 0)
}

/// Writes into the second GiB after it was found to be zero.
fn touch(value: u64) -> Vec<Op> {
    let places = [0, 0x123_4560, GIB / 2 - 8, GIB - 8].map(|offset| GIB + offset);
    let zeros = places.map(|place| Op::Expect(place, 0));
    let stores = places.map(|place| Op::Store(place, value));
    let loads = places.map(|place| Op::Expect(place, value));
    zeros.into_iter().chain(stores).chain(loads).collect()
}

fn idle() -> [Op; 2] {
    [Op::Interrupts(true), exits(Exit::Hlt)]
}

fn number(value: &serde_json::Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn at(micros: u64, command: &'static str) -> Step<'static> {
    let when = When::Micros(micros);
    Step { when, command }
}

#[test]
fn a_whole_gib_is_backed_by_one_mapping_of_zeros() {
    let mut machine = machine(vec![(huge("a"), [touch(7), idle().to_vec()].concat())]);
    machine.config.for_ms = Some(5);
    machine.config.script = [at(4000, "ept a")].into_iter().collect();
    let report = machine.run();
    let guest = report.guest("a");
    assert_eq!((number(&guest["huge"]), number(&guest["faults"]["huge"])), (1, 1));
    assert!(number(&guest["faults"]["huge-unfinished"]) > 10, "{guest}");
    let sum: u64 = ["unique", "zero", "untouched"]
        .map(|kind| number(&guest[kind]))
        .iter()
        .sum();
    let backed = 512 * number(&guest["large"]) + (number(&guest["huge"]) << 18);
    assert_eq!(sum + backed, number(&guest["frames_promised"]));
    let answers = report.answers();
    assert!(
        answers.contains("huge 1 GiB           1 1024.0 MiB  50 %"),
        "{answers}"
    );
}

#[test]
fn another_guest_waits_no_longer_while_a_gib_is_zeroed() {
    let spinner: Vec<Op> = (0..300).map(|_| Op::Spin(10_000)).chain([finish()]).collect();
    let guests = vec![
        (huge("a"), [touch(7), vec![finish()]].concat()),
        (guest("b"), spinner),
    ];
    let report = machine(guests).run();
    assert_eq!(number(&report.guest("a")["faults"]["huge"]), 1);
    let turns: Vec<(u64, u64)> = report
        .platform
        .entries
        .iter()
        .filter(|(guest, _, _)| *guest == 1)
        .map(|(_, start, end)| (*start, *end))
        .collect();
    let longest = turns.windows(2).map(|pair| pair[1].0 - pair[0].1).max();
    // A slice of 100,000 ticks, and what is zeroed between two looks at the clock.
    assert!(longest.is_some_and(|ticks| ticks < 102_000), "{longest:?}");
    assert_eq!(report.outcome, Outcome::Ok);
}

fn assert_fallback(report: &Report) {
    let guest = report.guest("a");
    assert_eq!((number(&guest["huge"]), number(&guest["large"])), (0, 2));
    assert!(guest["faults"]["huge-unfinished"].is_null());
}

#[test]
fn without_such_a_block_or_such_a_processor_2_mib_do() {
    let program = || {
        [
            vec![Op::Store(GIB, 1), Op::Store(2 * GIB - 8, 1)],
            idle().to_vec(),
        ]
        .concat()
    };
    let mut without = machine(vec![(huge("a"), program())]);
    without.has_huge_ept = false;
    without.config.for_ms = Some(1);
    assert_fallback(&without.run());
    // Two MiB less than the second GiB.
    let mut small = machine(vec![(huge("a"), program())]);
    small.memory_bytes -= 2 << 20;
    small.config.for_ms = Some(1);
    assert_fallback(&small.run());
}

#[test]
fn a_range_that_is_no_whole_gib_of_memory_is_backed_by_2_mib() {
    let mut config = huge("a");
    config.memory_bytes -= 4096;
    let mut machine = machine(vec![(
        config,
        [vec![Op::Store(GIB, 1)], idle().to_vec()].concat(),
    )]);
    machine.config.for_ms = Some(1);
    let report = machine.run();
    let guest = report.guest("a");
    assert_eq!((number(&guest["huge"]), number(&guest["large"])), (0, 1));
}

#[test]
fn a_guest_that_is_killed_while_its_gib_is_zeroed_gives_it_back() {
    let mut machine = machine(vec![
        (huge("a"), touch(7)),
        (
            huge("b"),
            [vec![Op::Spin(6_000_000)], touch(9), idle().to_vec()].concat(),
        ),
    ]);
    machine.config.for_ms = Some(20);
    let steps = [
        at(500, "audit"),
        at(600, "stats"),
        at(700, "kill a"),
        at(5000, "stats"),
    ];
    machine.config.script = steps.into_iter().collect();
    let report = machine.run();
    assert!(report.answers().contains("audit: clean"), "{}", report.answers());
    let stats = report.of_kind("stats");
    let [held, free, last] = [0, 1, 2].map(|index| &stats[index]["record"]);
    assert_eq!(number(&held["guests"][0]["huge"]), 0, "it is not mapped yet");
    assert!(
        number(&held["host"]["frames_guests"]) >= 1 << 18,
        "but it is its own"
    );
    assert_eq!(held["host"]["audit"], "clean");
    assert!(number(&free["host"]["frames_guests"]) < 1 << 10);
    assert_eq!(report.guest("a")["reason"], "killed");
    assert!(report.guest("a")["faults"]["huge"].is_null());
    assert_eq!(number(&last["guests"][1]["huge"]), 1, "the next one gets it");
}

#[test]
fn a_gib_goes_from_guest_to_guest_and_always_reads_as_zero() {
    let mut first = huge("a");
    first.on_reboot = OnReboot::Restart;
    let reset = PortAccess {
        port: 0xcf9,
        size: PortSize::Byte,
        is_read: false,
        is_string: false,
    };
    let reboot = Op::Exits(Exit::Port(reset), vec![(pleat_types::Gpr::Rax, 6)]);
    let mut machine = machine(vec![(first, [touch(7), vec![reboot]].concat())]);
    machine.config.for_ms = Some(20);
    let report = machine.run();
    let count = number(&report.guest("a")["faults"]["huge"]);
    assert!(count > 3, "it was started and backed {count} times");
    assert_eq!(report.outcome, Outcome::Ok);
}
