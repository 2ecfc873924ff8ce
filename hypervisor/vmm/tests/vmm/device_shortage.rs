//! Devices that find no host frame, at every place where they may need one: the guest waits, the same OUT goes on, and
//! nothing is done twice or lost.

use crate::equipped::{equipped, stats_when, when};
use crate::fake::{Op, hypercall, page_of};
use crate::merging::{at, finish, number, page};
use crate::merging_breaks::reboot;
use crate::scenario::{Machine, Report};
use crate::virtio::{Driver, Kind, to_guest};
use crate::virtio_kinds::{ACK, Ask, BUSY};
use pleat_bundle::config::{DiskConfig, GuestConfig, MergeConfig, OnReboot, Pages, Step};
use pleat_types::hypercall as calls;

const KINDS: [Kind; 4] = [Kind::Balloon, Kind::Console, Kind::Block, Kind::Random];
/// Sectors of a page.
const PAGE: u64 = 8;
/// Pages that `filler` takes when it leaves more than enough.
const FEW: u64 = 600;
/// When the guest begins, with `filler` done, and when `filler` ends.
const BEGIN: u64 = 8_000_000;
const FILLER_SPINS: usize = 16;
/// What the disk's pages are full of.
const BASE: u64 = 0x0303_0303_0303_0303;

/// Work of all devices with pages that have no frame yet.
fn work() -> Vec<Op> {
    let mut driver = Driver::of(&KINDS);
    driver.then([Op::StorePage(page(0), 5), Op::Spin(BEGIN)]);
    driver.event("begin");
    driver.read_disk(0, page(1), page_of(BASE).to_vec());
    driver.read_disk(3, page(2) + 100, page_of(BASE).to_vec());
    driver.write_disk(2 * PAGE, page(0), PAGE);
    driver.write_disk(5 * PAGE + 1, page(0), 1);
    // Over the end of the tables' first 2 MiB, and from pages that nothing backs.
    driver.write_disk(511 * PAGE, page(40), 2 * PAGE);
    driver.read_disk(2 * PAGE, page(4), page_of(5).to_vec());
    driver.read_disk(511 * PAGE, page(5), vec![0; 2 * 4096]);
    driver.request(Kind::Random, 0, &[to_guest(page(8), 64)], 64);
    driver.open_pressure(3);
    driver.inflate(&[0x152, 0x153, 0x160]);
    driver.read_disk(2 * PAGE, page(2), page_of(5).to_vec());
    driver.event("done").finish([finish()])
}

fn worker() -> GuestConfig<'static> {
    let mut config = equipped("a", "a", &KINDS);
    let image = config.devices.disk.expect("it has one").image;
    config.devices.disk = Some(DiskConfig {
        image,
        bytes: 4 << 20,
        written_bytes: None,
    });
    config
}

/// A guest that runs this beside one that takes so many pages and gives them back after some time.
fn beside(
    config: GuestConfig<'static>,
    program: Vec<Op>,
    filler: u64,
    script: Vec<Step<'static>>,
) -> Machine {
    let mut other = equipped("filler", "filler", &[]);
    other.memory_bytes = 16 << 20;
    let mut fills: Vec<Op> = (0x200..0x200 + filler)
        .map(|gfn| Op::Store(gfn << 12, gfn))
        .collect();
    fills.extend(vec![Op::Spin(1_000_000); FILLER_SPINS]);
    fills.push(hypercall(calls::FINISH, 0, 0, 0));
    let mut machine = Machine::new(vec![(config, program), (other, fills)]);
    machine.memory_bytes = 8 << 20;
    machine.disk = Some(vec![3; 64 << 10]);
    machine.config.merge = MergeConfig::OFF;
    machine.config.script = script.into_iter().collect();
    machine
}

/// How many pages `filler` has to take so that the guest lacks nothing, and how many frames the guest takes.
fn measure(config: &GuestConfig<'static>, program: &[Op]) -> (u64, u64) {
    let script = stats_when("a", &["begin", "done"]);
    let report = beside(config.clone(), program.to_vec(), FEW, script).run();
    report.assert_all_finished();
    let [begin, done] = [0, 1].map(|n| report.host_then(n, "frames_free"));
    (FEW + done, begin - done)
}

fn ports(report: &Report) -> u64 {
    number(&report.guest("a")["exits"]["port"])
}

#[test]
fn a_device_without_a_frame_makes_its_guest_wait_and_then_goes_on() {
    let (all, taken) = measure(&worker(), &work());
    assert!(taken >= 10, "{taken}");
    let calm = ports(&beside(worker(), work(), FEW, vec![]).run());
    let mut parked_in_devices = 0;
    for filler in all - 2..all + taken - 3 {
        let report = beside(worker(), work(), filler, vec![]).run();
        report.assert_all_finished();
        // The instruction that had to wait, and no other, exits again.
        let again = ports(&report) - calm;
        parked_in_devices += u64::from(again > 0);
    }
    assert!(parked_in_devices >= 8, "{parked_in_devices}");
}

#[test]
fn a_guest_that_is_killed_while_its_devices_wait_leaves_nothing_behind() {
    let (all, taken) = measure(&worker(), &work());
    for filler in (all..all + taken - 3).step_by(2) {
        let script = vec![at(15_000, "devices a"), at(15_001, "kill a")];
        let report = beside(worker(), work(), filler, script).run();
        assert_eq!(report.guest("filler")["reason"], "finished");
        let reason = report.guest("a")["reason"].as_str().expect("a text");
        assert!(["killed", "finished"].contains(&reason), "{reason}");
        assert_eq!(number(&report.guest("a")["unique"]), 0);
        assert!(report.stats()["failures"].as_array().expect("a list").is_empty());
    }
}

#[test]
fn a_guest_that_is_killed_between_two_steps_of_a_device_leaves_nothing_behind() {
    // Each request takes several steps, and each step several slices.
    let mut driver = Driver::of(&KINDS);
    driver.then((0x200..0x3ff).map(|gfn| Op::Store(gfn << 12, gfn)));
    for _ in 0..4 {
        driver.write_disk(0, 0x20_0000, 32 * PAGE);
        driver.write_disk(100 * PAGE, 0x21_0000, 200 * PAGE);
        driver.inflate(&(0x300..0x3ff).collect::<Vec<u64>>());
        driver.report(&[(0x200, 0x1ff)]);
    }
    let program = driver.finish([finish()]);
    let run = |script: Vec<Step<'static>>| {
        let mut machine = Machine::new(vec![(worker(), program.clone())]);
        machine.disk = Some(vec![3; 64 << 10]);
        machine.config.slice_us = 2;
        machine.config.script = script.into_iter().collect();
        machine.run()
    };
    let whole = run(vec![]);
    whole.assert_all_finished();
    let micros = number(&whole.guest("a")["instructions"]) / 1000;
    assert!(micros > 50, "{micros}");
    let mut killed = 0;
    for part in 0..24 {
        let report = run(vec![at(micros * part / 24, "kill a")]);
        killed += u64::from(report.guest("a")["reason"] == "killed");
        assert_eq!(number(&report.guest("a")["unique"]), 0);
    }
    assert!(killed >= 20, "{killed}");
}

#[test]
fn a_guest_that_starts_again_in_the_middle_of_everything_starts_from_nothing() {
    let mut driver = Driver::of(&KINDS);
    driver.then([Op::Expect(page(0), 0), Op::StorePage(page(0), 5)]);
    driver.read_disk(2 * PAGE, page(1), page_of(BASE).to_vec());
    driver.write_disk(2 * PAGE, page(0), PAGE);
    driver.open_pressure(1);
    driver.inflate(&[0x150, 0x160]);
    driver.say(&[(4, 1)]);
    // Chains that nobody looks at any more.
    driver.chain(Kind::Random, 0, &[to_guest(page(8), 64)]);
    driver.chain(Kind::Balloon, 0, &[crate::virtio::from_guest(page(1), 256)]);
    let program = driver.finish([reboot()]);
    let mut config = worker();
    config.on_reboot = OnReboot::Restart;
    let mut machine = Machine::new(vec![(config, program)]);
    machine.disk = Some(vec![3; 64 << 10]);
    machine.config.for_ms = Some(1);
    let report = machine.run();
    assert!(report.of_kind("state").len() > 4);
    assert!(report.stats()["failures"].as_array().expect("a list").is_empty());
}

/// A guest with 2 MiB pages that gives a part of one when there is hardly a frame for the table.
fn gives_a_part(filler: u64) -> Report {
    let mut config = equipped("a", "a", &[Kind::Balloon]);
    config.pages = Pages::Large;
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then([Op::Store(0x200 << 12, 9), Op::Spin(BEGIN)]);
    driver.event("begin");
    driver.pretend_to_inflate(&[0x210, 0x220]);
    driver.then([Op::Expect(0x200 << 12, 9), Op::Expect(0x210 << 12, 0)]);
    let program = driver.event("done").finish([finish()]);
    let script = stats_when("a", &["begin", "done"]);
    beside(config, program, filler, script).run()
}

#[test]
fn a_balloon_without_a_frame_for_a_table_leaves_the_guest_what_it_has() {
    let report = gives_a_part(FEW);
    assert_eq!(report.then(0, "a", "large"), 1);
    let most = FEW + report.host_then(0, "frames_free");
    let mut outcomes = [0, 0];
    for filler in most - 6..most + 4 {
        let report = gives_a_part(filler);
        report.assert_all_finished();
        let ballooned = report.then(1, "a", "ballooned");
        assert!(
            ballooned == 2 || ballooned == 0 || report.then(1, "a", "large") == 0,
            "{ballooned}"
        );
        outcomes[usize::from(report.then(1, "a", "large") == 1)] += 1;
    }
    assert!(outcomes[0] > 0, "{outcomes:?}");
}

/// A guest that asks for more memory and gets this answer, if it asks, beside one that has taken so many pages.
fn plugs(filler: u64, answer: Option<u64>) -> Report {
    let region = 4 << 30;
    let mut driver = Driver::of(&[Kind::Mem]);
    driver.event("grow").then([Op::Spin(BEGIN)]).event("begin");
    if let Some(answer) = answer {
        driver.ask(Ask::Plug, region, 3, answer, 0).event("done");
        // When there is memory again.
        driver.then(vec![Op::Spin(1_000_000); 3 * FILLER_SPINS]);
        driver.ask(Ask::Plug, region, 3, ACK, 0);
        driver.then((0..3).map(|n| Op::Store(region + n * (2 << 20), n)));
    }
    let mut script = stats_when("a", &["begin", "done"]);
    script.push(when("a", "grow", "mem a 12"));
    let program = driver.finish([finish()]);
    beside(equipped("a", "a", &[Kind::Mem]), program, filler, script).run()
}

#[test]
fn memory_that_cannot_be_plugged_for_want_of_tables_is_refused_for_now() {
    let free = |filler| plugs(filler, None).host_then(0, "frames_free");
    let most = FEW + free(FEW);
    let filler = (most - 6..most).find(|filler| free(*filler) == 0);
    let report = plugs(filler.expect("this many leave nothing"), Some(BUSY));
    report.assert_all_finished();
    assert_eq!(report.then(1, "a", "plugged"), 0);
    assert_eq!(report.guest("a")["plugged"], 1536);
}
