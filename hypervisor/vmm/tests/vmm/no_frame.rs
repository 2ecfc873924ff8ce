//! Reclaim that begins when no frame is free at all, and what goes on without one.

use crate::equipped::{equipped, stats_when};
use crate::fake::Op;
use crate::merging::{at, fault, fill, finish, in_domain, machine, number, page, sleep, wait};
use crate::scenario::{Machine, Report, kernel};
use crate::virtio::{Driver, Kind, to_guest};
use crate::virtio_kinds::PRESSURE_RECEIVE;
use pleat_bundle::config::{GuestConfig, MergeConfig, Pages, ReclaimConfig};
use std::ops::Range;

/// Where the filler's pages begin, and the first that can lie in a mapping of 2 MiB.
const FILLED: u64 = 0x200;
const LARGE: u64 = (0x20_0000 - page(0)) >> 12;
/// More pages than a machine of 8 MiB has frames, and fewer.
const ALL: u64 = 2000;
const FEW: u64 = 1500;

fn mark(pages: Range<u64>) -> Vec<Op> {
    pages.map(|n| Op::Store(page(n) + 8, 1000 + n)).collect()
}

fn check_marks(pages: Range<u64>) -> Vec<Op> {
    pages.map(|n| Op::Expect(page(n) + 8, 1000 + n)).collect()
}

/// A machine of 8 MiB that takes what is cold, and what no guest wrote in no time.
fn small(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, for_ms: u64) -> Machine {
    let mut machine = machine(guests, true, for_ms);
    machine.memory_bytes = 8 << 20;
    // No page of zeros, for whose sake a frame would be kept back.
    machine.kernel = kernel(&[[1; 4096], [2; 4096]], 0);
    machine.config.reclaim = ReclaimConfig {
        is_on: true,
        generation_us: 200,
        cold_generations: Some(2),
        compressed_percent: 50,
    };
    machine
}

/// Takes so many pages after a while, none of which can be packed.
fn filler(after: u64, pages: u64) -> (GuestConfig<'static>, Vec<Op>) {
    let mut config = in_domain("filler", "filler");
    config.memory_bytes = 16 << 20;
    let fills = (0..pages).map(|n| Op::StoreNoise((FILLED + n) << 12, n));
    (config, [wait(after), fills.collect(), sleep()].concat())
}

fn free(report: &Report, n: usize) -> u64 {
    number(&report.of_kind("stats")[n]["record"]["host"]["frames_free"])
}

#[test]
fn a_host_without_a_frame_whose_guests_have_large_mappings_only_takes_what_is_cold() {
    let mut large = in_domain("large", "large");
    large.pages = Pages::Large;
    large.memory_bytes = 4 << 20;
    let block = || LARGE..LARGE + 512;
    // Once all small pages have been taken that there were at the start the rest is, and the large mapping grows cold.
    let uses = |n: u64| [vec![Op::Store(page(LARGE), n)], wait(1)].concat();
    let program = [
        mark(block()),
        (0..10).flat_map(uses).collect(),
        wait(30),
        check_marks(block()),
        vec![finish()],
    ];
    let guests = vec![(large, program.concat()), filler(10, ALL)];
    let mut machine = small(guests, 100);
    machine.config.merge = MergeConfig::OFF;
    machine.config.script.extend([
        at(3_000, "reclaim off"),
        at(7_000, "stats"),
        at(7_001, "reclaim on"),
        at(12_000, "stats"),
    ]);
    let report = machine.run();
    assert_eq!(free(&report, 0), 0);
    assert_eq!(report.then(0, "large", "large"), 1);
    assert_eq!(
        report.then(0, "filler", "compressed"),
        report.then(1, "filler", "compressed")
    );
    assert!(report.then(1, "large", "compressed") > 512);
    assert!(report.then(1, "filler", "unique") > report.then(0, "filler", "unique") + 450);
    assert_eq!(report.guest("large")["reason"], "finished");
    report.check_memory();
}

#[test]
fn a_page_comes_back_without_a_frame_to_one_that_others_have() {
    let same = || [fill((0..6).map(|n| (n, 7))), mark(0..6)].concat();
    let reads = |after| [same(), wait(after), check_marks(0..6)].concat();
    let mut driver = Driver::new();
    let second = driver.then(reads(40)).event("read").finish(sleep());
    let guests = vec![
        (in_domain("first", "one"), [reads(12), sleep()].concat()),
        (in_domain("second", "one"), second),
        (in_domain("third", "one"), [same(), sleep()].concat()),
        filler(24, ALL),
    ];
    let mut machine = small(guests, 20);
    machine.config.script.push(at(3_000, "reclaim off"));
    machine.config.script.extend(stats_when("second", &["read"]));
    let report = machine.run();
    // What is kept for writes to shared pages is not for this.
    assert!(report.host_then(0, "frames_free") <= 1792 / 256);
    let waited = &report.guest_then(0, "filler")["faults"]["waited"];
    assert_eq!(number(waited), 1, "the filler waits for more");
    assert_eq!(report.then(0, "second", "shared"), 6);
    assert_eq!(fault(&report, "second", "swapped-in"), 6);
    assert_eq!(fault(&report, "second", "waited"), 0);
    report.check_memory();
}

/// A guest that sleeps until it is told something, into a page that has no frame, beside one that takes so many pages.
fn is_told(pages: u64, reserved: u64) -> Machine {
    let mut config = equipped("a", "a", &[Kind::Console]);
    config.terms.reservation_bytes = reserved << 12;
    let mut driver = Driver::of(&[Kind::Console]);
    // By the time that all is taken it has been told so, once.
    driver.open_pressure(1);
    driver.chain(Kind::Console, PRESSURE_RECEIVE, &[to_guest(page(40), 64)]);
    driver.notify(Kind::Console, PRESSURE_RECEIVE);
    let program = driver.finish(sleep());
    let mut machine = small(vec![(config, program), filler(0, pages)], 20);
    machine.config.merge = MergeConfig::OFF;
    // Pages that are used after the start do not age by themselves: for who waits generations end before.
    machine.config.reclaim.generation_us = 10_000_000;
    machine.config.reclaim.cold_generations = None;
    machine.config.script.extend([
        at(0, "reclaim off"),
        at(10_000, "stats"),
        at(10_001, "pressure a none"),
    ]);
    machine
}

/// So many pages leave nothing at all.
fn everything() -> u64 {
    let most = FEW + free(&is_told(FEW, 0).run(), 0);
    let leaves_nothing = |pages: &u64| free(&is_told(*pages, 0).run(), 0) == 0;
    (most - 6..most)
        .find(leaves_nothing)
        .expect("this many leave nothing")
}

/// Whether it was told.
fn was_told(report: &Report) -> bool {
    let line = report.contents.get(&(0, page(40) >> 12));
    line.is_some_and(|line| line.starts_with(b"pressure none"))
}

#[test]
fn who_sleeps_while_a_device_waits_for_memory_waits_for_memory() {
    let reasons = |report: &Report| {
        ["a", "filler"].map(|name| report.guest(name)["reason"].as_str().expect("a text").to_string())
    };
    let stuck = "host out of memory: no guest can go on and free a frame".to_string();
    let pages = everything();
    let report = is_told(pages, 0).run();
    assert_eq!(reasons(&report), [stuck.clone(), String::new()]);
    // One that has no more than it can always have: then another one is stopped for it, and it is told.
    let report = is_told(pages, report.then(0, "a", "unique")).run();
    assert_eq!(reasons(&report), [String::new(), stuck]);
    assert!(was_told(&report));
}

#[test]
fn what_is_cold_is_taken_for_who_sleeps_while_a_device_waits_for_memory() {
    let mut machine = is_told(everything(), 0);
    machine.config.script.push(at(9_000, "reclaim on"));
    let report = machine.run();
    assert!(was_told(&report));
    for name in ["a", "filler"] {
        assert_eq!(report.guest(name)["state"], "running", "{name}");
    }
}
