//! Who may start, what guests are asked for, what they are told, and what people see of it.

use crate::equipped::{equipped, stats_when, when};
use crate::fake::Op;
use crate::merging::{at, finish, number, sleep};
use crate::merging_breaks::reboot;
use crate::scenario::{Machine, Report};
use crate::virtio::{Driver, Kind};
use pleat_bundle::config::{GuestConfig, OnReboot, Step};
use pleat_vmm::Outcome;
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;

fn reserving(name: &'static str, mib: u64, reservation: u64) -> GuestConfig<'static> {
    let mut config = equipped(name, name, &[Kind::Balloon]);
    config.memory_bytes = mib << 20;
    config.terms.reservation_bytes = reservation << 20;
    config
}

fn run(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, script: Vec<Step<'static>>, for_ms: u64) -> Report {
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 24 << 20;
    machine.config.script = script.into_iter().collect();
    machine.config.for_ms = Some(for_ms);
    machine.run()
}

#[test]
fn a_reservation_that_does_not_fit_is_refused_with_what_would() {
    let report = run(
        vec![
            (reserving("a", 4, 4), sleep()),
            (reserving("b", 16, 14), sleep()),
            (reserving("c", 8, 8), sleep()),
            (reserving("d", 8, 0), sleep()),
        ],
        vec![],
        5,
    );
    let reason = report.guest("c")["reason"].as_str().expect("a text");
    for part in [
        "a reservation of 8 MiB",
        "are missing",
        "a reservation of up to",
        "would fit",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(report.outcome, Outcome::Failed);
    for name in ["a", "b", "d"] {
        assert_eq!(report.guest(name)["state"], "running");
    }
    let outcomes = report.of_kind("promise").into_iter();
    let outcomes: Vec<&Value> = outcomes.map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["admitted", "admitted", "refused", "admitted"]);
}

#[test]
fn what_was_set_aside_is_given_back_at_the_end_and_kept_over_a_restart() {
    let mut again = reserving("b", 4, 2);
    again.on_reboot = OnReboot::Restart;
    let mut restarts = crate::fake::print("pleat-event: boot\n");
    restarts.extend([Op::Spin(400_000), reboot()]);
    let program = [
        vec![Op::Spin(1_000_000)],
        crate::fake::print("pleat-event: bye\n"),
        vec![finish()],
    ];
    let script = vec![at(0, "stats"), when("a", "bye", "stats"), at(6000, "stats")];
    let report = run(
        vec![(reserving("a", 8, 8), program.concat()), (again, restarts)],
        script,
        8,
    );
    let reserved = [0, 1, 2].map(|n| report.host_then(n, "frames_reserved"));
    assert_eq!(reserved[0], reserved[1]);
    // The reservation, and what it costs.
    assert!(
        reserved[2] + 2048 < reserved[1] && reserved[2] > 512,
        "{reserved:?}"
    );
}

#[test]
fn a_limit_is_enforced_by_the_balloon_step_by_step() {
    let mut config = reserving("a", 4, 0);
    config.terms.limit_bytes = Some(3 << 20);
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then([Op::Spin(SECOND + SECOND / 10)]).expect_target(128);
    let pages: Vec<u64> = (0x200..0x280).collect();
    driver.inflate(&pages);
    driver.then([Op::Spin(SECOND + SECOND / 10)]).expect_target(256);
    let program = driver.event("told").finish(sleep());
    let report = run(vec![(config, program)], stats_when("a", &["told"]), 2500);
    assert_eq!(report.then(0, "a", "balloon_target"), 256);
    let records = report.of_kind("balloon").into_iter();
    let records = records.filter(|record| record["target"] != 0);
    let told: Vec<(u64, &Value)> = records
        .map(|record| (number(&record["target"]), &record["reason"]))
        .collect();
    assert_eq!(told, [(128, &Value::from("limit")), (256, &Value::from("limit"))]);
}

#[test]
fn a_guest_is_told_of_pressure_before_its_balloon_is_told_to_take() {
    let kinds = [Kind::Balloon, Kind::Console];
    let mut driver = Driver::of(&kinds);
    let lines = driver.open_pressure(3);
    driver.tell("hello test 1.0\n");
    driver.then((0x200..0x3ff).map(|gfn| Op::Store(gfn << 12, gfn)));
    // It is told at once, and has some time to give by itself.
    driver.then([Op::Spin(SECOND / 2)]).expect_target(0);
    driver.expect_text(lines[0], "pressure some free=");
    driver.tell("collected 64\ncollected x\ncollected 8\n");
    driver.then(vec![Op::Spin(SECOND / 4); 8]).event("taken");
    let program = driver.finish(sleep());
    let mut machine = Machine::new(vec![(equipped("a", "a", &kinds), program)]);
    machine.memory_bytes = 24 << 20;
    // Soft from the beginning.
    machine.config.host.soft_below_percent = 100;
    machine.config.host.grace_ms = 1500;
    let mut script = vec![at(1_600_000, "balloon")];
    script.extend(["stats", "pressure", "balloon"].map(|command| when("a", "taken", command)));
    machine.config.script = script.into_iter().collect();
    machine.config.for_ms = Some(4000);
    let report = machine.run();
    let places = ["pressure", "balloon"].map(|kind| {
        let mut records = report.records.iter();
        let is_it = |record: &Value| record["k"] == kind && record["target"] != 0;
        records.position(is_it).expect(kind)
    });
    assert!(places[0] < places[1], "{places:?}");
    assert!(report.then(0, "a", "balloon_target") > 0);
    assert_eq!(report.guest_then(0, "a")["pressure"], "some");
    let collected = report.of_kind("collected").into_iter();
    assert_eq!(
        collected.map(|record| number(&record["kib"])).sum::<u64>(),
        64 + 8
    );
    let answers = report.answers();
    let spared = answers.matches("more wait for the end of its grace").count();
    assert_eq!(spared, 1, "while it runs: {answers}");
    let row = answers
        .lines()
        .find(|line| line.starts_with("a ") && line.contains("open"))
        .expect("a row");
    assert!(
        row.contains("some") && row.contains("open") && row.ends_with("test 1.0"),
        "{row}"
    );
}

#[test]
fn what_a_person_says_of_pressure_is_told_at_once() {
    let mut driver = Driver::of(&[Kind::Console]);
    let lines = driver.open_pressure(3);
    driver.event("open").then([Op::Spin(1_000_000)]);
    driver.expect_text(lines[0], "pressure full free=");
    driver.event("heard").then([Op::Spin(3 * SECOND)]);
    driver.expect_text(lines[1], "pressure none free=");
    let program = driver.finish([finish()]);
    let script = vec![
        when("a", "open", "pressure a full"),
        when("a", "heard", "pressure a auto"),
    ];
    let report = run(
        vec![(equipped("a", "a", &[Kind::Console]), program)],
        script,
        5000,
    );
    report.assert_all_finished();
    let levels = report.of_kind("pressure").into_iter();
    let levels: Vec<&Value> = levels.map(|record| &record["level"]).collect();
    assert_eq!(levels, ["full", "none"]);
}

#[test]
fn a_balloon_that_does_not_move_is_stuck_after_five_seconds() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.event("up").then(vec![Op::Spin(SECOND); 8]);
    let program = driver.expect_target(512).finish(sleep());
    let guests = vec![
        (equipped("a", "a", &[Kind::Balloon]), program),
        (equipped("b", "b", &[Kind::Balloon]), sleep()),
        (equipped("c", "c", &[]), sleep()),
    ];
    let script = vec![
        when("a", "up", "balloon a 2"),
        at(3_000_000, "balloon"),
        at(7_500_000, "balloon"),
    ];
    let answers = run(guests, script, 8500).answers();
    let paces = |name: &str| -> Vec<bool> {
        let rows = answers
            .lines()
            .filter(|line| line.starts_with(&format!("{name:<16}")));
        let words = ["moving", "stuck", "no driver", "no balloon"];
        rows.flat_map(|row| words.map(|word| row.contains(word)))
            .collect()
    };
    assert_eq!(
        paces("a"),
        [true, false, false, false, false, true, false, false],
        "{answers}"
    );
    assert_eq!(paces("b")[..4], [false, false, true, false], "{answers}");
    assert_eq!(paces("c")[..4], [false, false, false, true], "{answers}");
}

#[test]
fn statistics_come_when_they_are_asked_for_and_are_null_before() {
    let mut config = equipped("a", "a", &[Kind::Balloon]);
    config.devices.balloon.as_mut().expect("it has one").statistics_ms = 100;
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver
        .event("before")
        .say(&[(4, 4096 * 7), (5, 4 << 20), (99, 1)]);
    driver
        .then([Op::Spin(2 * SECOND)])
        .expect_used(Kind::Balloon, 2, 0);
    driver.say(&[
        (4, 4096 * 9),
        (6, 4096 * 11),
        (7, 4096 * 13),
        (0, 4096 * 256),
        (1, 4096 * 512),
        (2, 17),
    ]);
    driver.then([Op::Spin(2 * SECOND)]).event("after");
    let program = driver.finish(sleep());
    let mut script = stats_when("a", &["before", "after"]);
    script.push(when("a", "after", "balloon"));
    let report = run(vec![(config, program)], script, 4500);
    for name in [
        "guest_free",
        "guest_swap_in",
        "guest_swap_out",
        "guest_major_faults",
    ] {
        assert_eq!(report.guest_then(0, "a")[name], Value::Null);
    }
    let said = ["guest_free", "guest_available", "guest_cache"].map(|what| report.then(1, "a", what));
    assert_eq!(said, [9, 11, 13]);
    let paging = ["guest_swap_in", "guest_swap_out", "guest_major_faults"];
    assert_eq!(paging.map(|what| report.then(1, "a", what)), [256, 512, 17]);
    let answers = report.answers();
    let line = "  swapped in     1.0, out     2.0; 17 faults that had to read";
    assert!(answers.contains(line), "{answers}");
    // It did not say so again.
    assert_eq!(report.guest_then(1, "a")["guest_total"], Value::Null);
}

#[test]
fn every_line_fits_a_screen_and_every_mistake_is_answered_with_what_is_allowed() {
    let kinds = [Kind::Balloon, Kind::Mem, Kind::Console, Kind::Block, Kind::Random];
    let name = "sixteen-letters-";
    let mut driver = Driver::of(&kinds);
    driver.open_pressure(2);
    driver.tell("hello an-agent-with-a-name-of-32-bytes 1.0\n").say(&[
        (4, 1 << 30),
        (5, 1 << 30),
        (6, 1 << 30),
        (7, 1 << 30),
        (0, u64::MAX),
        (1, u64::MAX),
        (2, u64::MAX),
    ]);
    let program = driver.event("up").finish(sleep());
    let commands = [
        "balloon",
        "mem",
        "promises",
        "pressure sixteen-letters- full",
        "pressure",
        "devices sixteen-letters-",
        "balloon sixteen-letters- 2",
        "balloon",
        "balloon sixteen-letters- 99",
        "balloon sixteen-letters- x",
        "balloon nobody 2",
        "pressure sixteen-letters- much",
        "devices",
        "mem sixteen-letters- 5",
    ];
    let mut machine = Machine::new(vec![(equipped(name, "a", &kinds), program)]);
    machine.disk = Some(vec![3; 64 << 10]);
    machine.config.script = commands.iter().map(|command| when(name, "up", command)).collect();
    machine.config.for_ms = Some(5);
    let answers = machine.run().answers();
    let long: Vec<&str> = answers
        .lines()
        .filter(|line| line.chars().count() > 100)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
    for allowed in [
        "can be left from 0 MiB (its reservation) to 4 MiB (its memory)",
        "a number of MiB: balloon GUEST 96",
        "there is no guest `nobody`",
        "none, some, full or auto",
        "devices GUEST",
        "from 4 to 12 MiB",
        "  you leave it   2048 KiB, and want   2048 KiB in its balloon",
    ] {
        assert!(answers.contains(allowed), "{allowed}: {answers}");
    }
}
