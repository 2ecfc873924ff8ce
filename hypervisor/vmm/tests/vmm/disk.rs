//! Disks: one base image for all who have it, and pages of its own for each guest that writes.

use crate::equipped::{equipped, stats_when, when};
use crate::fake::{Op, page_of};
use crate::merging::{fill, finish, machine, merge, number, page, sleep, wait};
use crate::merging_breaks::reboot;
use crate::scenario::{Machine, Report};
use crate::virtio::{Driver, Kind, from_guest, to_guest};
use pleat_bundle::config::{DiskConfig, GuestConfig, OnReboot};
use pleat_types::{FrameMemory, Hpa};

/// Where the disk's pages of a guest with 4 MiB lie.
pub const WINDOW: u64 = 4 << 30;
/// Sectors of a page.
pub const PAGE: u64 = 8;

/// A base image: each page is full of a number of its own; half a page at the end.
fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..16u64).flat_map(base).collect();
    image.truncate(15 * 4096 + 2048);
    image
}

/// The n-th page of it, as if it were whole.
pub fn base(n: u64) -> Vec<u8> {
    page_of(0xba5e_0000 + n).to_vec()
}

fn sized(mut config: GuestConfig<'static>, bytes: u64) -> GuestConfig<'static> {
    let image = config.devices.disk.expect("it has a disk").image;
    config.devices.disk = Some(DiskConfig {
        image,
        bytes,
        written_bytes: None,
    });
    config
}

pub fn disk_guest(name: &'static str, domain: &'static str) -> GuestConfig<'static> {
    sized(equipped(name, domain, &[Kind::Block]), 128 << 10)
}

pub fn with_disk(guests: Vec<(GuestConfig<'static>, Vec<Op>)>) -> Machine {
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 24 << 20;
    machine.disk = Some(image());
    machine
}

/// The half page at the end of the image and what is beyond it.
fn last_page() -> Vec<u8> {
    [&base(15)[..2048], &[0; 2048]].concat()
}

#[test]
fn what_was_not_written_comes_from_the_image_and_beyond_it_are_zeros() {
    let mut driver = Driver::of(&[Kind::Block]);
    driver.read_disk(0, page(0), base(0));
    driver.read_disk(PAGE + 1, page(1), base(1)[..512].to_vec());
    // Over the end of a page of the disk and of one in memory.
    let over = [&base(2)[512..], &base(3)[..1024]].concat();
    driver.read_disk(2 * PAGE + 1, page(2) + 1000, over);
    driver.read_disk(15 * PAGE, page(5), last_page());
    driver.read_disk(16 * PAGE, page(6), vec![0; 4096]);
    driver.read_disk(31 * PAGE + 7, page(7), vec![0; 512]);
    let program = driver.event("read").finish(sleep());
    let mut machine = with_disk(vec![(disk_guest("a", "a"), program)]);
    machine.config.script = stats_when("a", &["read"]).into_iter().collect();
    machine.config.for_ms = Some(20);
    let report = machine.run();
    assert_eq!(report.then(0, "a", "overlay"), 0);
    report.check_memory();
}

#[test]
fn what_a_guest_writes_is_its_own_and_goes_with_it() {
    let writer = |word: u64, last: Vec<Op>| {
        let mut driver = Driver::of(&[Kind::Block]);
        driver.then(fill([(0, word), (1, word + 1)]));
        // A whole page, a sector within one, the end of the image, and beyond it.
        driver.write_disk(PAGE, page(0), PAGE);
        driver.write_disk(4 * PAGE + 3, page(1), 1);
        driver.write_disk(15 * PAGE, page(1), 1);
        driver.write_disk(20 * PAGE, page(0), 2 * PAGE);
        driver.event("written").then(wait(4));
        let word_page = |word: u64| page_of(word).to_vec();
        driver.read_disk(PAGE, page(4), word_page(word));
        let mut partly = base(4);
        partly[3 * 512..4 * 512].copy_from_slice(&word_page(word + 1)[..512]);
        driver.read_disk(4 * PAGE, page(5), partly);
        let mut end = last_page();
        end[..512].copy_from_slice(&word_page(word + 1)[..512]);
        driver.read_disk(15 * PAGE, page(6), end);
        driver.read_disk(21 * PAGE, page(7), word_page(word + 1));
        driver.read_disk(0, page(8), base(0));
        driver.read_disk(22 * PAGE, page(9), vec![0; 4096]);
        driver.event("read").finish(last)
    };
    let mut machine = with_disk(vec![
        (disk_guest("a", "one"), writer(100, vec![finish()])),
        (disk_guest("b", "two"), writer(200, sleep())),
    ]);
    machine.config.for_ms = Some(20);
    machine.config.script = stats_when("a", &["written", "read"]).into_iter().collect();
    let report = machine.run();
    assert_eq!(report.then(0, "a", "overlay"), 5);
    assert_eq!(report.then(1, "a", "overlay"), 5);
    assert_eq!(number(&report.guest("b")["overlay"]), 5);
    assert_eq!(report.guest("a")["reason"], "finished");
    assert_eq!(number(&report.guest("a")["unique"]), 0);
    report.check_memory();
    check_overlay(&report, 1, &[(1, 200), (20, 200), (21, 201)]);
}

/// Compares pages of a guest's overlay with words.
fn check_overlay(report: &Report, guest: u16, pages: &[(u64, u64)]) {
    let eptp = report.platform.progress[&guest].eptp;
    for (n, word) in pages {
        let found = report.platform.memory.look_up(eptp, WINDOW + (n << 12));
        let (at, _) = found.expect("it is backed");
        let mut content = [0; 4096];
        report.platform.memory.read(Hpa::new(at), &mut content);
        assert_eq!(content, page_of(*word), "page {n}");
    }
}

#[test]
fn a_guest_that_starts_again_finds_the_image_as_it_was() {
    let mut driver = Driver::of(&[Kind::Block]);
    // In every boot.
    driver.read_disk(3 * PAGE, page(1), base(3));
    driver.then(fill([(0, 5)]));
    driver.write_disk(3 * PAGE, page(0), PAGE);
    driver.read_disk(3 * PAGE, page(2), page_of(5).to_vec());
    let program = driver.finish([reboot()]);
    let mut config = disk_guest("a", "a");
    config.on_reboot = OnReboot::Restart;
    let mut machine = with_disk(vec![(config, program)]);
    machine.config.for_ms = Some(1);
    let report = machine.run();
    let boots = report.of_kind("state").len();
    assert!(boots > 6, "{boots}");
    assert!(number(&report.guest("a")["overlay"]) <= 1);
}

#[test]
fn the_image_stays_until_the_last_guest_that_has_it_ends() {
    let short = |event: &'static str, spin: usize| {
        let mut driver = Driver::of(&[Kind::Block]);
        driver.then(vec![Op::Spin(1_000_000); spin]);
        driver.read_disk(0, page(0), base(0)).event(event);
        driver.finish([finish()])
    };
    let last = [
        vec![Op::Spin(8_000_000)],
        crate::fake::print("pleat-event: end\n"),
        sleep(),
    ];
    let mut machine = with_disk(vec![
        (disk_guest("a", "a"), short("a-end", 0)),
        (disk_guest("b", "b"), short("b-end", 4)),
        (crate::scenario::guest("c"), last.concat()),
    ]);
    let steps = [("a", "a-end"), ("b", "b-end"), ("c", "end")];
    machine.config.script = steps
        .iter()
        .map(|(guest, event)| when(guest, event, "stats"))
        .collect();
    machine.config.for_ms = Some(20);
    let report = machine.run();
    let bundle = [0, 1, 2].map(|n| report.host_then(n, "frames_bundle"));
    assert_eq!(bundle, [16, 16, 0]);
    assert_eq!(report.guest("a")["reason"], "finished");
    assert_eq!(report.guest("b")["reason"], "finished");
}

#[test]
fn the_pages_of_disks_merge_within_a_domain_and_part_when_they_are_written() {
    for has_dirty_log in [false, true] {
        let program = |is_writer: bool| {
            let mut driver = Driver::of(&[Kind::Block]);
            driver.then(fill([(0, 77), (1, 88)]));
            for n in 0..6 {
                driver.write_disk(n * PAGE, page(0), PAGE);
            }
            driver.then(wait(10)).event("merged");
            if is_writer {
                driver.write_disk(2 * PAGE + 1, page(1), 1);
                driver.write_disk(3 * PAGE, page(1), PAGE);
            }
            let mut partly = page_of(77).to_vec();
            if is_writer {
                partly[512..1024].copy_from_slice(&page_of(88)[..512]);
            }
            driver.read_disk(2 * PAGE, page(4), partly);
            let whole = if is_writer { 88 } else { 77 };
            driver.read_disk(3 * PAGE, page(5), page_of(whole).to_vec());
            driver.read_disk(4 * PAGE, page(6), page_of(77).to_vec());
            driver.finish(sleep())
        };
        let guests = vec![
            (disk_guest("a", "one"), program(true)),
            (disk_guest("b", "one"), program(false)),
            (disk_guest("c", "two"), program(false)),
        ];
        let mut machine = machine(guests, has_dirty_log, 30);
        machine.disk = Some(image());
        machine.config.script = stats_when("a", &["merged"]).into_iter().collect();
        let report = machine.run();
        // 12 pages of the disks of `a` and `b`, one in the memory of each, and six and one of `c`: two frames.
        let sharing = number(&report.of_kind("stats")[0]["record"]["merge"]["sharing"]);
        assert!(sharing >= 12 + 2 + 7 - 2, "{sharing}");
        assert!(merge(&report, "broken") > 0, "{}", report.stats());
        check_overlay(&report, 0, &[(0, 77), (3, 88), (5, 77)]);
        check_overlay(&report, 1, &[(0, 77), (2, 77), (3, 77)]);
        report.check_memory();
    }
}

#[test]
fn requests_beyond_the_disk_are_refused_and_touch_nothing() {
    let mut driver = Driver::of(&[Kind::Block]);
    for (kind, sector, bytes) in [
        (0u64, 32 * PAGE, 512u32),
        (1, 32 * PAGE, 512),
        (0, 32 * PAGE - 1, 1024),
        (1, u64::MAX, 512),
        (1, u64::MAX / 512, 512),
        (0, 0, 100),
        (77, 0, 512),
    ] {
        let header = driver.put(&[kind.to_le_bytes(), sector.to_le_bytes()].concat());
        let status = driver.put(&[0xff; 8]);
        let data = match kind {
            1 => from_guest(page(0), bytes),
            _ => to_guest(page(0), bytes),
        };
        driver.chain(
            Kind::Block,
            0,
            &[from_guest(header, 16), data, to_guest(status, 1)],
        );
        driver.notify(Kind::Block, 0);
        let code = if kind == 77 { 2 } else { 1 };
        driver.then([Op::Expect(status, 0xffff_ffff_ffff_ff00 | code)]);
    }
    let program = driver.then([Op::ExpectPage(page(0), 0)]).finish([finish()]);
    let report = with_disk(vec![(disk_guest("a", "a"), program)]).run();
    report.assert_all_finished();
    assert_eq!(number(&report.guest("a")["overlay"]), 0);
}
