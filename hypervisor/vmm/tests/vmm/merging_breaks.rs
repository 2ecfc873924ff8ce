//! Writes to merged pages, and guests that end while they share.

use crate::fake::{Op, TSC_HZ, hypercall};
use crate::merging::{
    LOADED, at, compare, fault, fill, finish, in_domain, machine, merge, merge_at, number, page,
};
use crate::merging::{sleep, wait};
use crate::scenario::guest;
use pleat_bundle::config::{OnReboot, Step, When};
use pleat_types::{Exit, Gpr, PortAccess, PortSize, hypercall as calls};
use pleat_vmm::Outcome;

pub fn reboot() -> Op {
    let reset = PortAccess {
        port: 0xcf9,
        size: PortSize::Byte,
        is_read: false,
        is_string: false,
    };
    Op::Exits(Exit::Port(reset), vec![(Gpr::Rax, 6)])
}

/// An audit again and again.
pub fn audits(period_us: u64) -> Step<'static> {
    let when = When::Every {
        period_us,
        from_us: period_us,
    };
    let command = "audit";
    Step { when, command }
}

#[test]
fn a_write_of_any_kind_changes_the_writers_page_and_no_other() {
    for has_dirty_log in [false, true] {
        let pages = || (0..10).map(|n| (n, 0x0707_0707_0707_0707));
        let writes = vec![
            Op::Store(page(0), 1),
            Op::Store(page(1) + 4088, 2),
            Op::Store(page(2) + 2001, 3),
            // Over the end of a page, into one that is shared as well.
            Op::Store(page(3) + 4093, 0x8877_6655_4433_2211),
            Op::StorePage(page(6), 4),
            Op::Store(page(7), 0x0707_0707_0707_0707),
            Op::Store(page(0) + 8, 5),
            Op::Expect(page(0), 1),
            Op::Expect(page(0) + 16, 0x0707_0707_0707_0707),
            Op::Expect(page(3) + 4093, 0x8877_6655_4433_2211),
            Op::Expect(page(4) + 8, 0x0707_0707_0707_0707),
        ];
        let writer = [fill(pages()), wait(6), compare(pages()), writes, sleep()].concat();
        let reader = [
            fill(pages()),
            wait(6),
            compare(pages()),
            wait(12),
            compare(pages()),
            sleep(),
        ]
        .concat();
        let guests = vec![(in_domain("a", "d"), writer), (in_domain("b", "d"), reader)];
        let mut machine = machine(guests, has_dirty_log, 8);
        machine.config.script.push(at(1800, "stats"));
        let report = machine.run();
        assert_eq!(merge_at(&report, 0, "shared"), 1 + LOADED);
        assert_eq!(merge_at(&report, 0, "sharing"), 19 + LOADED);
        // Seven pages were written; the one that is what it was shares again.
        assert_eq!(fault(&report, "a", "share-broken"), 7);
        assert_eq!(number(&report.guest("a")["shared"]), 4 + LOADED);
        assert_eq!(number(&report.guest("b")["shared"]), 10 + LOADED);
        report.check_memory();
    }
}

#[test]
fn the_last_page_that_shares_a_frame_keeps_it() {
    for has_dirty_log in [false, true] {
        let pages = || (0..3).map(|n| (n, 7));
        let writes = || (0..3).map(|n| Op::Store(page(n) + 8, n)).collect();
        let program = [fill(pages()), wait(6), writes(), sleep()].concat();
        let report = machine(vec![(guest("a"), program)], has_dirty_log, 5).run();
        assert_eq!(fault(&report, "a", "share-broken"), 2);
        assert_eq!(fault(&report, "a", "share-taken"), 1);
        assert_eq!(merge(&report, "broken"), 3);
        assert_eq!(merge(&report, "broken_in_place"), 1);
        assert_eq!(merge(&report, "shared") + merge(&report, "sharing"), 0);
        report.check_memory();
    }
}

#[test]
fn guests_that_end_leave_the_others_what_they_shared() {
    for has_dirty_log in [false, true] {
        let pages = || (0..12).map(|n| (n, n % 5));
        let begin = || [fill(pages()), wait(8), compare(pages())].concat();
        let writes = pages().map(|(n, _)| Op::Store(page(n) + 16, n + 100)).collect();
        let guests = vec![
            (in_domain("killed", "d"), [begin(), sleep()].concat()),
            (
                in_domain("finishes", "d"),
                [begin(), wait(8), vec![finish()]].concat(),
            ),
            (
                in_domain("stays", "d"),
                [begin(), wait(30), compare(pages()), writes, sleep()].concat(),
            ),
        ];
        let mut machine = machine(guests, has_dirty_log, 20);
        machine.config.script.push(at(6000, "stats"));
        machine.config.script.push(at(6000, "kill killed"));
        machine.config.script.push(at(6050, "audit"));
        machine.config.script.push(audits(300));
        let report = machine.run();
        assert_eq!(report.guest("killed")["reason"], "killed");
        assert_eq!(report.guest("finishes")["reason"], "finished");
        assert!(merge_at(&report, 0, "sharing") > 20);
        assert_eq!(merge(&report, "shared"), LOADED);
        // What only it still held needs no copy: the kernel and the like are untouched, four frames are left.
        assert_eq!(fault(&report, "stays", "share-taken"), 4);
        assert_audits_clean(&report.answers());
        report.check_memory();
    }
}

pub fn assert_audits_clean(answers: &str) {
    let mut audits = answers.lines().filter(|line| line.starts_with("audit:"));
    let dirty = audits.find(|line| *line != "audit: clean");
    assert_eq!(dirty, None);
}

#[test]
fn guests_that_restart_all_the_time_share_all_the_time() {
    for has_dirty_log in [false, true] {
        let pages = || (0..8).map(|n| (n, n % 3));
        let program = |epochs| [fill(pages()), wait(epochs), compare(pages()), vec![reboot()]].concat();
        let guests = [("a", 5), ("b", 7), ("c", 12)].map(|(name, epochs)| {
            let mut config = in_domain(name, "d");
            config.on_reboot = OnReboot::Restart;
            (config, program(epochs))
        });
        let mut machine = machine(guests.to_vec(), has_dirty_log, 40);
        machine.config.script.push(audits(500));
        let report = machine.run();
        assert_eq!(report.outcome, Outcome::Ok);
        let restarts = report
            .of_kind("state")
            .iter()
            .filter(|record| record["reason"] == "restarted")
            .count();
        assert!(restarts >= 10, "{restarts}");
        assert!(merge(&report, "merged") > 60, "{}", report.stats()["merge"]);
        assert_audits_clean(&report.answers());
        report.check_memory();
    }
}

#[test]
fn pleat_reads_merged_pages_of_guests() {
    let text = u64::from_le_bytes(*b"pleat!\n\n");
    let program = [
        fill([(0, text), (1, text), (2, 1)]),
        fill([(2, 0)]),
        wait(6),
        vec![
            hypercall(calls::PRINT, page(1) + 4088, 7, 0),
            hypercall(calls::PRINT, page(0) + 4090, 3, 0),
            hypercall(calls::PRINT, page(2), 1, 0),
        ],
        sleep(),
    ];
    let mut machine = machine(vec![(guest("a"), program.concat())], true, 5);
    machine.config.script.push(at(1000, "stats"));
    let report = machine.run();
    assert_eq!(merge_at(&report, 0, "sharing"), 1);
    assert_eq!(merge_at(&report, 0, "zero"), 1);
    assert_eq!(report.output("a"), "pleat!\neat\0");
    assert_eq!(merge(&report, "broken"), 0);
}

#[test]
fn thousands_of_pages_share_one_frame_and_part_again() {
    const COUNT: u64 = 3000;
    let mut config = guest("a");
    config.memory_bytes = 16 << 20;
    let all = || (0x100..0x100 + COUNT).map(|n| (n, 7));
    let some = || all().filter(|(n, _)| n % 3 > 0);
    let part = some().map(|(n, _)| Op::Store(page(n) + 8, n)).collect();
    let program = [fill(all()), wait(40), part, sleep()].concat();
    let mut machine = machine(vec![(config, program)], false, 12);
    machine.config.merge.pace = Some(TSC_HZ);
    machine.memory_bytes = 32 << 20;
    machine.config.script.push(at(7000, "stats"));
    machine.config.script.push(at(7050, "audit"));
    machine.config.script.push(at(11_000, "audit"));
    let report = machine.run();
    assert_eq!(merge_at(&report, 0, "shared"), 1);
    assert_eq!(merge_at(&report, 0, "sharing"), COUNT - 1);
    assert_eq!(merge(&report, "sharing"), COUNT / 3 - 1);
    assert_audits_clean(&report.answers());
    report.check_memory();
}
