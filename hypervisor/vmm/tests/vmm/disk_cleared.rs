//! Disks whose guests discard, zero, and have written as much as they may.

use crate::disk::{PAGE, WINDOW, base, disk_guest, with_disk};
use crate::equipped::{stats_when, when};
use crate::fake::{Op, page_of};
use crate::merging::{fill, number, page, sleep};
use crate::scenario::Report;
use crate::virtio::{Driver, Kind};
use pleat_bundle::config::GuestConfig;

/// The frames that the host had free in each of its statistics.
fn free(report: &Report, times: usize) -> Vec<u64> {
    (0..times).map(|n| report.host_then(n, "frames_free")).collect()
}

fn word_page(word: u64) -> Vec<u8> {
    page_of(word).to_vec()
}

#[test]
fn what_is_discarded_is_free_at_once_and_reads_as_the_image() {
    let mut driver = Driver::of(&[Kind::Block]);
    driver.then(fill([(0, 100), (1, 101)]));
    for n in 1..9 {
        driver.write_disk(n * PAGE, page(n & 1), PAGE);
    }
    driver.write_disk(20 * PAGE, page(0), PAGE).event("written");
    // Parts of pages 1 and 8 stay; 2 to 7 go, and 20; what was not written is none of it.
    driver.clear_disk(11, &[(PAGE + 1, 7 * PAGE), (20 * PAGE, 12 * PAGE), (0, PAGE)], 0);
    driver.event("discarded");
    driver.read_disk(PAGE, page(4), word_page(101));
    driver.read_disk(8 * PAGE, page(5), word_page(100));
    for n in [2, 5, 7] {
        driver.read_disk(n * PAGE, page(6), base(n));
    }
    driver.read_disk(20 * PAGE, page(7), vec![0; 4096]);
    // Written again it begins with the image, and not with what it was.
    driver.write_disk(3 * PAGE + 2, page(0), 1);
    let mut partly = base(3);
    partly[1024..1536].copy_from_slice(&word_page(100)[..512]);
    driver.read_disk(3 * PAGE, page(8), partly);
    let program = driver.event("read").finish(sleep());
    let mut machine = with_disk(vec![(disk_guest("a", "a"), program)]);
    machine.config.merge.is_on = false;
    machine.config.script = stats_when("a", &["written", "discarded", "read"])
        .into_iter()
        .collect();
    machine.config.for_ms = Some(20);
    let report = machine.run();
    let overlay = [0, 1, 2].map(|n| report.then(n, "a", "overlay"));
    assert_eq!(overlay, [9, 2, 3]);
    let free = free(&report, 2);
    assert_eq!(
        free[1] - free[0],
        7,
        "at once, and no table: there are others in it"
    );
    report.check_memory();
}

#[test]
fn zeros_take_no_frame_until_they_are_written() {
    let mut driver = Driver::of(&[Kind::Block]);
    driver.then(fill([(0, 100)]));
    driver.write_disk(2 * PAGE, page(0), 2 * PAGE);
    driver.write_disk(18 * PAGE, page(0), PAGE).event("written");
    // Over the image from within page 0 to within page 5; beyond it.
    driver
        .zero_disk(7, 5 * PAGE)
        .zero_disk(15 * PAGE, 17 * PAGE)
        .event("zeroed");
    let mut first = base(0);
    first[7 * 512..].fill(0);
    driver.read_disk(0, page(4), first);
    for n in [1, 2, 4, 15, 18, 31] {
        driver.read_disk(n * PAGE, page(5), vec![0; 4096]);
    }
    let mut last = base(5);
    last[..7 * 512].fill(0);
    driver.read_disk(5 * PAGE, page(6), last);
    driver.write_disk(2 * PAGE + 1, page(0), 1);
    let partly = [&[0; 512][..], &word_page(100)[..512], &[0; 3072]].concat();
    driver.read_disk(2 * PAGE, page(7), partly).event("read");
    driver.discard_disk(0, 32 * PAGE).event("discarded");
    driver.read_disk(4 * PAGE, page(8), base(4));
    let program = driver.finish(sleep());
    let mut machine = with_disk(vec![(disk_guest("a", "a"), program)]);
    machine.config.merge.is_on = false;
    machine.config.script = stats_when("a", &["written", "zeroed", "read", "discarded"])
        .into_iter()
        .collect();
    machine.config.for_ms = Some(20);
    let report = machine.run();
    let overlay = [0, 1, 2, 3].map(|n| report.then(n, "a", "overlay"));
    // Pages 0 to 5 and the end of the image.
    assert_eq!(overlay, [3, 7, 7, 0]);
    // Three frames came back; pages 0 and 5 were written.
    let free = free(&report, 4);
    assert_eq!(free[1], free[0] + 3 - 2);
    // Beside the table of all of them: pages 0, 2 and 5.
    assert!(free[3] >= free[2] + 3, "{free:?}");
    report.check_memory();
}

/// A guest that may write so many pages of its disk.
fn bounded(pages: u64) -> GuestConfig<'static> {
    let mut config = disk_guest("a", "a");
    let disk = config.devices.disk.as_mut().expect("it has one");
    disk.written_bytes = Some(pages << 12);
    config
}

#[test]
fn a_guest_that_has_written_its_share_gets_errors_and_no_wait() {
    let mut driver = Driver::of(&[Kind::Block]);
    driver.then(fill([(0, 100), (1, 101)]));
    driver.write_disk(0, page(0), 3 * PAGE);
    driver.fail_to_write_disk(5 * PAGE, page(0), 2 * PAGE);
    driver.read_disk(5 * PAGE, page(4), word_page(100));
    driver.read_disk(6 * PAGE, page(5), base(6));
    // Its own pages, and reads, as ever.
    driver.write_disk(PAGE + 1, page(1), 1);
    driver.fail_to_write_disk(30 * PAGE, page(0), 1);
    // Zeros over the image are its own as well; beyond it they are not.
    driver.clear_disk(13, &[(6 * PAGE, PAGE)], 1);
    driver.zero_disk(20 * PAGE, PAGE).zero_disk(0, PAGE);
    driver.read_disk(6 * PAGE, page(6), base(6)).event("full");
    driver.discard_disk(0, PAGE).write_disk(7 * PAGE, page(1), PAGE);
    driver.read_disk(7 * PAGE, page(7), word_page(101));
    let program = driver.event("done").finish(sleep());
    let mut machine = with_disk(vec![(bounded(4), program)]);
    let mut script = stats_when("a", &["full", "done"]);
    script.extend(["promises", "devices a"].map(|command| when("a", "full", command)));
    machine.config.script = script.into_iter().collect();
    machine.config.for_ms = Some(20);
    let report = machine.run();
    assert_eq!([0, 1].map(|n| report.then(n, "a", "overlay")), [4, 4]);
    assert_eq!(number(&report.guest("a")["faults"]["waited"]), 0);
    let answers = report.answers();
    let written = "a                has written     16 KiB to its disk, and may     16 KiB";
    assert!(answers.contains(written), "{answers}");
    let own = "    16 KiB of its own over the base image, of     16 KiB at most";
    assert!(answers.contains(own), "{answers}");
    report.check_memory();
}

#[test]
fn a_guest_that_may_write_nothing_can_read() {
    let mut driver = Driver::of(&[Kind::Block]);
    driver.fail_to_write_disk(0, page(0), 1);
    driver.read_disk(0, page(1), base(0)).discard_disk(0, 32 * PAGE);
    let program = driver.finish(sleep());
    let mut machine = with_disk(vec![(bounded(0), program)]);
    machine.config.for_ms = Some(20);
    let report = machine.run();
    assert_eq!(number(&report.guest("a")["overlay"]), 0);
    report.check_memory();
}

#[test]
fn what_others_share_stays_theirs_when_one_of_them_discards() {
    let program = |discards: bool| {
        let mut driver = Driver::of(&[Kind::Block]);
        driver.then(fill([(0, 77)]));
        for n in 0..6 {
            driver.write_disk(n * PAGE, page(0), PAGE);
        }
        driver.then(crate::merging::wait(10)).event("merged");
        if discards {
            driver.discard_disk(0, 3 * PAGE).zero_disk(3 * PAGE, PAGE);
        }
        let content = |word: u64, n: u64| match (discards, n) {
            (true, 0..3) => base(n),
            (true, 3) => vec![0; 4096],
            _ => word_page(word),
        };
        for n in 0..6 {
            driver.read_disk(n * PAGE, page(4), content(77, n));
        }
        driver.finish(sleep())
    };
    let guests = vec![
        (disk_guest("a", "one"), program(true)),
        (disk_guest("b", "one"), program(false)),
    ];
    let mut machine = crate::merging::machine(guests, true, 30);
    machine.disk = with_disk(vec![]).disk;
    machine.config.script = stats_when("a", &["merged"]).into_iter().collect();
    let report = machine.run();
    assert!(report.then(0, "a", "shared") >= 6);
    assert_eq!(number(&report.guest("a")["overlay"]), 3);
    assert_eq!(number(&report.guest("b")["overlay"]), 6);
    let eptp = report.platform.progress[&0].eptp;
    assert!(report.platform.memory.look_up(eptp, WINDOW).is_none());
    report.check_memory();
}

#[test]
fn ranges_that_are_not_on_the_disk_change_nothing() {
    let mut driver = Driver::of(&[Kind::Block]);
    driver.then(fill([(0, 100)])).write_disk(0, page(0), PAGE);
    for kind in [11, 13] {
        for range in [
            (32 * PAGE, 1),
            (31 * PAGE, PAGE + 1),
            (u64::MAX, 1),
            (0, 0x7fff_ffff),
        ] {
            driver.clear_disk(kind, &[(0, PAGE), range], 1);
        }
        driver.clear_disk(kind, &[(0, PAGE), (0, 1 << 33)], 2);
    }
    driver.read_disk(0, page(1), word_page(100));
    let program = driver.then([Op::ExpectPage(page(2), 0)]).finish(sleep());
    let mut machine = with_disk(vec![(disk_guest("a", "a"), program)]);
    machine.config.for_ms = Some(20);
    machine.run().check_memory();
}
