//! Merging and breaking when the host has no frame left.

use crate::fake::Op;
use crate::merging::{
    at, compare, fault, fill, finish, in_domain, machine, merge, merge_at, number, page, sleep, wait,
};
use crate::merging_breaks::assert_audits_clean;
use crate::scenario::{Machine, Report};
use pleat_bundle::config::{GuestConfig, ReclaimConfig};

fn sized(name: &'static str, domain: &'static str, mib: u64, weight: u32) -> GuestConfig<'static> {
    let mut config = in_domain(name, domain);
    config.memory_bytes = mib << 20;
    config.weight = weight;
    config
}

/// A machine of 8 MiB.
fn small(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, has_dirty_log: bool, for_ms: u64) -> Machine {
    let mut machine = machine(guests, has_dirty_log, for_ms);
    machine.memory_bytes = 8 << 20;
    machine
}

fn reason(report: &Report, guest: &str) -> String {
    report.guest(guest)["reason"]
        .as_str()
        .expect("a text")
        .to_string()
}

/// As many pages as this machine has frames, each with a content of its own.
fn everything() -> Vec<Op> {
    (0x200..0x200 + 2048).map(|n| Op::Store(page(n), n)).collect()
}

/// A guest that breaks so many shares when another one has taken every frame that demand can have.
fn breaks_without_memory(count: u64, has_dirty_log: bool) -> Report {
    let pages = || (0..40).map(|n| (n, 7));
    let breaks = (0..count).map(|n| Op::Store(page(n) + 8, n)).collect();
    let program = [fill(pages()), wait(70), breaks, sleep()].concat();
    let guests = vec![
        (sized("a", "d", 2, 200), program),
        (sized("filler", "e", 16, 100), [wait(20), everything()].concat()),
    ];
    let mut machine = small(guests, has_dirty_log, 25);
    machine.config.script.push(at(13_000, "stats"));
    machine.config.reclaim = ReclaimConfig::OFF;
    machine.run()
}

#[test]
fn a_share_is_broken_with_a_frame_of_the_reserve_while_demand_waits() {
    for has_dirty_log in [false, true] {
        // So many frames are kept for breaks: one in 256.
        let reserve = 1792 / 256;
        let report = breaks_without_memory(reserve, has_dirty_log);
        let host = &report.of_kind("stats")[0]["record"]["host"];
        assert_eq!(number(&host["frames_total"]) / 256, reserve);
        assert_eq!(
            number(&host["frames_free"]),
            reserve,
            "the filler waits for these"
        );
        assert_eq!(fault(&report, "filler", "waited"), 1);
        assert_eq!(fault(&report, "a", "share-broken"), reserve);
        assert_eq!(fault(&report, "a", "waited"), 0);
        report.check_memory();
        // Who breaks more shares waits like everybody, until somebody's memory comes back.
        let report = breaks_without_memory(reserve + 5, has_dirty_log);
        assert_eq!(fault(&report, "a", "waited"), 1);
        assert_eq!(fault(&report, "a", "share-broken"), reserve + 5);
        assert!(reason(&report, "filler").contains("host out of memory"));
        report.check_memory();
    }
}

#[test]
fn pages_that_fill_the_host_and_are_equal_make_room_for_more() {
    for has_dirty_log in [false, true] {
        // Three thousand pages on a machine of two thousand frames, one content after another.
        let pages = || (0..3000).map(|n| (0x200 + n, n % 50 + 1));
        let program = [fill(pages()), wait(10), compare(pages()), sleep()].concat();
        let guests = vec![
            (sized("a", "d", 32, 100), program),
            (sized("spins", "e", 2, 100), vec![Op::Spin(20_000), Op::Jump(0)]),
        ];
        let report = small(guests, has_dirty_log, 60).run();
        assert_eq!(report.guest("a")["state"], "running", "{}", reason(&report, "a"));
        assert_eq!(number(&report.guest("a")["shared"]), 3000);
        assert!(fault(&report, "a", "waited") >= 1);
        report.check_memory();
    }
}

#[test]
fn who_fills_the_host_alone_waits_for_merging_too() {
    for has_dirty_log in [false, true] {
        let pages = || (0..3000).map(|n| (0x200 + n, n % 50 + 1));
        let program = [fill(pages()), compare(pages()), vec![finish()]].concat();
        let mut machine = small(vec![(sized("a", "d", 32, 100), program)], has_dirty_log, 0);
        // Nothing but a look is left to wait for.
        machine.config.for_ms = None;
        let report = machine.run();
        assert_eq!(reason(&report, "a"), "finished", "{}", report.stats());
        assert!(fault(&report, "a", "waited") >= 1);
    }
}

/// Three guests share 700 pages each; then all of them write all of them at once. `contents` at most are different.
fn storm(contents: u64, has_dirty_log: bool) -> Report {
    let before = || (0..700).map(|n| (0x200 + n, n % 100 + 1));
    let guest = |number: u64| {
        let after = move || (0..700).map(move |n| (0x200 + n, 1000 + number * 1000 + n % contents));
        [
            fill(before()),
            wait(80),
            compare(before()),
            fill(after()),
            wait(20),
            compare(after()),
            sleep(),
        ]
        .concat()
    };
    let guests = vec![
        (sized("a", "d", 8, 300), guest(0)),
        (sized("b", "d", 8, 200), guest(1)),
        (sized("c", "d", 8, 100), guest(2)),
    ];
    let mut machine = small(guests, has_dirty_log, 150);
    machine.config.script.push(at(30_000, "stats"));
    for micros in (30..150).step_by(10) {
        machine.config.script.push(at(micros * 1000, "audit"));
    }
    machine.run()
}

#[test]
fn when_all_write_all_at_once_the_one_with_the_least_weight_is_stopped() {
    for has_dirty_log in [false, true] {
        let report = storm(u64::MAX, has_dirty_log);
        assert!(merge_at(&report, 0, "sharing") >= 1900);
        assert!(
            reason(&report, "c").contains("host out of memory"),
            "{}",
            reason(&report, "c")
        );
        assert_eq!(report.guest("a")["state"], "running");
        assert_eq!(report.guest("b")["state"], "running");
        assert_audits_clean(&report.answers());
        report.check_memory();
    }
}

#[test]
fn when_what_all_write_is_equal_again_merging_ends_the_shortage() {
    for has_dirty_log in [false, true] {
        let report = storm(60, has_dirty_log);
        let waits: u64 = ["a", "b", "c"]
            .map(|name| fault(&report, name, "waited"))
            .iter()
            .sum();
        assert!(waits >= 1);
        for name in ["a", "b", "c"] {
            assert_eq!(
                report.guest(name)["state"],
                "running",
                "{}",
                reason(&report, name)
            );
        }
        assert!(merge(&report, "sharing") >= 1900);
        assert_audits_clean(&report.answers());
        report.check_memory();
    }
}
