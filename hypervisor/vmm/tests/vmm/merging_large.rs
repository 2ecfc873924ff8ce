//! Mappings of 2 MiB: split where duplicates pay, put together again where they do not.

use crate::fake::{Op, TSC_HZ};
use crate::merging::{
    LOADED, at, compare, fault, fill, in_domain, machine, merge, merge_at, number, sleep, wait,
};
use crate::merging_breaks::assert_audits_clean;
use crate::scenario::{Machine, Report};
use pleat_bundle::config::{GuestConfig, Pages};

/// The first of the 512 pages that one mapping can have, counted as the tests of merging do.
const FIRST: u64 = (0x40_0000 - crate::merging::PAGES) >> 12;

fn large(name: &'static str) -> GuestConfig<'static> {
    let mut config = in_domain(name, "d");
    config.pages = Pages::Large;
    config.memory_bytes = 8 << 20;
    config
}

/// 512 pages with as many different contents.
fn pages(contents: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    (0..512).map(move |n| (FIRST + n, n % contents + 1))
}

fn quick(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, has_dirty_log: bool, for_ms: u64) -> Machine {
    let mut machine = machine(guests, has_dirty_log, for_ms);
    machine.memory_bytes = 32 << 20;
    machine.config.merge.pace = Some(TSC_HZ);
    machine
}

fn of(report: &Report, what: &str) -> u64 {
    number(&report.guest("a")[what])
}

#[test]
fn a_mapping_with_many_duplicates_is_split_and_merged() {
    for has_dirty_log in [false, true] {
        let program = [fill(pages(128)), wait(20), compare(pages(128)), sleep()].concat();
        let report = quick(vec![(large("a"), program)], has_dirty_log, 10).run();
        assert_eq!(fault(&report, "a", "large"), 1);
        assert_eq!((merge(&report, "split"), of(&report, "large")), (1, 0));
        assert_eq!((merge(&report, "shared"), merge(&report, "sharing")), (128, 384));
        report.check_memory();
    }
}

#[test]
fn a_mapping_with_few_duplicates_stays_whole() {
    for has_dirty_log in [false, true] {
        let program = [fill(pages(512)), wait(20), compare(pages(512)), sleep()].concat();
        let report = quick(vec![(large("a"), program)], has_dirty_log, 10).run();
        assert_eq!((merge(&report, "split"), of(&report, "large")), (0, 1));
        assert!((1..=2).contains(&merge(&report, "sampled")));
        assert_eq!(merge(&report, "sharing"), 0);
    }
}

#[test]
fn a_mapping_of_a_few_contents_is_split_whichever_they_are() {
    for contents in [1, 2, 3, 5, 8] {
        let program = [fill(pages(contents)), wait(20), compare(pages(contents)), sleep()].concat();
        let report = quick(vec![(large("a"), program)], true, 10).run();
        assert_eq!(merge(&report, "split"), 1, "{contents} contents");
        assert_eq!(merge(&report, "shared"), contents);
    }
}

#[test]
fn the_threshold_decides() {
    // One content in four is there twice.
    let some = || (0..512).map(|n| (FIRST + n, if n >= 384 { n - 384 } else { n } + 1));
    let split = [5, 60].map(|percent| {
        let program = [fill(some()), wait(20), sleep()].concat();
        let mut machine = quick(vec![(large("a"), program)], true, 10);
        machine.config.merge.split_percent = percent;
        merge(&machine.run(), "split")
    });
    assert_eq!(split, [1, 0]);
}

#[test]
fn what_was_split_and_is_written_all_over_is_copied_together() {
    for has_dirty_log in [false, true] {
        let all = || pages(512).map(|(n, word)| (n, word + 1000));
        let program = [
            fill(pages(128)),
            wait(20),
            fill(all()),
            wait(20),
            compare(all()),
            // Written through the new mapping.
            vec![Op::Store(0x40_0010, 7), Op::Expect(0x40_0010, 7)],
            sleep(),
        ];
        let mut machine = quick(vec![(large("a"), program.concat())], has_dirty_log, 15);
        machine.config.script.push(at(4000, "stats"));
        for micros in [4000, 5000, 6000, 9000, 14_000] {
            machine.config.script.push(at(micros, "audit"));
        }
        let report = machine.run();
        assert_eq!(merge_at(&report, 0, "sharing"), 384);
        assert_eq!((merge(&report, "collapsed"), of(&report, "large")), (1, 1));
        assert_eq!((merge(&report, "shared"), merge(&report, "sharing")), (0, 0));
        assert_audits_clean(&report.answers());
        report.check_memory();
    }
}

#[test]
fn equal_mappings_of_two_guests_are_both_split() {
    for has_dirty_log in [false, true] {
        let program = [fill(pages(512)), wait(40), compare(pages(512)), sleep()].concat();
        let guests = vec![(large("a"), program.clone()), (large("b"), program)];
        let report = quick(guests, has_dirty_log, 18).run();
        assert_eq!(merge(&report, "split"), 2);
        assert_eq!(merge(&report, "sharing"), 512 + LOADED);
        report.check_memory();
    }
}

#[test]
fn what_lies_where_it_lay_before_the_split_is_put_together_in_place() {
    for has_dirty_log in [false, true] {
        let again = |more: u64| pages(512).map(move |(n, word)| (n, word + more));
        let rewrite = |epochs, more| {
            [
                fill(pages(512)),
                wait(epochs),
                fill(again(more)),
                wait(60 - epochs),
                compare(again(more)),
                sleep(),
            ]
            .concat()
        };
        // One writes all it shares and gets copies; then the frames are the other's, one behind the other.
        let guests = vec![
            (large("copies"), rewrite(30, 1000)),
            (large("a"), rewrite(40, 2000)),
        ];
        let mut machine = quick(guests, has_dirty_log, 30);
        // Free memory, but not enough of it to copy 2 MiB together.
        machine.memory_bytes = 12 << 20;
        machine.config.script.push(at(9000, "stats"));
        let report = machine.run();
        assert_eq!(merge_at(&report, 0, "split"), 2);
        assert_eq!(merge_at(&report, 0, "sharing"), 512 + LOADED);
        assert_eq!(report.stats()["host"]["state"], "high");
        assert_eq!(fault(&report, "copies", "share-broken"), 512);
        assert_eq!(fault(&report, "a", "share-taken"), 512);
        assert_eq!((merge(&report, "collapsed"), of(&report, "large")), (1, 1));
        report.check_memory();
    }
}
