//! Guests that grow past what they began with, and shrink again.

use crate::equipped::{equipped, stats_when, when};
use crate::fake::Op;
use crate::merging::{finish, number, sleep};
use crate::scenario::{Machine, Report};
use crate::virtio::{Driver, Kind};
use crate::virtio_kinds::{ACK, Ask, ERROR, NACK};
use pleat_bundle::config::{GuestConfig, Pages, Step};
use pleat_types::PortSize;

/// Where the memory begins that can be plugged: 4 MiB to begin with, 8 MiB more.
const REGION: u64 = 4 << 30;
const BLOCK: u64 = 2 << 20;
/// Answers to `State`.
const PLUGGED: u64 = 0;
const UNPLUGGED: u64 = 1;
const MIXED: u64 = 2;
const KINDS: [Kind; 2] = [Kind::Balloon, Kind::Mem];

fn run(config: GuestConfig<'static>, program: Vec<Op>, script: Vec<Step<'static>>) -> Report {
    let mut machine = Machine::new(vec![(config, program)]);
    machine.memory_bytes = 32 << 20;
    machine.config.script = script.into_iter().collect();
    machine.config.for_ms = Some(50);
    machine.run()
}

/// Requested and plugged bytes, as the device's configuration has them.
fn expect_sizes(driver: &mut Driver, requested: u64, plugged: u64) {
    let config = Kind::Mem.port() + 0x80;
    driver.expect_input(config + 48, PortSize::Dword, requested);
    driver.expect_input(config + 40, PortSize::Dword, plugged);
}

#[test]
fn a_guest_plugs_what_it_is_asked_to_and_gives_it_back() {
    for pages in [Pages::Small, Pages::Large] {
        let mut config = equipped("a", "a", &KINDS);
        config.pages = pages;
        let mut driver = Driver::of(&KINDS);
        driver.ask(Ask::Plug, REGION, 1, NACK, 0);
        driver.event("grow");
        expect_sizes(&mut driver, 8 << 20, 0);
        driver.ask(Ask::Plug, REGION, 3, ACK, 0);
        expect_sizes(&mut driver, 8 << 20, 6 << 20);
        driver.then([Op::ExpectPage(REGION, 0), Op::Store(REGION + 8, 1)]);
        driver.then((0..512).map(|n| Op::Store(REGION + BLOCK + n * 4096, n + 1)));
        driver.ask(Ask::State, REGION, 3, ACK, PLUGGED);
        driver.ask(Ask::State, REGION, 4, ACK, MIXED);
        driver.ask(Ask::State, REGION + 3 * BLOCK, 1, ACK, UNPLUGGED);
        driver.event("used");
        driver.ask(Ask::Unplug, REGION + BLOCK, 1, ACK, 0);
        driver.event("given");
        driver.then([Op::Expect(REGION + 8, 1)]);
        driver.ask(Ask::Plug, REGION + BLOCK, 1, ACK, 0);
        driver.then([Op::ExpectPage(REGION + BLOCK + 4096, 0)]);
        driver.ask(Ask::UnplugAll, 0, 0, ACK, 0);
        let program = driver.event("none").finish(sleep());
        let mut script = vec![when("a", "grow", "mem a 12")];
        script.extend(stats_when("a", &["used", "given", "none"]));
        let report = run(config, program, script);
        let at = |what| [0, 1, 2].map(|n| report.then(n, "a", what));
        assert_eq!(at("plugged"), [1536, 1024, 0]);
        assert_eq!(at("frames_promised"), [1024 + 1536, 1024 + 1024, 1024]);
        let free = [0, 1].map(|n| report.host_then(n, "frames_free"));
        assert!(free[1] >= free[0] + 512, "{free:?}");
        let requests = report.of_kind("mem");
        assert_eq!(number(&requests[0]["requested"]), 2048);
        report.check_memory();
    }
}

#[test]
fn pages_in_the_balloon_go_with_the_memory_that_they_are_in() {
    let first = REGION >> 12;
    let mut driver = Driver::of(&KINDS);
    driver.event("grow");
    driver.ask(Ask::Plug, REGION, 2, ACK, 0);
    driver.then((0..512).map(|n| Op::Store(REGION + n * 4096, n + 1)));
    let pages: Vec<u64> = (first + 100..first + 300).collect();
    driver.inflate(&pages).event("in");
    driver.ask(Ask::Unplug, REGION, 1, ACK, 0).event("gone");
    // They are no RAM any more.
    driver.deflate(&pages);
    driver.pretend_to_inflate(&pages);
    driver.pretend_to_report(&[(first, 512)]);
    driver.event("still-gone");
    driver.ask(Ask::State, REGION, 2, ACK, MIXED);
    driver.ask(Ask::Plug, REGION, 1, ACK, 0);
    let program = driver
        .then([Op::ExpectPage(REGION + (100 << 12), 0), Op::Store(REGION, 4)])
        .finish(sleep());
    let mut script = vec![when("a", "grow", "mem a 8")];
    script.extend(stats_when("a", &["in", "gone", "still-gone"]));
    let report = run(equipped("a", "a", &KINDS), program, script);
    let at = |what| [0, 1, 2].map(|n| report.then(n, "a", what));
    assert_eq!(at("ballooned"), [200, 0, 0]);
    assert_eq!(at("plugged"), [1024, 512, 512]);
    assert_eq!(at("unique")[1], at("unique")[2]);
    report.check_memory();
}

#[test]
fn a_guest_that_touches_memory_it_has_not_plugged_is_stopped_and_told_why() {
    let touches = [
        (vec![], REGION),
        (vec![(Ask::Plug, REGION)], REGION + BLOCK),
        (
            vec![(Ask::Plug, REGION), (Ask::Unplug, REGION)],
            REGION + 5 * 4096,
        ),
    ];
    for (requests, at) in touches {
        let mut driver = Driver::of(&KINDS);
        driver.event("grow");
        for (ask, block) in requests {
            driver.ask(ask, block, 1, ACK, 0);
        }
        let program = driver.finish([Op::Store(at, 1)]);
        let report = run(
            equipped("a", "a", &KINDS),
            program,
            vec![when("a", "grow", "mem a 12")],
        );
        let guest = report.guest("a");
        assert_eq!(guest["state"], "stopped", "{guest}");
        let reason = guest["reason"].as_str().expect("a text");
        assert!(
            reason.contains("memory") && reason.contains(&format!("{at:#x}")),
            "{reason}"
        );
    }
}

#[test]
fn requests_that_make_no_sense_are_errors_and_change_nothing() {
    let mut driver = Driver::of(&KINDS);
    driver.event("grow");
    driver.ask(Ask::Plug, REGION, 2, ACK, 0);
    for (ask, at, blocks) in [
        (Ask::Plug, REGION, 1),
        (Ask::Plug, REGION + BLOCK, 2),
        (Ask::Plug, REGION + 4096, 1),
        (Ask::Plug, REGION + 4 * BLOCK, 1),
        (Ask::Plug, 0, 1),
        (Ask::Plug, u64::MAX, u16::MAX),
        (Ask::Plug, REGION + 2 * BLOCK, 0),
        (Ask::Unplug, REGION + 2 * BLOCK, 1),
        (Ask::Unplug, REGION + BLOCK, 2),
        (Ask::Unplug, 0, 1),
        (Ask::State, REGION + 3 * BLOCK, 2),
    ] {
        driver.ask(ask, at, blocks, ERROR, 0);
    }
    // More than was asked for.
    driver.ask(Ask::Plug, REGION + 2 * BLOCK, 2, NACK, 0);
    driver.ask(Ask::Plug, REGION + 2 * BLOCK, 1, ACK, 0);
    let program = driver
        .then([Op::Store(REGION + 3 * BLOCK - 8, 1)])
        .finish([finish()]);
    let report = run(
        equipped("a", "a", &KINDS),
        program,
        vec![when("a", "grow", "mem a 10")],
    );
    report.assert_all_finished();
}

#[test]
fn the_console_asks_for_what_the_guest_can_have_and_says_what_that_is() {
    let mut driver = Driver::of(&KINDS);
    driver.event("up");
    driver.ask(Ask::Plug, REGION, 1, ACK, 0);
    let program = driver.event("plugged").finish(sleep());
    let asked = [
        "mem a 14",
        "mem a 3",
        "mem a 7",
        "mem b 8",
        "mem a",
        "mem a 1e3",
        "mem a 6",
    ];
    let mut script: Vec<Step<'_>> = asked.iter().map(|command| when("a", "up", command)).collect();
    script.push(when("a", "plugged", "mem"));
    let mut b = equipped("b", "b", &[]);
    b.memory_bytes = 2 << 20;
    let mut machine = Machine::new(vec![(equipped("a", "a", &KINDS), program), (b, sleep())]);
    machine.config.script = script.into_iter().collect();
    machine.config.for_ms = Some(20);
    let answers = machine.run().answers();
    let lines: Vec<&str> = answers.lines().collect();
    let allowed = "guest `a` can have from 4 to 12 MiB, in steps of 2 MiB";
    assert_eq!(lines[..3], [allowed; 3], "{answers}");
    assert!(lines[3].contains("`max_memory`"), "{answers}");
    assert!(
        lines[4].contains("mem GUEST 96") && lines[5] == lines[4],
        "{answers}"
    );
    assert_eq!(lines[6], "guest `a` is asked to have 6 MiB");
    let row: Vec<&str> = lines[8].split_whitespace().collect();
    assert_eq!(
        row[..9],
        ["a", "4096", "KiB", "2048", "KiB", "2048", "KiB", "12.0", "MiB"]
    );
}
