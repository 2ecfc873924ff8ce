//! What guests report, and what becomes of it.

use crate::fake::{Op, exits, hypercall, out, print};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{MAX_AWAITED, OnReboot, Step, When};
use pleat_types::{Exit, hypercall as calls};
use pleat_vmm::Outcome;

/// Events of a guest that are kept.
const KEPT: usize = MAX_AWAITED;

fn idle() -> Vec<Op> {
    vec![Op::Interrupts(true), exits(Exit::Hlt)]
}

/// One line for each of so many events, no two of the same name.
fn many(count: usize) -> Vec<Op> {
    (0..count)
        .flat_map(|index| print(&format!("pleat-event: e{index}\n")))
        .collect()
}

fn kept(report: &Report, name: &str) -> Vec<String> {
    let events = report.guest(name)["events"].as_array().expect("a list");
    let text = |event: &serde_json::Value| event.as_str().expect("a text").to_string();
    events.iter().map(text).collect()
}

#[test]
fn an_event_is_kept_once_with_its_first_time() {
    let beat = |times: usize| print(&"pleat-event: beat\n".repeat(times));
    let program = [beat(1), vec![Op::Spin(200_000)], beat(100), idle()].concat();
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.config.for_ms = Some(5);
    let report = machine.run();
    assert_eq!(kept(&report, "a"), ["beat"]);
    let ticks = report.guest("a")["event_ticks"][0].as_u64().expect("a number");
    assert!(ticks < 200_000, "{ticks}");
    // Programs that follow the stream see each of them.
    assert_eq!(report.of_kind("event").len(), 101);
}

#[test]
fn what_the_run_waits_for_finds_room_among_any_number_of_events() {
    let last = print("pleat-event: up\npleat-event: now\n");
    let mut machine = Machine::new(vec![
        (guest("a"), [many(200), last, idle()].concat()),
        (guest("b"), vec![Op::Spin(1000), Op::Jump(0)]),
    ]);
    machine.config.until = ["up"].into_iter().collect();
    let when = When::Event {
        guest: "a",
        event: "now",
    };
    let command = "kill b";
    machine.config.script.push(Step { when, command });
    let report = machine.run();
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.stats()["failures"]);
    assert_eq!(report.guest("b")["reason"], "killed");
    let events = kept(&report, "a");
    assert_eq!(events.len(), KEPT);
    assert_eq!(events[KEPT - 2..], ["up", "now"]);
    assert_eq!(events[0], "e0", "the earliest of the others stay");
}

#[test]
fn the_statistics_record_has_room_for_the_longest_events() {
    let name = |index: usize| format!("{index:0>32}");
    let lines = (0..KEPT).flat_map(|index| print(&format!("pleat-event: {}\n", name(index))));
    let mut machine = Machine::new(vec![(guest("a"), lines.chain(idle()).collect())]);
    machine.config.for_ms = Some(30);
    assert_eq!(kept(&machine.run(), "a"), (0..KEPT).map(name).collect::<Vec<_>>());
}

#[test]
fn failures_beyond_the_list_are_counted() {
    // The name is not kept when all places are taken by others, so each report is a failure.
    let failed = print(&"pleat-event: work-failed\n".repeat(100));
    let program = [many(KEPT), failed, vec![hypercall(calls::FINISH, 0, 0, 0)]].concat();
    let report = Machine::new(vec![(guest("a"), program)]).run();
    assert_eq!(report.outcome, Outcome::Failed);
    let failures = report.stats()["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 12);
    assert_eq!(failures[10], "guest `a` reported work-failed");
    assert_eq!(failures[11], "89 more failures");
}

#[test]
fn a_restart_ends_the_line_and_keeps_the_events() {
    let mut config = guest("a");
    config.on_reboot = OnReboot::Restart;
    // The first line of each boot reports an event, unless the last boot's open line is glued to it.
    let program = [
        print("pleat-event: up\n"),
        vec![Op::Spin(400_000)],
        print("rebooting.."),
        vec![out(0x64, 0xfe)],
    ];
    let mut machine = Machine::new(vec![(config, program.concat())]);
    machine.config.for_ms = Some(5);
    let report = machine.run();
    let restarts = report.of_kind("state");
    let restarts = restarts
        .iter()
        .filter(|record| record["reason"] == "restarted")
        .count();
    assert!(restarts > 2, "{restarts}");
    let events = report.of_kind("event").len();
    assert!(
        events == restarts || events == restarts + 1,
        "{events} of {restarts}"
    );
    assert_eq!(kept(&report, "a"), ["up"]);
}
