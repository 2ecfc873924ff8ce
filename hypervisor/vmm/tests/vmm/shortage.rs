//! What happens when the host has no frame left.

use crate::fake::{Op, exits, hypercall};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{GuestConfig, MergeConfig, Pages, Step, When};
use pleat_types::{Exit, Gpr, hypercall as calls};

/// Registers of the local APIC's timer (SDM table 10-6), and what goes there.
const LVT_TIMER: u64 = 0x832;
const DEADLINE: u64 = 0x6e0;
const TSC_DEADLINE: u64 = 2 << 17;
const VECTOR: u64 = 0xec;

fn write_msr(msr: u64, value: u64) -> Op {
    let registers = vec![(Gpr::Rcx, msr), (Gpr::Rax, value), (Gpr::Rdx, 0)];
    Op::Exits(Exit::WriteMsr, registers)
}

fn finish() -> Op {
    hypercall(calls::FINISH, 0, 0, 0)
}

fn sized(name: &'static str, mib: u64, weight: u32) -> GuestConfig<'static> {
    let mut config = guest(name);
    config.memory_bytes = mib << 20;
    config.weight = weight;
    config
}

fn sleep() -> [Op; 2] {
    [Op::Interrupts(true), exits(Exit::Hlt)]
}

/// Writes so many pages.
fn fill(pages: u64) -> Vec<Op> {
    (0x200..0x200 + pages)
        .map(|page| Op::Store(page << 12, page))
        .collect()
}

/// How often a guest found no frame; what never happened is not in the record.
fn waits(report: &Report, guest: &str) -> u64 {
    report.guest(guest)["faults"]["waited"].as_u64().unwrap_or(0)
}

/// Runs these guests on a small machine, beside one that takes so many pages and sleeps for ever.
fn run_beside_a_filler(mut guests: Vec<(GuestConfig<'static>, Vec<Op>)>, pages: u64) -> Report {
    guests.push((sized("filler", 16, 200), [fill(pages), sleep().to_vec()].concat()));
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 8 << 20;
    machine.config.for_ms = Some(100);
    // Else there would be pages to look at before somebody is stopped.
    machine.config.merge = MergeConfig::OFF;
    machine.run()
}

/// `filler` takes so many pages and sleeps for ever; then two guests want a page and a table each.
fn two_want_two_frames(filler: u64) -> Report {
    let late = [
        vec![Op::Spin(8_000_000), Op::Store(0x40_0000, 1)],
        sleep().to_vec(),
    ]
    .concat();
    run_beside_a_filler(
        vec![(sized("a", 8, 100), late.clone()), (sized("b", 8, 100), late)],
        filler,
    )
}

#[test]
fn guests_that_wait_for_memory_do_not_wake_each_other() {
    let few = 1000;
    let free = two_want_two_frames(few).stats()["host"]["frames_free"]
        .as_u64()
        .expect("a number");
    let most = few + free;
    // One of these leaves nothing, one a single frame, one two, and so on.
    let reports: Vec<Report> = (most - 6..most + 4).map(two_want_two_frames).collect();
    let both: Vec<&Report> = reports
        .iter()
        .filter(|report| waits(report, "a") > 0 && waits(report, "b") > 0)
        .collect();
    assert!(both.len() >= 2, "no frame, or one");
    for report in both {
        assert!(waits(report, "a") + waits(report, "b") <= 4, "{}", report.stats());
        assert_eq!(report.guest("b")["state"], "stopped");
        let reason = report.guest("b")["reason"].as_str().expect("a text");
        assert!(reason.contains("host out of memory"), "{reason}");
        assert_eq!(report.guest("a")["state"], "running");
    }
}

/// A guest that asks for more memory than its neighbour leaves it.
fn late_comer() -> Vec<Op> {
    [vec![Op::Spin(3_000_000)], fill(1000), vec![finish()]].concat()
}

/// The late comer beside a neighbour that takes most of the memory first.
fn beside(neighbour: &[Op]) -> Machine {
    let mut machine = Machine::new(vec![
        (sized("a", 8, 100), late_comer()),
        (sized("b", 8, 100), [fill(1300), neighbour.to_vec()].concat()),
    ]);
    machine.memory_bytes = 8 << 20;
    machine
}

#[test]
fn nobody_is_stopped_while_a_neighbour_sleeps_that_will_end() {
    let sleeper = [
        write_msr(LVT_TIMER, TSC_DEADLINE | VECTOR),
        write_msr(DEADLINE, 900_000_000),
        Op::Interrupts(true),
        exits(Exit::Hlt),
        finish(),
    ];
    let report = beside(&sleeper).run();
    assert_eq!(waits(&report, "a"), 1);
    assert_eq!(report.guest("a")["reason"], "finished");
    assert_eq!(report.guest("b")["reason"], "finished");
}

#[test]
fn beside_a_neighbour_that_spins_the_wait_for_memory_is_limited() {
    let mut machine = beside(&[Op::Spin(20_000_000), Op::Jump(1300)]);
    machine.config.for_ms = Some(9_900);
    assert_eq!(machine.run().guest("a")["state"], "running");
    let mut machine = beside(&[Op::Spin(20_000_000), Op::Jump(1300)]);
    machine.config.for_ms = Some(10_200);
    let report = machine.run();
    assert_eq!(report.guest("a")["state"], "stopped");
    assert_eq!(
        report.guest("a")["reason"],
        "host out of memory: waited 10.0 s for a free frame"
    );
    assert_eq!(report.guest("b")["state"], "running");
}

#[test]
fn who_is_paused_is_not_stopped_for_want_of_memory() {
    let step = |micros, command| Step {
        when: When::Micros(micros),
        command,
    };
    let mut machine = beside(&[vec![Op::Spin(30_000_000)], sleep().to_vec()].concat());
    machine.config.script.push(step(15_000, "pause a"));
    machine.config.for_ms = Some(11_000);
    assert_eq!(machine.run().guest("a")["state"], "running");
    let mut machine = beside(&[vec![Op::Spin(30_000_000)], sleep().to_vec()].concat());
    machine.config.script.push(step(15_000, "pause a"));
    machine.config.script.push(step(50_000, "resume a"));
    machine.config.for_ms = Some(60);
    machine.config.merge = MergeConfig::OFF;
    let report = machine.run();
    assert_eq!(
        report.guest("a")["reason"],
        "host out of memory: no guest can go on and free a frame"
    );
}

/// `filler` takes so many pages; then a guest that may have 2 MiB at once wants one page, in a GiB
/// that has no table yet.
fn one_wants_a_large_page(filler: u64) -> Report {
    let mut config = sized("a", 2048, 100);
    config.pages = Pages::Large;
    let late = [
        vec![Op::Spin(8_000_000), Op::Store(0x4000_0000, 1)],
        sleep().to_vec(),
    ]
    .concat();
    run_beside_a_filler(vec![(config, late)], filler)
}

#[test]
fn two_mib_without_a_frame_for_the_table_become_a_small_page() {
    let few = 800;
    let first = one_wants_a_large_page(few);
    assert_eq!(first.guest("a")["large"], 1);
    let free = first.stats()["host"]["frames_free"].as_u64().expect("a number");
    // After this many there are 2 MiB left, and nothing else but a few frames.
    let most = few + free;
    let reports: Vec<Report> = (most - 8..most + 4).map(one_wants_a_large_page).collect();
    let has_large = |report: &&Report| report.guest("a")["large"] == 1;
    assert!(reports.iter().any(|report| has_large(&report)));
    assert!(!reports.iter().all(|report| has_large(&report)));
    for report in &reports {
        assert_eq!(waits(report, "a"), 0, "{}", report.guest("a"));
        assert_eq!(report.guest("a")["state"], "running");
    }
}
