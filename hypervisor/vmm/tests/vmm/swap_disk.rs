//! Pages that go to the disk of the host, and what becomes of guests when that fails.

use crate::fake::Op;
use crate::fake_disk::{FakeDisk, Trouble};
use crate::merging::{at, compare, fill, finish, in_domain, machine, number, page, sleep, wait};
use crate::merging_breaks::{assert_audits_clean, audits};
use crate::scenario::{Machine, Report};
use pleat_bundle::config::{GuestConfig, Merge, ReclaimConfig};
use pleat_types::DiskFailure;
use pleat_vmm::Outcome;

const PAGES: u64 = 90;
/// Ticks that the disk takes for a request: a fifth of a generation.
const TICKS: u64 = 40_000;

fn apart(name: &'static str) -> GuestConfig<'static> {
    let mut config = in_domain(name, name);
    config.merge = Merge::Off;
    config
}

/// A guest whose pages have two different words each, and that looks at them twice, each time after they were cold.
fn looks_twice() -> Vec<Op> {
    let marks = || (0..PAGES).map(|n| Op::Store(page(n) + 8, 1000 + n));
    let checks = || (0..PAGES).map(|n| Op::Expect(page(n) + 8, 1000 + n));
    [
        fill((0..PAGES).map(|n| (n, n + 1))),
        marks().collect(),
        wait(20),
        checks().collect(),
        wait(20),
        checks().collect(),
        vec![finish()],
    ]
    .concat()
}

/// All contents go to the disk.
fn on_disk(guests: Vec<(GuestConfig<'static>, Vec<Op>)>, disk: FakeDisk) -> Machine {
    let mut machine = machine(guests, true, 120);
    machine.host_disk = Some(disk);
    machine.config.reclaim = ReclaimConfig {
        is_on: true,
        generation_us: 200,
        cold_generations: Some(2),
        compressed_percent: 0,
    };
    machine
}

fn swap(report: &Report, what: &str) -> u64 {
    number(&report.stats()["swap"][what])
}

#[test]
fn pages_come_back_from_the_disk_as_they_were() {
    let guests = vec![(apart("a"), looks_twice()), (apart("b"), looks_twice())];
    let mut machine = on_disk(guests, FakeDisk::new(1000, TICKS));
    machine.config.script.push(audits(4_000));
    let report = machine.run();
    assert_eq!(report.outcome, Outcome::Ok, "{}", report.stats()["failures"]);
    assert_audits_clean(&report.answers());
    for name in ["a", "b"] {
        assert_eq!(report.guest(name)["reason"], "finished", "{name}");
    }
    assert!(
        swap(&report, "disk_loads") >= 2 * PAGES,
        "{}",
        report.stats()["swap"]
    );
    assert_eq!(swap(&report, "checksum_errors"), 0);
    assert_eq!(swap(&report, "disk"), 0, "what guests leave is freed with them");
}

#[test]
fn a_guest_that_ends_while_its_pages_are_on_their_way_leaves_nothing() {
    let fills = [fill((0..PAGES).map(|n| (n, n + 1))), vec![]].concat();
    let marks: Vec<Op> = (0..PAGES).map(|n| Op::Store(page(n) + 8, n)).collect();
    let guests = vec![
        (apart("dies"), [fills.clone(), marks.clone(), sleep()].concat()),
        (apart("lives"), [fills, marks, wait(60), vec![finish()]].concat()),
    ];
    // A request takes so long that it is under way at one of these times.
    for killed_at in [700, 1_100, 1_500, 1_900, 2_300] {
        let mut machine = on_disk(guests.clone(), FakeDisk::new(1000, 60 * TICKS));
        machine
            .config
            .script
            .extend([at(killed_at, "kill dies"), audits(300)]);
        let report = machine.run();
        assert_audits_clean(&report.answers());
        assert_eq!(report.guest("lives")["reason"], "finished", "{killed_at}");
        assert_eq!(swap(&report, "disk"), 0, "{killed_at}");
    }
}

/// Whatever happens to the disk: who ends well has seen no wrong byte, who cannot is told why, and nobody else minds.
fn runs_with(trouble: impl Fn(&mut FakeDisk)) -> Report {
    let mut disk = FakeDisk::new(1000, TICKS);
    trouble(&mut disk);
    let guests = vec![
        (apart("a"), looks_twice()),
        (apart("b"), looks_twice()),
        (apart("idle"), [compare([(0, 0)]), sleep()].concat()),
    ];
    let mut machine = on_disk(guests, disk);
    machine.config.script.push(audits(4_000));
    let report = machine.run();
    assert_audits_clean(&report.answers());
    for name in ["a", "b"] {
        let guest = report.guest(name);
        let reason = guest["reason"].as_str().expect("a text");
        let is_told = reason.contains("a page of its own is lost");
        assert!(reason == "finished" || is_told, "{name}: {reason}");
    }
    assert_eq!(report.guest("idle")["state"], "running");
    report
}

#[test]
fn no_failure_of_the_disk_delivers_a_wrong_byte() {
    let failures = [
        Trouble::Fails(DiskFailure::BadSector),
        Trouble::Fails(DiskFailure::Short),
        Trouble::Torn(DiskFailure::BadSector),
        Trouble::Torn(DiskFailure::TimedOut),
        Trouble::Flips,
        Trouble::Forgets,
    ];
    for failure in failures {
        // Of the first requests some write and some read.
        for request in [1, 3, 8, 20] {
            let report = runs_with(|disk| {
                disk.troubles.insert(request, failure);
            });
            assert_eq!(report.stats()["host"]["audit"], "clean", "{failure:?} {request}");
        }
    }
}

#[test]
fn a_bit_that_flips_on_the_way_from_the_disk_harms_nobody_and_one_that_always_flips_is_not_delivered() {
    // Some of these read.
    for request in [8, 14, 20, 40] {
        let report = runs_with(|disk| {
            disk.troubles.insert(request, Trouble::Flips);
        });
        for name in ["a", "b"] {
            assert_eq!(report.guest(name)["reason"], "finished", "{request}: {name}");
        }
        assert_eq!(swap(&report, "checksum_errors"), 0, "{request}");
    }
    let report = runs_with(|disk| {
        disk.troubles
            .extend((8..2_000).map(|request| (request, Trouble::Flips)));
    });
    for name in ["a", "b"] {
        let reason = report.guest(name)["reason"].as_str().expect("a text");
        assert!(reason.contains("a page of its own is lost"), "{name}: {reason}");
    }
    assert!(swap(&report, "checksum_errors") > 0);
}

#[test]
fn with_a_disk_that_vanishes_only_those_end_that_need_what_was_on_it() {
    for request in [1, 3, 6, 20] {
        let report = runs_with(|disk| disk.vanishes_at = Some(request));
        assert_eq!(report.stats()["host"]["audit"], "clean", "{request}");
    }
}

#[test]
fn a_disk_that_is_full_leaves_pages_where_they_are() {
    let report = {
        let guests = vec![(apart("a"), looks_twice()), (apart("b"), looks_twice())];
        on_disk(guests, FakeDisk::new(50, TICKS)).run()
    };
    for name in ["a", "b"] {
        assert_eq!(report.guest(name)["reason"], "finished", "{name}");
    }
}
