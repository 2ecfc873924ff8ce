//! Each frame that is asked for is refused once: whoever asked waits, or does without, and all goes on.

use crate::fake::Op;
use crate::fake_disk::FakeDisk;
use crate::merging::{at, compare, fault, fill, finish, in_domain, machine, merge, number, page, wait};
use crate::merging_breaks::{assert_audits_clean, audits};
use crate::scenario::{Machine, Report};
use pleat_bundle::config::{GuestConfig, Pages, ReclaimConfig};
use pleat_overcommit::ledger::refusals;
use serde_json::Value;
use std::ops::Range;

/// Pages of a small guest that have different words, and pages of equal words that are the same in all.
const MARKED: u64 = 8;
const EQUAL: std::ops::Range<u64> = 100..104;
/// The first page of 2 MiB.
const LARGE: u64 = (0x20_0000 - page(0)) >> 12;
/// Frames that the disk takes at the start, and some more before the first guest begins.
const AT_BOOT: u64 = 80;
const NO_EXCUSE: &str = "there is none";
/// Frames that are kept for a guest that never wants them: for the others there is hardly enough.
const KEPT: u64 = 1020;

fn marks(pages: Range<u64>) -> Vec<Op> {
    pages.map(|n| Op::Store(page(n) + 8, 1000 + n)).collect()
}

fn check_marks(pages: Range<u64>) -> Vec<Op> {
    pages.map(|n| Op::Expect(page(n) + 8, 1000 + n)).collect()
}

/// Fills pages, finds them again when they were cold, breaks those that were merged, and ends.
fn small(name: &'static str, rest: u64) -> (GuestConfig<'static>, Vec<Op>) {
    let equal = || EQUAL.map(|n| (n, n));
    let program = [
        fill((0..MARKED).map(|n| (n, n + 1))),
        marks(0..MARKED),
        fill(equal()),
        // Long enough to be merged, and not to be cold.
        wait(1),
        vec![Op::Store(page(EQUAL.start) + 16, 7)],
        wait(rest),
        check_marks(0..MARKED),
        compare(equal().skip(1)),
        EQUAL.map(|n| Op::Store(page(n) + 16, n)).collect(),
        wait(rest),
        EQUAL.map(|n| Op::Expect(page(n) + 16, n)).collect(),
        check_marks(0..MARKED),
        vec![finish()],
    ];
    (in_domain(name, "one"), program.concat())
}

/// 2 MiB that grow cold as a whole, and of which some pages come back.
fn large() -> (GuestConfig<'static>, Vec<Op>) {
    let mut config = in_domain("large", "two");
    config.pages = Pages::Large;
    config.memory_bytes = 4 << 20;
    // Enough of them differ to be written to a disk in one request.
    let marked = LARGE..LARGE + 32;
    let program = [
        marks(marked.clone()),
        wait(10),
        check_marks(marked),
        vec![finish()],
    ];
    (config, program.concat())
}

/// Guests that fill a small machine, whose pages are merged, taken, brought back and parted.
fn scenario(has_disk: bool) -> Machine {
    let mut sleeps = in_domain("sleeps", "three");
    sleeps.memory_bytes = 8 << 20;
    sleeps.terms.reservation_bytes = KEPT << 12;
    let guests = vec![
        // Who ends last: then there is memory for whoever still waits.
        (sleeps, [wait(20), vec![finish()]].concat()),
        small("a", 7),
        small("dies", 60),
        large(),
    ];
    let mut machine = machine(guests, true, 30);
    machine.memory_bytes = 8 << 20;
    machine.host_disk = has_disk.then(|| FakeDisk::new(1000, 20_000));
    machine.config.reclaim = ReclaimConfig {
        is_on: true,
        generation_us: 200,
        cold_generations: Some(4),
        compressed_percent: if has_disk { 0 } else { 50 },
    };
    machine
        .config
        .script
        .extend([at(3_000, "kill dies"), audits(2_000)]);
    machine
}

/// Nobody fails, but who is to start just then, or for this reason. Whether all have done what they were to do.
fn check(report: &Report, numbers: &Range<u64>, excuse: &str) -> bool {
    assert_audits_clean(&report.answers());
    let has_finished = |name| {
        let reason = report.guest(name)["reason"].as_str().expect("a text");
        let is_excused = reason.contains("too little free memory to load it") || reason.contains(excuse);
        assert!(
            reason == "finished" || is_excused,
            "{numbers:?}: {name}: {reason}"
        );
        reason == "finished"
    };
    let have_finished = ["sleeps", "a", "large"].map(has_finished);
    let failures = report.stats()["failures"].as_array().expect("a list");
    let is_excused = |failure: &Value| {
        let text = failure.as_str().expect("a text");
        text.contains("could not start") || text.contains(excuse)
    };
    assert!(failures.iter().all(is_excused), "{numbers:?}: {failures:?}");
    have_finished == [true; 3]
}

/// Refuses so many frames in a row from each of these on, as long as there are any to refuse. How many runs did all that
/// they were to do.
fn refuse_each(has_disk: bool, firsts: impl Iterator<Item = u64>, count: u64, excuse: &str) -> u64 {
    let mut finished = 0;
    for first in firsts {
        let numbers = first..first + count;
        refusals::refuse(numbers.clone());
        let report = scenario(has_disk).run();
        finished += u64::from(check(&report, &numbers, excuse));
        if refusals::asked() <= first {
            break;
        }
    }
    finished
}

#[test]
fn nothing_goes_wrong_whichever_frame_is_refused() {
    // But the first: that is the frame of zeros, and without it nothing begins.
    let finished = refuse_each(false, 1.., 1, NO_EXCUSE);
    assert!(finished > 60, "{finished}");
}

#[test]
fn nothing_goes_wrong_whichever_frame_is_refused_and_there_is_a_disk() {
    // With a disk a run takes longer: this is a part of them.
    let finished = refuse_each(true, (AT_BOOT..).step_by(5), 1, NO_EXCUSE);
    assert!(finished > 12, "{finished}");
}

#[test]
fn nothing_goes_wrong_when_many_frames_are_refused_in_a_row() {
    // Where all are refused it looks as if there were no memory, and then somebody is stopped.
    for has_disk in [false, true] {
        let finished = refuse_each(has_disk, (1..).step_by(13), 17, "host out of memory");
        assert!(finished > 1, "{finished}");
    }
}

#[test]
fn the_scenario_does_all_that_it_is_for() {
    for has_disk in [false, true] {
        refusals::refuse(0..0);
        let report = scenario(has_disk).run();
        assert!(check(&report, &(0..0), NO_EXCUSE));
        assert_eq!(report.stats()["failures"], Value::Array(vec![]));
        assert!(refusals::asked() > 100, "{}", refusals::asked());
        assert!(
            merge(&report, "merged") > 0 && merge(&report, "broken") > 0,
            "{}",
            report.stats()
        );
        assert!(fault(&report, "large", "large") > 0 && fault(&report, "large", "swapped-in") > 0);
        assert_eq!(number(&report.stats()["swap"]["disk_loads"]) > 0, has_disk);
    }
}
