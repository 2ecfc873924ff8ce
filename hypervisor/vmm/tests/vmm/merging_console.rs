//! What the console says about merging, and what it does about it.

use crate::fake::Op;
use crate::merging::{LOADED, at, fill, in_domain, machine, merge, merge_at, number, page, sleep, wait};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{Merge, Pages, Step};

/// Six pages: four equal, one of zeros, one alone; a seventh is never read.
fn six() -> Vec<Op> {
    fill([(0, 7), (1, 7), (2, 7), (3, 7), (4, 1), (5, 9), (4, 0)])
}

fn told(steps: &[Step<'static>], then: Vec<Op>) -> Machine {
    let mut machine = machine(vec![(guest("a"), [six(), then].concat())], true, 10);
    machine.config.script.extend(steps.iter().cloned());
    machine
}

#[test]
fn merge_shows_what_is_shared_and_what_it_cost() {
    let report = told(&[at(5000, "merge")], sleep()).run();
    let answers = report.answers();
    for (name, value) in [
        ("shared", 1),
        ("sharing", 3),
        ("zero", 1),
        ("volatile", 0),
        ("merged", 4),
        ("broken", 0),
        ("compared", 3),
        ("collisions", 0),
    ] {
        let row = format!("  {name:<10} {value:>12} ");
        assert!(answers.contains(&row), "`{row}` is not in\n{answers}");
    }
    assert!(answers.contains("merging is on\n"), "{answers}");
    assert!(
        answers.contains("  ratio              4.00 pages for each shared frame"),
        "{answers}"
    );
    let cost = merge(&report, "instructions") / 4;
    let row = format!("  cost       {cost:>12} instructions for each page merged");
    assert!(cost > 0 && answers.contains(&row), "{answers}");
}

#[test]
fn off_leaves_merged_what_is_and_on_goes_on() {
    let more = [wait(20), fill([(8, 5), (9, 5)]), sleep()].concat();
    let steps = [
        at(2000, "merge off"),
        at(5900, "stats"),
        at(5950, "merge"),
        at(6000, "merge on"),
    ];
    let report = told(&steps, more).run();
    assert_eq!(
        merge_at(&report, 0, "sharing"),
        3,
        "8 and 9 were written when it was off"
    );
    assert_eq!(merge(&report, "sharing"), 4);
    let answers = report.answers();
    assert!(answers.contains("merging is off; what is merged stays merged until it is written\n"));
    assert!(answers.contains("merging is off\n"), "{answers}");
    assert!(answers.contains("merging is on\n"), "{answers}");
}

#[test]
fn off_in_the_configuration_is_off_until_somebody_says_on() {
    let mut machine = told(&[at(5000, "stats"), at(5100, "merge on")], sleep());
    machine.config.merge.is_on = false;
    let report = machine.run();
    assert_eq!(merge_at(&report, 0, "hashed"), 0);
    assert_eq!(merge(&report, "sharing"), 3);
}

#[test]
fn the_pace_is_as_it_was_told() {
    let steps = [
        at(0, "merge pace 0"),
        at(4000, "stats"),
        at(4100, "merge pace 20M"),
        at(7000, "stats"),
        at(7100, "merge pace auto"),
    ];
    let report = told(&steps, vec![Op::Spin(1000), Op::Jump(7)]).run();
    assert_eq!(merge_at(&report, 0, "hashed"), 0);
    assert_eq!(merge_at(&report, 0, "pace"), 0);
    assert_eq!(merge_at(&report, 1, "sharing"), 3);
    assert_eq!(merge_at(&report, 1, "pace"), 20_000_000);
    let answers = report.answers();
    assert!(
        answers.contains("  pace                  0 instructions in a second, as set"),
        "{answers}"
    );
    assert!(
        answers.contains("  pace           20000000 instructions in a second, as set"),
        "{answers}"
    );
    assert!(answers.contains("by pressure and yield"), "{answers}");
}

#[test]
fn a_pace_of_nothing_lets_an_idle_machine_sleep() {
    let report = told(&[at(0, "merge pace 0"), at(9000, "audit")], sleep()).run();
    assert_eq!(merge(&report, "hashed"), 0);
    assert_eq!(report.guest("a")["state"], "running");
}

/// Ticks that merging takes of a busy processor in a second at this pace.
fn spent_at(pace: u64) -> u64 {
    // Each epoch brings 64 pages to hash.
    let round = (0..64).flat_map(|n| [Op::Store(page(n), n), Op::Spin(10_000)]);
    let program: Vec<Op> = round.collect();
    let end = program.len();
    let program = [program, vec![Op::Store(page(0), 1); 2], vec![Op::Jump(0)]].concat();
    assert_eq!(program.len(), end + 3);
    let mut machine = machine(vec![(guest("a"), program)], true, 100);
    machine.config.merge.pace = Some(pace);
    merge(&machine.run(), "instructions")
}

#[test]
fn no_more_is_spent_than_the_pace_allows() {
    // In a tenth of a second, and what the bucket holds at first: an eighth of a second's. The step of the scanner
    // that it ends with is finished, whatever it takes.
    let slow = spent_at(200_000);
    assert!((1..=17_500 + 25_000 + 500).contains(&slow), "{slow}");
    let fast = spent_at(100_000_000);
    assert!(fast > 2 * slow, "{fast} and {slow}");
}

#[test]
fn why_says_what_keeps_pages_apart() {
    let mut off = in_domain("off", "d");
    off.merge = Merge::Off;
    let mut large = in_domain("large", "e");
    large.pages = Pages::Large;
    large.memory_bytes = 6 << 20;
    let restless = [
        six(),
        vec![
            Op::Store(page(6), 1),
            Op::Spin(10_000),
            Op::Store(page(6), 2),
            Op::Jump(7),
        ],
    ]
    .concat();
    let guests = vec![
        (in_domain("a", "d"), restless),
        (in_domain("b", "d"), sleep()),
        (off, six()),
        (large, [fill((0xb0..0x2b0).map(|n| (n, n))), sleep()].concat()),
    ];
    let mut machine = machine(guests, true, 10);
    machine.config.script.extend(
        [
            "merge why a",
            "merge why off",
            "merge why large",
            "merge off",
            "merge why b",
            "merge why c",
        ]
        .map(|command| at(6000, command)),
    );
    let answers = machine.run().answers();
    for line in [
        format!("guest `a`: {} pages share a frame, 1 are zero", 4 + LOADED),
        "  domain     `d`, with 2 other guests; pages are merged within a domain only".into(),
        "  volatile          1  50 %  pages were written and are not calm yet".into(),
        "  unlike            1  50 %  calm pages are unlike all others of the domain".into(),
        "  nothing is merged: its merge = \"off\" in the guests file".into(),
        "  domain     `e`, with 0 other guests; pages are merged within a domain only".into(),
        "  large           512".into(),
        "  the scanner is off (`merge on`)".into(),
        "there is no guest `c`; there are:".into(),
    ] {
        assert!(answers.contains(&line), "`{line}` is not in\n{answers}");
    }
}

/// The hashes of a guest's pages by number.
fn hashes(report: &Report, guest: &str) -> Vec<Option<u64>> {
    let mut all = vec![];
    for record in report
        .of_kind("pages")
        .iter()
        .filter(|record| record["guest"] == guest)
    {
        all.resize(number(&record["first"]) as usize, None);
        let digits = record["hashes"].as_str().expect("a text").as_bytes();
        let (hashes, rest) = digits.as_chunks::<16>();
        assert!(rest.is_empty());
        let number = |hash: &[u8; 16]| u64::from_str_radix(std::str::from_utf8(hash).expect("digits"), 16);
        all.extend(hashes.iter().map(|hash| Some(number(hash).expect("a number"))));
    }
    all
}

#[test]
fn the_hashes_of_all_pages_go_to_the_stream() {
    let guests = vec![
        (guest("a"), [six(), sleep()].concat()),
        (guest("b"), [fill([(3, 7), (4, 6)]), sleep()].concat()),
    ];
    let mut machine = machine(guests, false, 10);
    machine.config.script.push(at(6000, "pages"));
    let report = machine.run();
    let (a, b) = (hashes(&report, "a"), hashes(&report, "b"));
    assert_eq!((a.len(), b.len()), (512, 512));
    let of = |n: u64| (page(n) >> 12) as usize;
    assert!(a.iter().chain(&b).all(Option::is_some));
    assert!(a[of(0)] != Some(0) && a[of(0)] == a[of(3)] && a[of(0)] == b[of(3)]);
    assert!(a[of(5)] != a[of(0)] && a[of(5)] != Some(0) && b[of(4)] != Some(0));
    // Zero, merged or never touched.
    assert_eq!([a[of(4)], a[of(7)], b[of(0)]], [Some(0); 3]);
    let distinct: std::collections::BTreeSet<_> = a.iter().chain(&b).collect();
    assert_eq!(distinct.len() as u64, LOADED + 3 + 1);
}
