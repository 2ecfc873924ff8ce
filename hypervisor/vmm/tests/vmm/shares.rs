//! What guests can do to each other's share of the processor.

use crate::fake::{Op, exits};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{Step, When};
use pleat_types::{Exit, Gpr};

/// Registers of the local APIC (SDM table 10-6), and what goes there.
const EOI: u64 = 0x80b;
const LVT_TIMER: u64 = 0x832;
const INITIAL_COUNT: u64 = 0x838;
const PERIODIC: u64 = 1 << 17;
const VECTOR: u64 = 0xec;

/// Guest time of a run, and its slices.
const RUN_MS: u64 = 20;
const SLICE_TICKS: u64 = 100_000;

fn write_msr(msr: u64, value: u64) -> Op {
    let registers = vec![(Gpr::Rcx, msr), (Gpr::Rax, value), (Gpr::Rdx, 0)];
    Op::Exits(Exit::WriteMsr, registers)
}

/// Programs the timer to fire as often as it can, each guest at another time, and goes on so.
fn storm(number: u64, then: &[Op]) -> Vec<Op> {
    let begin = vec![
        Op::Spin(number * 331),
        write_msr(LVT_TIMER, PERIODIC | VECTOR),
        write_msr(INITIAL_COUNT, 1),
        Op::Interrupts(true),
    ];
    [begin, then.to_vec()].concat()
}

/// A guest that only works, beside so many that do this.
fn work_beside(count: u64, then: &[Op]) -> Report {
    let mut guests = vec![(guest("busy"), vec![Op::Spin(100), Op::Jump(0)])];
    for number in 0..count {
        let name: &'static str = format!("storm{number}").leak();
        guests.push((guest(name), storm(number, then)));
    }
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 32 << 20;
    machine.config.for_ms = Some(RUN_MS);
    machine.run()
}

/// How often the busy guest was entered, and how long it ran.
fn of_busy(report: &Report) -> (usize, u64) {
    let entries = report.platform.entries.iter().filter(|entry| entry.0 == 0);
    let ticks = entries.clone().map(|(_, start, end)| end - start).sum();
    (entries.count(), ticks)
}

#[test]
fn timers_that_wake_nobody_cost_the_others_nothing() {
    let never_ends_service = [exits(Exit::Hlt), exits(Exit::Hlt), exits(Exit::Hlt)];
    let masks = [Op::Priority(0xf0), exits(Exit::Hlt), exits(Exit::Hlt)];
    for count in [1, 16, 60] {
        for program in [&never_ends_service, &masks] {
            let (entries, ticks) = of_busy(&work_beside(count, program));
            let slices = usize::try_from(RUN_MS * 1_000_000 / SLICE_TICKS).expect("few");
            // Each of the others begins, and is woken once at most.
            let most = slices + 10 + 3 * usize::try_from(count).expect("few");
            assert!(entries <= most, "{count} others: {entries} entries");
            assert!(
                ticks > RUN_MS * 1_000_000 * 9 / 10,
                "{count} others: {ticks} ticks"
            );
        }
    }
}

#[test]
fn guests_that_wake_all_the_time_do_not_cut_slices_to_pieces() {
    // They serve each interrupt and sleep again.
    let serves = [exits(Exit::Hlt), write_msr(EOI, 0), Op::Jump(4)];
    for count in [1, 16, 60] {
        let (entries, ticks) = of_busy(&work_beside(count, &serves));
        let most = usize::try_from(RUN_MS * 1_000_000 / (SLICE_TICKS / 10)).expect("few");
        assert!(entries <= most, "{count} others: {entries} entries");
        let share = RUN_MS * 1_000_000 / (count + 1);
        assert!(
            ticks >= share * 9 / 10,
            "{count} others: {ticks} ticks of {share}"
        );
    }
}

#[test]
fn taking_guests_down_takes_little_of_each_slice() {
    // A table for each 2 MiB.
    const MIB: u64 = 256;
    /// Entries that are looked at between two looks at the clock.
    const BATCH: u64 = 4096;
    let tables: Vec<Op> = (1..MIB / 2).map(|table| Op::Store(table << 21, 1)).collect();
    let program = [tables, vec![Op::Spin(1000), Op::Jump(127)]].concat();
    let mut guests = vec![(guest("busy"), vec![Op::Spin(100), Op::Jump(0)])];
    let mut script = vec![];
    for (name, kill) in [("a", "kill a"), ("b", "kill b"), ("c", "kill c"), ("d", "kill d")] {
        let mut config = guest(name);
        config.memory_bytes = MIB << 20;
        guests.push((config, program.clone()));
        script.push(Step {
            when: When::Micros(2000),
            command: kill,
        });
    }
    let mut machine = Machine::new(guests);
    machine.memory_bytes = 32 << 20;
    machine.config.script.extend(script);
    machine.config.for_ms = Some(RUN_MS);
    let report = machine.run();
    assert_eq!(report.guest("d")["reason"], "killed");
    let last = report.platform.entries.iter().rposition(|entry| entry.0 != 0);
    let alone = &report.platform.entries[last.expect("they ran")..];
    let gaps: Vec<u64> = alone.windows(2).map(|pair| pair[1].1 - pair[0].2).collect();
    let longest = gaps.iter().copied().max().expect("many entries");
    assert!(longest <= SLICE_TICKS / 4 + BATCH * 2, "{longest} ticks");
    let all: u64 = gaps.iter().sum();
    assert!(
        all > 4 * (MIB << 8),
        "the clock counts what is taken down: {all} ticks"
    );
}
