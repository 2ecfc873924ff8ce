//! Commands that run by themselves.

use crate::fake::{Op, TSC_HZ, exits, print};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::{Step, When};
use pleat_types::Exit;

/// Ticks of a millisecond.
const MS: u64 = TSC_HZ / 1000;

/// Every millisecond, from this one on.
fn each_ms(from_ms: u64, command: &'static str) -> Step<'static> {
    let when = When::Every {
        period_us: 1000,
        from_us: from_ms * 1000,
    };
    Step { when, command }
}

/// Runs one guest for 10 ms; what is due at the end runs, too.
fn run(program: Vec<Op>, script: &[Step<'static>]) -> Report {
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.config.for_ms = Some(10);
    machine.config.script = script.iter().cloned().collect();
    machine.run()
}

/// When a command answered with this text, in ticks after the first entry.
fn answered(report: &Report, text: &str) -> Vec<u64> {
    let first = report.platform.entries[0].1;
    let lines = report.of_kind("console").into_iter();
    lines
        .filter(|record| record["text"].as_str().is_some_and(|line| line.starts_with(text)))
        .map(|record| record["t"].as_u64().expect("a time") - first)
        .collect()
}

fn busy() -> Vec<Op> {
    vec![Op::Spin(100), Op::Jump(0)]
}

#[test]
fn a_command_is_repeated_on_time_while_a_guest_runs() {
    let times = answered(&run(busy(), &[each_ms(1, "audit")]), "audit:");
    assert_eq!(times.len(), 10, "{times:?}");
    for (ms, time) in (1..).zip(&times) {
        // A guest's turn of a tenth of a slice, 10 us, may come between.
        let late = time.checked_sub(ms * MS).expect("not before its time");
        assert!(late < 20_000, "{times:?}");
    }
}

#[test]
fn a_command_is_repeated_while_all_guests_are_idle_or_paused() {
    let idle = vec![Op::Interrupts(true), exits(Exit::Hlt)];
    let pause = Step {
        when: When::Micros(500),
        command: "pause a",
    };
    for (program, script) in [
        (idle, vec![each_ms(4, "audit")]),
        (busy(), vec![each_ms(4, "audit"), pause]),
    ] {
        let times = answered(&run(program, &script), "audit:");
        assert_eq!(times.len(), 7, "{times:?}");
        assert!(
            times
                .iter()
                .zip(4..)
                .all(|(time, ms)| (ms * MS..ms * MS + 1000).contains(time))
        );
    }
}

#[test]
fn what_was_missed_is_not_made_up_for() {
    // Nothing interrupts this step, so that 2 to 6 ms pass without a look at the script.
    let program = [vec![Op::Spin(1_500_000), Op::Spin(5_000_000)], busy_from(2)].concat();
    let times = answered(&run(program, &[each_ms(1, "audit")]), "audit:");
    let whole: Vec<u64> = times.iter().map(|time| time / MS).collect();
    assert_eq!(whole, [1, 6, 7, 8, 9, 10], "{times:?}");
}

fn busy_from(at: usize) -> Vec<Op> {
    vec![Op::Spin(100), Op::Jump(at)]
}

#[test]
fn commands_that_take_all_the_time_there_is_leave_some_to_each_other_and_to_guests() {
    // Due again at every look: three commands of one microsecond.
    let always = |command| Step {
        when: When::Every {
            period_us: 1,
            from_us: 0,
        },
        command,
    };
    let script = [always("audit"), always("guests"), always("help")];
    let single = Step {
        when: When::Micros(5000),
        command: "frobnicate",
    };
    let program = [print("pleat-event: up\n"), busy_from(16)].concat();
    let report = run(program, &[&script[..], &[single]].concat());
    let counts = ["audit:", "guest  ", "  help"].map(|text| answered(&report, text).len());
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    assert!(counts[0].abs_diff(counts[2]) <= 1, "{counts:?}");
    let late = answered(&report, "`frobnicate`")[0] - 5 * MS;
    assert!(late < 20_000, "{late}");
    assert_eq!(report.guest("a")["events"][0], "up");
    let used = report.guest("a")["instructions"].as_u64().expect("a number");
    assert!(used > 8 * MS, "{used}");
}
