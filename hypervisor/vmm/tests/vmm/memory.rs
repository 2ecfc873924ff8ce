//! Backing on touch, isolation, and what happens when there is no memory left.

use crate::fake::{Op, exits, hypercall};
use crate::scenario::{Machine, guest};
use pleat_bundle::config::{MergeConfig, Pages, ReclaimConfig};
use pleat_types::{Exit, hypercall as calls};
use pleat_vmm::Outcome;

fn finish() -> Op {
    hypercall(calls::FINISH, 0, 0, 0)
}

#[test]
fn untouched_memory_reads_as_zero_and_is_backed_when_written() {
    let program = vec![
        Op::Expect(0x5000, 0),
        Op::Store(0x5008, 42),
        Op::Expect(0x5000, 0),
        Op::Expect(0x5008, 42),
        Op::Store(0x6000, 1),
        Op::Expect(0x1f_fff8, 0),
        hypercall(calls::EVENT, 0x6800, 0, 0),
        Op::Interrupts(true),
        exits(Exit::Hlt),
    ];
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.config.for_ms = Some(1);
    let report = machine.run();
    let guest = report.guest("a");
    assert_eq!(guest["state"], "running");
    assert_eq!(guest["faults"]["zero"], 2);
    assert_eq!(guest["faults"]["zero-broken"], 1);
    assert_eq!(guest["zero"], 1);
    assert_eq!(guest["frames_promised"], 512);
    let total: u64 = ["unique", "zero", "untouched"]
        .iter()
        .map(|kind| guest[kind].as_u64().expect("a number"))
        .sum();
    assert_eq!(total, 512);
}

#[test]
fn no_guest_sees_what_another_wrote() {
    let writer = |value: u64| {
        let mut program: Vec<Op> = (0x100..0x180u64)
            .map(|page| Op::Store(page << 12, value))
            .collect();
        program.extend((0x100..0x180u64).map(|page| Op::Expect(page << 12, value)));
        program.extend((0x180..0x200u64).map(|page| Op::Expect((page << 12) + 8, 0)));
        program.push(finish());
        program
    };
    // The second pair starts in the frames that the first pair gave back.
    let report = Machine::new(vec![
        (guest("a"), writer(0x1111)),
        (guest("b"), writer(0x2222)),
        (guest("c"), [vec![Op::Spin(2_000_000)], writer(0x3333)].concat()),
    ])
    .run();
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(report.guest("c")["reason"], "finished");
}

#[test]
fn large_pages_where_the_operator_wants_them() {
    let mut config = guest("a");
    config.pages = Pages::Large;
    config.memory_bytes = 6 << 20;
    let program = vec![
        Op::Store(0x40_0000, 7),
        Op::Expect(0x5f_fff8, 0),
        Op::Expect(0x40_0000, 7),
        Op::Interrupts(true),
        exits(Exit::Hlt),
    ];
    let mut machine = Machine::new(vec![(config, program)]);
    machine.config.for_ms = Some(1);
    let report = machine.run();
    assert_eq!(report.guest("a")["large"], 1);
    assert_eq!(report.guest("a")["faults"]["large"], 1);
}

#[test]
fn a_guest_that_finds_no_memory_waits_until_another_ends() {
    // The first one keeps what it has for a while, during which the second finds nothing.
    let holder = [
        touch_all(7, 0)[..5 << 8].to_vec(),
        vec![Op::Spin(3_000_000), finish()],
    ]
    .concat();
    let mut machine = Machine::new(vec![
        (big("a", 7, 100), holder),
        (big("b", 7, 100), touch_all(7, 0)),
    ]);
    machine.memory_bytes = 8 << 20;
    let report = machine.run();
    assert_eq!(report.guest("a")["reason"], "finished");
    assert_eq!(report.guest("b")["reason"], "finished");
    assert_eq!(report.guest("b")["faults"]["waited"], 1);
}

#[test]
fn when_nobody_can_go_on_the_lowest_weight_is_stopped_with_a_reason() {
    // All three are there before any of them touches much, and together they need twice the host.
    let guests = [("a", 100), ("b", 50), ("c", 100)]
        .map(|(name, weight)| (big(name, 6, weight), touch_all(6, 1)))
        .to_vec();
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 8 << 20;
    // Else their pages would be looked at first: they are equal.
    machine.config.merge = MergeConfig::OFF;
    machine.config.reclaim = ReclaimConfig::OFF;
    let report = machine.run();
    assert_eq!(report.guest("b")["state"], "stopped");
    let reason = report.guest("b")["reason"].as_str().expect("a text").to_string();
    assert!(reason.contains("host out of memory"), "{reason}");
    assert_eq!(report.guest("a")["reason"], "finished");
    assert!(
        report
            .of_kind("report")
            .iter()
            .any(|record| record["guest"] == "b")
    );
}

fn big(name: &'static str, mib: u64, weight: u32) -> pleat_bundle::config::GuestConfig<'static> {
    let mut config = guest(name);
    config.memory_bytes = mib << 20;
    config.weight = weight;
    config
}

/// Writes every page, then finishes.
fn touch_all(mib: u64, pause: u64) -> Vec<Op> {
    let pages = (0x200..mib << 8).flat_map(|page| [Op::Store(page << 12, page), Op::Spin(pause * 1000)]);
    pages
        .chain((0x200..mib << 8).map(|page| Op::Expect(page << 12, page)))
        .chain([finish()])
        .collect()
}

#[test]
fn a_hole_is_no_memory() {
    let report = Machine::new(vec![
        (guest("a"), vec![Op::Store(0x20_0000, 1)]),
        (guest("b"), vec![Op::Expect(0xfee0_0030, 1)]),
        (guest("c"), vec![Op::Store(1 << 46, 1)]),
        (guest("d"), vec![finish()]),
    ])
    .run();
    assert_eq!(
        report.guest("a")["reason"],
        "wrote at GPA:0x200000, where it has no memory"
    );
    assert_eq!(
        report.guest("b")["reason"],
        "read at GPA:0xfee00030: devices in memory are not emulated"
    );
    assert_eq!(report.guest("c")["state"], "stopped");
    assert_eq!(report.guest("d")["state"], "halted");
    assert_eq!(report.stats()["host"]["frames_guests"], 0);
    assert_eq!(report.outcome, Outcome::Ok);
}
