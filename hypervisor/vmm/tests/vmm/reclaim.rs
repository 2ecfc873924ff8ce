//! Pages that are taken by force, and come back.

use crate::fake::Op;
use crate::merging::{at, compare, fault, fill, finish, in_domain, machine, number, page, sleep, wait};
use crate::merging_breaks::{assert_audits_clean, audits, reboot};
use crate::scenario::{Machine, Report};
use pleat_bundle::config::{GuestConfig, Merge, MergeConfig, OnReboot, Pages, ReclaimConfig, Start};
use pleat_vmm::Outcome;

/// As long as an epoch of these tests.
const GENERATION_US: u32 = 200;
/// More epochs than a page has to be unused for to be taken, and for all pages to be looked at.
const LONG: u64 = 12;

fn cold(generations: u8) -> ReclaimConfig {
    ReclaimConfig {
        is_on: true,
        generation_us: GENERATION_US,
        cold_generations: Some(generations),
        compressed_percent: 50,
    }
}

fn apart(name: &'static str) -> GuestConfig<'static> {
    let mut config = in_domain(name, name);
    config.merge = Merge::Off;
    config
}

fn with(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, reclaim: ReclaimConfig, for_ms: u64) -> Machine {
    let mut machine = machine(guests, true, for_ms);
    machine.config.reclaim = reclaim;
    machine
}

fn swap(report: &Report, what: &str) -> u64 {
    number(&report.stats()["swap"][what])
}

fn compressed(report: &Report, guest: &str) -> u64 {
    number(&report.guest(guest)["compressed"])
}

/// Two words that differ on each page: such a page is packed, and its words are not all one.
fn mark(pages: std::ops::Range<u64>) -> Vec<Op> {
    pages.map(|n| Op::Store(page(n) + 8, 1000 + n)).collect()
}

fn check_marks(pages: std::ops::Range<u64>) -> Vec<Op> {
    pages.map(|n| Op::Expect(page(n) + 8, 1000 + n)).collect()
}

#[test]
fn cold_pages_leave_their_frames_and_come_back_as_they_were() {
    let marked = || [fill((0..20).map(|n| (n, n + 1))), mark(0..10)].concat();
    let reads = [check_marks(0..10), compare((10..20).map(|n| (n, n + 1)))].concat();
    let writes = (0..20).map(|n| Op::Store(page(n) + 16, n)).collect();
    let kept = [marked(), sleep()].concat();
    let read = [marked(), wait(LONG), reads, sleep()].concat();
    let written = [marked(), wait(LONG), writes, sleep()].concat();
    let guests = vec![
        (apart("kept"), kept),
        (apart("read"), read),
        (apart("written"), written),
    ];
    let report = with(guests, cold(2), 30).run();
    assert!(compressed(&report, "kept") >= 20);
    // The others' are cold again by the end; all came back once.
    for name in ["read", "written"] {
        assert!(fault(&report, name, "swapped-in") >= 20, "{name}");
    }
    assert_eq!(fault(&report, "kept", "swapped-in"), 0);
    assert!(swap(&report, "stores") >= 60 && swap(&report, "loads") >= 40);
    assert_eq!(swap(&report, "checksum_errors"), 0);
    report.check_memory();
}

#[test]
fn pages_in_use_stay() {
    let uses = |n: u64| [Op::Store(page(n), n), Op::Spin(u64::from(GENERATION_US) * 50)];
    let mut program = fill((0..8).map(|n| (n, n + 1)));
    let first = program.len();
    program.extend((0..8).flat_map(uses));
    program.push(Op::Jump(first));
    let report = with(vec![(apart("busy"), program)], cold(16), 20).run();
    assert_eq!(fault(&report, "busy", "swapped-in"), 0);
}

#[test]
fn pages_that_shared_a_frame_share_one_again_when_they_are_back() {
    let same = || [fill((0..6).map(|n| (n, 7))), mark(0..6)].concat();
    // Equal pages of two guests; the mark differs from page to page, so there are six shared frames.
    let reader = [same(), wait(LONG), check_marks(0..6), wait(1), sleep()].concat();
    let guests = vec![
        (in_domain("a", "one"), reader.clone()),
        (in_domain("b", "one"), reader),
    ];
    let mut machine = with(guests, cold(4), 9);
    // They are looked at before the next time that they are cold.
    machine.config.script.push(at(3_100, "stats"));
    machine
        .config
        .script
        .extend([at(3_300, "stats"), at(4_000, "stats")]);
    let report = machine.run();
    let out = &report.of_kind("stats")[0]["record"];
    assert!(number(&out["swap"]["compressed"]) >= 6, "{}", out["swap"]);
    assert_eq!(number(&out["guests"][0]["shared"]), 0);
    let unpacked = report.stats()["swap"]["loads"].as_u64();
    assert!(unpacked >= Some(6));
    assert!(fault(&report, "a", "swapped-in") >= 6 && fault(&report, "b", "swapped-in") >= 6);
    // Nobody wrote: no share was broken, and nothing had to be merged a second time to be shared.
    assert_eq!(
        fault(&report, "a", "share-broken") + fault(&report, "b", "share-broken"),
        0
    );
    report.check_memory();
}

#[test]
fn a_guest_that_ends_or_restarts_leaves_nothing_in_the_store() {
    let fills = || [fill((0..30).map(|n| (n, n + 1))), mark(0..30), wait(LONG)].concat();
    let mut restarts = apart("restarts");
    restarts.on_reboot = OnReboot::Restart;
    let guests = vec![
        (apart("ends"), [fills(), vec![finish()]].concat()),
        (apart("killed"), [fills(), sleep()].concat()),
        (restarts, [fills(), vec![reboot()]].concat()),
    ];
    let mut machine = with(guests, cold(2), 20);
    machine
        .config
        .script
        .extend([at(9_000, "kill killed"), audits(700)]);
    let report = machine.run();
    assert_audits_clean(&report.answers());
    assert!(swap(&report, "stores") > 90);
    let left: u64 = ["ends", "killed"]
        .map(|name| compressed(&report, name))
        .iter()
        .sum();
    assert_eq!(left, 0);
    assert_eq!(compressed(&report, "restarts"), swap(&report, "compressed"));
}

#[test]
fn guests_that_do_not_fit_all_end_when_what_they_have_can_be_packed() {
    let guests = ["a", "b", "c"].map(|name| {
        let mut config = apart(name);
        config.memory_bytes = 6 << 20;
        let pages = 0..1100;
        let program = [
            fill(pages.clone().map(|n| (n, n + 1))),
            mark(pages.clone()),
            wait(LONG),
            check_marks(pages),
            vec![finish()],
        ];
        (config, program.concat())
    });
    let mut machine = with(guests.to_vec(), ReclaimConfig::default(), 3_000);
    machine.memory_bytes = 9 << 20;
    machine.config.reclaim.generation_us = GENERATION_US;
    machine.config.merge = MergeConfig::OFF;
    let report = machine.run();
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.stats()["failures"]);
    for name in ["a", "b", "c"] {
        assert_eq!(report.guest(name)["reason"], "finished", "{name}");
    }
    assert!(swap(&report, "stores") > 500, "{}", report.stats());
}

#[test]
fn large_mappings_that_are_cold_are_split_and_taken() {
    let mut config = apart("large");
    config.pages = Pages::Large;
    config.memory_bytes = 6 << 20;
    let first_of_block = (0x20_0000 - page(0)) >> 12;
    let block = first_of_block..first_of_block + 512;
    let program = [
        fill(block.clone().map(|n| (n, n))),
        mark(block.clone()),
        wait(LONG * 2),
        check_marks(block),
        sleep(),
    ];
    let mut machine = with(vec![(config, program.concat())], cold(2), 40);
    machine.config.script.push(at(8_000, "stats"));
    let report = machine.run();
    assert!(fault(&report, "large", "large") >= 1);
    let before = &report.of_kind("stats")[0]["record"]["guests"][0];
    assert!(number(&before["compressed"]) >= 512, "{}", before["compressed"]);
    assert!(fault(&report, "large", "swapped-in") >= 512);
    report.check_memory();
}

#[test]
fn the_console_tells_what_was_taken_from_whom_and_why() {
    let program = [fill((0..20).map(|n| (n, n + 1))), mark(0..20), sleep()].concat();
    let mut machine = with(vec![(apart("a"), program)], cold(2), 12);
    let commands = [
        "age a",
        "swap",
        "reclaim",
        "why a",
        "reclaim off",
        "reclaim maybe",
    ];
    let steps = commands.iter().map(|command| at(10_000, command));
    machine.config.script.extend(steps);
    let answers = machine.run().answers();
    for expected in [
        "unused for 31 or more",
        "in the swap store",
        "bytes of a page for each byte that it takes packed",
        "pages that were not used for 2 generations are taken whatever there is",
        "pages were taken from it because they had not been used for long",
        "reclaim is off",
        "`reclaim` takes nothing, on, or off",
    ] {
        assert!(answers.contains(expected), "{expected}: {answers}");
    }
    assert!(
        answers.lines().all(|line| line.chars().count() <= 100),
        "{answers}"
    );
}

#[test]
fn a_guest_that_is_started_waits_for_room_which_is_made_for_it() {
    let holds = |name| {
        let mut config = apart(name);
        config.memory_bytes = 4 << 20;
        (config, [mark(0..420), sleep()].concat())
    };
    let mut later = apart("later");
    later.start = Start::Later;
    let guests = vec![
        holds("a"),
        holds("b"),
        holds("c"),
        (later, [mark(0..4), check_marks(0..4), vec![finish()]].concat()),
    ];
    let mut config = cold(1);
    config.cold_generations = None;
    let mut machine = with(guests, config, 60);
    machine.memory_bytes = 6 << 20;
    machine
        .config
        .script
        .extend([at(9_000, "stats"), at(9_000, "start later"), at(9_050, "stats")]);
    let report = machine.run();
    let before = &report.of_kind("stats")[0]["record"]["host"]["frames_free"];
    assert!(number(before) < 256, "{before}");
    let asked = &report.of_kind("stats")[1]["record"]["guests"][3];
    assert_eq!(asked["state"], "unstarted");
    assert_eq!(report.guest("later")["reason"], "finished");
    assert!(swap(&report, "stores") > 0);
    report.check_memory();
}
