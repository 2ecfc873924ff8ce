//! Pages that guests put into their balloons: gone at once, zeros afterwards, and nobody else's.

use crate::equipped::{FIRST, equipped, stats_when};
use crate::fake::{Op, page_of};
use crate::merging::{fault, fill, finish, in_domain, machine, merge_at, page, sleep, wait};
use crate::scenario::{Machine, Report};
use crate::virtio::{Driver, Kind};
use pleat_bundle::config::{GuestConfig, Pages};

/// The number of the n-th page.
const fn nth(n: u64) -> u64 {
    FIRST + n
}

fn pages(range: std::ops::Range<u64>) -> Vec<u64> {
    range.map(nth).collect()
}

fn stores(range: std::ops::Range<u64>) -> Vec<Op> {
    fill(range.map(|n| (n, n + 1)))
}

fn zeros(range: std::ops::Range<u64>) -> Vec<Op> {
    range.map(|n| Op::ExpectPage(page(n), 0)).collect()
}

/// Runs a guest with a balloon; statistics at these events.
fn run(config: GuestConfig<'static>, program: Vec<Op>, events: &[&'static str]) -> Report {
    let name = config.name;
    let mut machine = Machine::new(vec![(config, program)]);
    machine.memory_bytes = 24 << 20;
    machine.config.script = stats_when(name, events).into_iter().collect();
    machine.config.for_ms = Some(50);
    machine.run()
}

#[test]
fn inflated_pages_go_back_to_the_pool_at_once_and_are_zeros_when_they_are_touched() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then(stores(0..10)).event("full");
    driver.inflate(&pages(0..10)).event("inflated");
    driver
        .then(zeros(0..2))
        .then([Op::Store(page(2) + 8, 5), Op::Expect(page(2), 0)])
        .then([Op::Expect(page(2) + 8, 5)])
        .event("touched");
    driver.deflate(&pages(0..10)).event("deflated");
    let program = driver
        .then(zeros(3..10))
        .then([Op::Expect(page(2) + 8, 5)])
        .finish(sleep());
    let events = ["full", "inflated", "touched", "deflated"];
    let report = run(equipped("a", "a", &[Kind::Balloon]), program, &events);
    let at = |what| [0, 1, 2, 3].map(|n| report.then(n, "a", what));
    assert_eq!(at("ballooned"), [0, 10, 7, 0]);
    let unique = report.then(0, "a", "unique");
    assert_eq!(at("unique"), [unique, unique - 10, unique - 9, unique - 9]);
    assert_eq!(at("inflated"), [0, 10, 10, 10]);
    assert_eq!(at("deflated"), [0, 0, 0, 10]);
    let free = |n| report.host_then(n, "frames_free");
    assert_eq!(free(1), free(0) + 10);
    assert_eq!(free(2), free(1) - 1);
    // Two reads and a write; what was deflated before is touched like any other page.
    assert_eq!(fault(&report, "a", "deflated"), 3);
    let promised = report.then(1, "a", "frames_promised");
    let sum: u64 = ["unique", "zero", "untouched", "ballooned"]
        .iter()
        .map(|what| report.then(1, "a", what))
        .sum();
    // The page of the MSI-X tables is RAM beside what is promised.
    assert_eq!(sum, promised + 1);
    report.check_memory();
}

#[test]
fn a_page_may_be_named_more_than_once_and_in_any_order() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then(stores(0..6));
    driver.inflate(&[nth(3), nth(0), nth(3), nth(0)]);
    driver.inflate(&[nth(3)]);
    driver.event("twice");
    driver.deflate(&[nth(3), nth(3), nth(5), nth(1)]);
    driver.deflate(&[nth(3)]);
    driver.then([Op::Store(page(3), 9)]);
    // Not in the balloon any more: nothing happens to it.
    driver.deflate(&[nth(3)]).event("out");
    let program = driver
        .then([Op::Expect(page(3), 9), Op::ExpectPage(page(1), 2)])
        .finish(sleep());
    let report = run(equipped("a", "a", &[Kind::Balloon]), program, &["twice", "out"]);
    assert_eq!(report.then(0, "a", "ballooned"), 2);
    assert_eq!(report.then(1, "a", "ballooned"), 1);
    report.check_memory();
}

/// Numbers of pages that are no RAM of a guest with 4 MiB, memory that can be plugged and a disk.
fn no_ram() -> Vec<u64> {
    vec![
        0x400,
        0x3ff_ffff,
        // The hole for devices, behind the page of the MSI-X tables.
        0xc_0001,
        0xf_ee00,
        // Memory that is not plugged, and the disk's pages: unwritten and written ones.
        0x10_0000,
        0x10_0200,
        0x14_0000,
        0x14_0001,
        0x14_000f,
        u64::from(u32::MAX),
    ]
}

#[test]
fn numbers_that_are_no_ram_change_nothing() {
    let kinds = [Kind::Balloon, Kind::Mem, Kind::Block];
    let mut driver = Driver::of(&kinds);
    driver.then(stores(0..4));
    driver.write_disk(8, page(0), 8).event("before");
    driver.pretend_to_inflate(&no_ram());
    driver.deflate(&no_ram());
    let ranges: Vec<(u64, u64)> = no_ram().iter().map(|first| (*first, 3)).collect();
    driver.pretend_to_report(&ranges);
    driver.pretend_to_report(&[(0x3f_0000, 0x1_0000)]);
    driver.pretend_to_report(&[(0xb_ff00, 0xfff)]);
    driver.event("after");
    driver.read_disk(0, page(8), vec![3; 4096]);
    driver.read_disk(8, page(9), page_of(1).to_vec());
    let program = driver.then(zeros(10..11)).finish(sleep());
    let mut machine = Machine::new(vec![(equipped("a", "a", &kinds), program)]);
    machine.memory_bytes = 24 << 20;
    machine.disk = Some(vec![3; 64 << 10]);
    machine.config.script = stats_when("a", &["before", "after"]).into_iter().collect();
    machine.config.for_ms = Some(50);
    let report = machine.run();
    for what in [
        "unique",
        "zero",
        "untouched",
        "ballooned",
        "overlay",
        "plugged",
        "frames_promised",
    ] {
        let [before, after] = [0, 1].map(|n| report.then(n, "a", what));
        assert_eq!(before, after, "{what}");
    }
    assert_eq!(report.then(1, "a", "overlay"), 1);
    report.check_memory();
}

#[test]
fn what_was_never_ram_is_none_after_any_report_or_inflation() {
    for at in [0x400u64, 0x10_0000, 0x14_0001, 0xc_0001] {
        let kinds = [Kind::Balloon, Kind::Mem, Kind::Block];
        let mut driver = Driver::of(&kinds);
        driver.pretend_to_inflate(&[at]);
        driver.deflate(&[at]);
        driver.pretend_to_report(&[(at, 1)]);
        driver.pretend_to_report(&[(at & !0x1ff, 0x200)]);
        let program = driver.finish([Op::Store(at << 12, 1)]);
        let mut machine = Machine::new(vec![(equipped("a", "a", &kinds), program)]);
        machine.disk = Some(vec![3; 64 << 10]);
        let report = machine.run();
        let guest = report.guest("a");
        assert_eq!(guest["state"], "stopped", "{at:#x}: {guest}");
        let reason = guest["reason"].as_str().expect("a text");
        assert!(reason.contains(&format!("{:#x}", at << 12)), "{reason}");
    }
}

#[test]
fn the_page_of_the_msix_tables_is_ram_like_any_other() {
    let msix = 0xc_0000u64;
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then([Op::Store((msix << 12) + 0x800, 77)]).event("before");
    driver.inflate(&[msix]).event("in");
    driver.deflate(&[msix]).event("out");
    let program = driver.then([Op::Expect((msix << 12) + 0x800, 0)]).finish(sleep());
    let report = run(
        equipped("a", "a", &[Kind::Balloon]),
        program,
        &["before", "in", "out"],
    );
    let at = |what| [0, 1, 2].map(|n| report.then(n, "a", what));
    assert_eq!(at("ballooned"), [0, 1, 0]);
    report.check_memory();
}

#[test]
fn merged_pages_leave_the_frame_to_those_who_share_it() {
    for has_dirty_log in [false, true] {
        let equal = || fill((0..8).map(|n| (n, 7)));
        let mut driver = Driver::of(&[Kind::Balloon]);
        driver.then(equal()).then(wait(8)).event("merged");
        driver.inflate(&pages(0..3)).event("in");
        driver.then(zeros(0..1)).then([Op::Store(page(1), 1)]);
        driver.deflate(&pages(1..3));
        let program = driver.then(zeros(2..3)).finish(sleep());
        let mut neighbour = in_domain("b", "one");
        neighbour.memory_bytes = 4 << 20;
        let seen = (0..8).map(|n| Op::ExpectPage(page(n), 7));
        let other = [equal(), wait(24), seen.collect(), sleep()].concat();
        let guests = vec![
            (equipped("a", "one", &[Kind::Balloon]), program),
            (neighbour, other),
        ];
        let mut machine = machine(guests, has_dirty_log, 15);
        machine.config.script = stats_when("a", &["merged", "in"]).into_iter().collect();
        let report = machine.run();
        assert!(merge_at(&report, 0, "sharing") >= 15, "{}", report.stats());
        let shared = [0, 1].map(|n| report.then(n, "a", "shared"));
        assert_eq!(shared[1] + 3, shared[0]);
        assert_eq!(report.then(1, "a", "ballooned"), 3);
        assert_eq!(report.then(1, "b", "shared"), report.then(0, "b", "shared"));
        report.check_memory();
    }
}

#[test]
fn pages_of_zeros_go_into_the_balloon_as_well() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then(zeros(0..4)).event("read");
    driver.inflate(&pages(0..8)).event("in");
    let program = driver.then(zeros(0..8)).finish(sleep());
    let report = run(equipped("a", "a", &[Kind::Balloon]), program, &["read", "in"]);
    assert_eq!(report.then(0, "a", "zero"), 4);
    assert_eq!(report.then(1, "a", "zero"), 0);
    assert_eq!(report.then(1, "a", "ballooned"), 8);
    let [free, later] = [0, 1].map(|n| report.host_then(n, "frames_free"));
    assert_eq!(free, later, "nothing backed them");
    report.check_memory();
}

#[test]
fn a_part_of_a_large_page_leaves_the_rest_as_it_is() {
    let mut config = equipped("a", "a", &[Kind::Balloon]);
    config.pages = Pages::Large;
    let large = |n: u64| (0x200 + n) << 12;
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then((0..512).map(|n| Op::Store(large(n), n + 1)));
    driver.event("full");
    driver.inflate(&[0x200, 0x2ff, 0x3ff]).event("part");
    driver.then((1..255).map(|n| Op::Expect(large(n), n + 1)));
    let all: Vec<u64> = (0x200..0x400).collect();
    driver.inflate(&all[..256]);
    driver.inflate(&all[256..]);
    driver.event("all");
    let program = driver
        .then([Op::ExpectPage(large(5), 0), Op::Store(large(6), 8)])
        .finish(sleep());
    let report = run(config, program, &["full", "part", "all"]);
    let at = |what| [0, 1, 2].map(|n| report.then(n, "a", what));
    assert_eq!(at("large")[0], 1);
    assert_eq!(at("large")[1], 0);
    assert_eq!(at("ballooned"), [0, 3, 512]);
    // One more for the table; at the end it is one entry again.
    let free = [0, 1, 2].map(|n| report.host_then(n, "frames_free"));
    assert_eq!(free[1], free[0] + 3 - 1);
    assert_eq!(free[2], free[0] + 512);
    report.check_memory();
}

#[test]
fn all_of_a_guests_free_memory_goes_in_and_comes_out_again_and_again() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    let all: Vec<u64> = (0x180..0x400).collect();
    for turn in 1..6u64 {
        driver.then(all.iter().map(|gfn| Op::Store(gfn << 12, gfn * turn)));
        driver.then([Op::Expect(0x3ff << 12, 0x3ff * turn)]);
        all.chunks(256).for_each(|pages| {
            driver.inflate(pages);
        });
        all.chunks(100).rev().for_each(|pages| {
            driver.deflate(pages);
        });
    }
    let program = driver.then([Op::ExpectPage(0x200 << 12, 0)]).finish([finish()]);
    let report = run(equipped("a", "a", &[Kind::Balloon]), program, &[]);
    report.assert_all_finished();
    assert_eq!(report.guest("a")["inflated"], 5 * 0x280);
}
