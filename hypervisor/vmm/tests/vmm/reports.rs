//! Free pages that guests report: gone, zeros when they are used again, and never what a guest uses.

use crate::equipped::{FIRST, equipped, stats_when};
use crate::fake::Op;
use crate::merging::{compare, fill, finish, in_domain, machine, page, sleep, wait};
use crate::scenario::Machine;
use crate::virtio::{Driver, Kind, output};
use crate::virtio_kinds::REPORTING;
use pleat_bundle::config::Pages;
use pleat_types::PortSize;

#[test]
fn reported_pages_are_untouched_and_zeros_when_they_are_used_again() {
    for pages in [Pages::Small, Pages::Large] {
        let mut config = equipped("a", "a", &[Kind::Balloon]);
        config.pages = pages;
        let mut driver = Driver::of(&[Kind::Balloon]);
        driver.then((0x200..0x400).map(|gfn| Op::Store(gfn << 12, gfn)));
        driver.event("full");
        driver.report(&[(0x210, 16), (0x300, 0x80)]).event("some");
        driver.then([Op::Expect(0x20f << 12, 0x20f), Op::Expect(0x380 << 12, 0x380)]);
        driver.then([Op::Store(0x210 << 12, 1), Op::Expect(0x300 << 12, 0)]);
        driver.report(&[(0x200, 0x200)]).event("all");
        let program = driver
            .then([Op::ExpectPage(0x210 << 12, 0), Op::Expect(0x3ff << 12, 0)])
            .finish(sleep());
        let mut machine = Machine::new(vec![(config, program)]);
        machine.memory_bytes = 24 << 20;
        machine.config.script = stats_when("a", &["full", "some", "all"]).into_iter().collect();
        machine.config.for_ms = Some(50);
        let report = machine.run();
        let at = |what| [0, 1, 2].map(|n| report.then(n, "a", what));
        let untouched = at("untouched");
        assert_eq!(untouched[1], untouched[0] + 16 + 0x80);
        assert_eq!(untouched[2], untouched[0] + 0x200);
        assert_eq!(at("reported"), [0, 0x90, 0x290]);
        assert_eq!(at("ballooned"), [0, 0, 0]);
        assert_eq!(
            report.host_then(2, "frames_tables"),
            report.host_then(0, "frames_tables") - u64::from(pages == Pages::Small)
        );
        report.check_memory();
    }
}

#[test]
fn what_is_used_again_before_the_device_looks_is_lost_and_later_nothing_is() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    for turn in 1..40u64 {
        driver.then(fill((0..32).map(|n| (n, turn * 100 + n))));
        driver.report(&[(FIRST + turn % 16, 8), (FIRST + 30, 1)]);
        // Used again at once, in another order than it was reported.
        let used = (turn % 16..turn % 16 + 8).rev();
        driver.then(used.clone().map(|n| Op::Store(page(n) + 16, turn)));
        driver.then(used.clone().map(|n| Op::Expect(page(n) + 16, turn)));
        driver.then(used.map(|n| Op::Expect(page(n) + 8, 0)));
        driver.then(compare([(29, turn * 100 + 29), (31, turn * 100 + 31), (30, 0)]));
    }
    let program = driver.finish([finish()]);
    for has_dirty_log in [false, true] {
        let neighbour = [
            fill((0..32).map(|n| (n, n))),
            wait(30),
            compare((0..32).map(|n| (n, n))),
        ];
        let guests = vec![
            (equipped("a", "one", &[Kind::Balloon]), program.clone()),
            (
                in_domain("b", "one"),
                [neighbour.concat(), vec![finish()]].concat(),
            ),
        ];
        let mut machine = machine(guests, has_dirty_log, 60);
        machine.config.merge.epoch_us = 20;
        machine.config.slice_us = 10;
        machine.run().assert_all_finished();
    }
}

/// Reports a page with this poison value; says how many pages were taken.
fn with_poison(value: u64) -> (u64, bool) {
    let mut driver = Driver::new();
    driver.start(Kind::Balloon, 1 << 1 | 1 << 4 | 1 << 5, 4);
    driver.then([output(Kind::Balloon.port() + 0x8c, PortSize::Dword, value)]);
    driver.then(fill([(0, 9)]));
    driver.event("before");
    driver.pretend_to_report(&[(FIRST, 1)]);
    let program = driver.event("after").finish(sleep());
    let mut machine = Machine::new(vec![(equipped("a", "a", &[Kind::Balloon]), program)]);
    machine.config.script = stats_when("a", &["before", "after"]).into_iter().collect();
    machine.config.for_ms = Some(10);
    let report = machine.run();
    let eptp = report.platform.progress[&0].eptp;
    let is_there = report.platform.memory.look_up(eptp, page(0)).is_some();
    (report.then(1, "a", "reported"), is_there)
}

#[test]
fn pages_with_poison_stay_as_they_are() {
    assert_eq!(with_poison(0), (1, false));
    assert_eq!(with_poison(0xaaaa_aaaa), (0, true));
}

#[test]
fn a_report_in_parts_and_with_crooked_ends_takes_whole_pages_only() {
    let mut driver = Driver::of(&[Kind::Balloon]);
    driver.then(fill((0..8).map(|n| (n, n + 1))));
    // From within page 0 to within page 4.
    let buffer = crate::virtio::to_guest(page(0) + 1, 4 * 4096);
    driver.chain(Kind::Balloon, REPORTING, &[buffer]);
    driver.notify(Kind::Balloon, REPORTING);
    (1..4).for_each(|n| {
        driver.becomes(page(n), vec![0; 4096]);
    });
    driver.expect_used(Kind::Balloon, REPORTING, 0);
    let kept = compare([(0, 1), (1, 0), (3, 0), (4, 5), (7, 8)]);
    let program = driver.then(kept).finish([finish()]);
    let report = Machine::new(vec![(equipped("a", "a", &[Kind::Balloon]), program)]).run();
    report.assert_all_finished();
    assert_eq!(report.guest("a")["reported"], 3);
}
