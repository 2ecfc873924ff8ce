//! How guests live and end, and how a run does.

use crate::fake::{Op, exits, hypercall, out, print};
use crate::scenario::{Machine, guest};
use pleat_bundle::config::{Step, When};
use pleat_types::{CrAccess, Event, Exit, Gpa, Gpr, PortAccess, PortSize, hypercall as calls};
use pleat_vmm::Outcome;

fn finish(code: u64) -> Op {
    hypercall(calls::FINISH, code, 0, 0)
}

#[test]
fn a_guest_dies_alone_in_each_of_many_ways() {
    let string_io = PortAccess {
        port: 0x3f8,
        size: PortSize::Byte,
        is_read: false,
        is_string: true,
    };
    let deaths = [
        (Exit::TripleFault, "crashed", "triple fault"),
        (
            Exit::EntryFailed(33),
            "crashed",
            "the processor refused to run it (exit reason 33)",
        ),
        (
            Exit::Other(99),
            "stopped",
            "VM exit with reason 99, which is not emulated",
        ),
        (
            Exit::Port(string_io),
            "stopped",
            "string I/O at port 0x3f8, which is not emulated",
        ),
        (
            Exit::ControlRegister(CrAccess::Other),
            "stopped",
            "control register access Other, which is not emulated",
        ),
        (Exit::Hlt, "halted", "powered off"),
    ];
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let mut guests: Vec<_> = deaths
        .iter()
        .zip(NAMES)
        .map(|((exit, ..), name)| (guest(name), vec![Op::Store(0x5000, 1), exits(*exit)]))
        .collect();
    let survivor = vec![
        Op::Store(0x5000, 0x77),
        Op::Spin(3_000_000),
        Op::Expect(0x5000, 0x77),
        finish(0),
    ];
    guests.push((guest("survivor"), survivor));
    let report = Machine::new(guests).run();
    for ((_, state, reason), name) in deaths.iter().zip(NAMES) {
        assert_eq!(report.guest(name)["state"], *state);
        assert_eq!(report.guest(name)["reason"], *reason);
        let has_report = report
            .of_kind("report")
            .iter()
            .any(|record| record["guest"] == name);
        assert_eq!(has_report, *state != "halted", "{name}");
    }
    assert_eq!(report.guest("survivor")["reason"], "finished");
    assert_eq!(report.outcome, Outcome::Ok);
    assert_eq!(report.stats()["host"]["frames_guests"], 0);
    assert_eq!(report.stats()["host"]["frames_vcpus"], 0);
    assert_eq!(report.stats()["host"]["frames_tables"], 0);
}

#[test]
fn a_mistake_of_ours_fails_the_run_too() {
    let mistakes = [
        (
            Exit::EptMisconfiguration(Gpa::new(0x1000)),
            "a bug of Pleat: EPT misconfiguration (0x1000)",
        ),
        (
            Exit::EntryFailed(7),
            "a bug of Pleat: VM entry refused, VM-instruction error (0x7)",
        ),
        (
            Exit::EntryFailed(8),
            "a bug of Pleat: VM entry refused, VM-instruction error (0x8)",
        ),
    ];
    for (exit, reason) in mistakes {
        let work = (guest("b"), vec![Op::Spin(300_000), finish(0)]);
        let report = Machine::new(vec![(guest("a"), vec![exits(exit)]), work]).run();
        assert_eq!(report.guest("a")["state"], "stopped");
        assert_eq!(report.guest("a")["reason"], reason);
        assert_eq!(report.guest("b")["reason"], "finished");
        assert_eq!(report.outcome, Outcome::Failed);
        let expected = format!("guest `a` stopped: {reason}");
        assert_eq!(report.stats()["failures"], serde_json::json!([expected]));
    }
}

#[test]
fn a_report_names_the_last_exits_without_gaps() {
    // The longest names: together longer than a reason may be.
    let program = [
        vec![exits(Exit::ControlRegister(CrAccess::WriteCr4(0))); 9],
        vec![exits(Exit::TripleFault)],
    ];
    let report = Machine::new(vec![(guest("a"), program.concat())]).run();
    let lines = report.of_kind("report");
    let last = lines.last().expect("a line")["text"].as_str().expect("a text");
    let expected = [Exit::ControlRegister(CrAccess::Other).name(); 7].join(" ");
    assert_eq!(last, format!("last exits: {expected} triple-fault"));
}

#[test]
fn instructions_that_are_not_there_raise_faults() {
    let program = vec![
        exits(Exit::UndefinedInstruction),
        Op::Privilege(3),
        hypercall(calls::NULL, 0, 0, 0),
        Op::Privilege(0),
        Op::Exits(Exit::ReadMsr, vec![(Gpr::Rcx, 0xdead_0000)]),
        Op::Exits(Exit::Xsetbv, vec![(Gpr::Rcx, 1)]),
        Op::Exits(Exit::ControlRegister(CrAccess::WriteCr4(1 << 40)), vec![]),
        finish(0),
    ];
    let report = Machine::new(vec![(guest("a"), program)]).run();
    assert_eq!(report.guest("a")["reason"], "finished");
    let events: Vec<Event> = report
        .platform
        .delivered
        .iter()
        .map(|(_, event)| *event)
        .collect();
    use Event::{GeneralProtection as Gp, InvalidOpcode as Ud};
    assert_eq!(events, [Ud, Ud, Gp, Gp, Gp]);
}

#[test]
fn hypercalls_answer() {
    let text = u64::from_le_bytes(*b"hello\n\0\0");
    let program = vec![
        hypercall(calls::NULL, 0, 0, 0),
        Op::ExpectGpr(Gpr::Rax, 0),
        hypercall(calls::TSC_HZ, 0, 0, 0),
        Op::ExpectGpr(Gpr::Rax, crate::fake::TSC_HZ),
        hypercall(0x1234, 0, 0, 0),
        Op::ExpectGpr(Gpr::Rax, calls::UNKNOWN),
        hypercall(calls::PRINT, 0x5000, 257, 0),
        Op::ExpectGpr(Gpr::Rax, calls::INVALID),
        hypercall(calls::PRINT, u64::MAX - 2, 10, 0),
        Op::ExpectGpr(Gpr::Rax, calls::INVALID),
        Op::Store(0x5000, text),
        hypercall(calls::PRINT, 0x5000, 6, 0),
        Op::ExpectGpr(Gpr::Rax, 0),
        hypercall(calls::EVENT, 0x5000, 5, 0),
        Op::ExpectGpr(Gpr::Rax, 0),
        hypercall(calls::EVENT, 0x5000, 8, 0),
        Op::ExpectGpr(Gpr::Rax, calls::INVALID),
        hypercall(calls::MEASURE, 0x5000, 5, 1234),
        hypercall(calls::YIELD, 0, 0, 0),
        finish(3),
    ];
    let report = Machine::new(vec![(guest("a"), program)]).run();
    assert_eq!(report.output("a"), "hello\n");
    assert_eq!(report.guest("a")["events"], serde_json::json!(["hello"]));
    assert_eq!(report.of_kind("measure")[0]["value"], 1234);
    assert_eq!(report.guest("a")["reason"], "finished with failure 3");
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(report.of_kind("end")[0]["outcome"], "failed");
}

#[test]
fn a_line_on_the_uart_is_output_and_can_be_an_event() {
    let mut program = print("say \"hi\"\\\tbye\x01\npleat-event: up\r\npart");
    program.push(exits(Exit::Hlt));
    let report = Machine::new(vec![(guest("a"), program)]).run();
    assert_eq!(
        report.output("a"),
        "say \"hi\"\\\tbye\x01\npleat-event: up\r\npart"
    );
    assert_eq!(report.of_kind("event")[0]["event"], "up");
    assert_eq!(report.outcome, Outcome::Ok);
}

#[test]
fn a_run_ends_when_all_have_reported_and_fails_when_one_cannot() {
    let idle = || vec![Op::Interrupts(true), exits(Exit::Hlt)];
    let mut machine = Machine::new(vec![
        (guest("a"), [print("pleat-event: up\n"), idle()].concat()),
        (guest("b"), vec![exits(Exit::TripleFault)]),
    ]);
    machine.config.until = ["up"].into_iter().collect();
    let report = machine.run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert_eq!(
        report.stats()["failures"],
        serde_json::json!(["guest `b` never reported `up`"])
    );
    assert_eq!(report.guest("a")["state"], "running");
}

#[test]
fn work_failed_is_a_failure() {
    let mut machine = Machine::new(vec![(
        guest("a"),
        [print("pleat-event: work-failed\n"), vec![finish(0)]].concat(),
    )]);
    machine.config.until = ["work-failed"].into_iter().collect();
    assert_eq!(machine.run().outcome, Outcome::Failed);
}

#[test]
fn waiting_for_nothing_ends_the_run() {
    let report = Machine::new(vec![(guest("a"), vec![Op::Interrupts(true), exits(Exit::Hlt)])]).run();
    assert_eq!(report.outcome, Outcome::Failed);
}

#[test]
fn a_script_kills_at_its_time_and_at_events() {
    let spin = vec![Op::Spin(1000), Op::Jump(0)];
    let mut machine = Machine::new(vec![
        (guest("a"), spin.clone()),
        (guest("b"), spin.clone()),
        (
            guest("c"),
            [
                vec![Op::Spin(2_500_000)],
                print("pleat-event: up\n"),
                vec![Op::Jump(0)],
            ]
            .concat(),
        ),
    ]);
    machine.config.script = [
        Step {
            when: When::Micros(3000),
            command: "kill a",
        },
        Step {
            when: When::Event {
                guest: "c",
                event: "up",
            },
            command: "kill b",
        },
        Step {
            when: When::Micros(20_000),
            command: "quit",
        },
    ]
    .into_iter()
    .collect();
    let report = machine.run();
    assert_eq!(report.guest("a")["reason"], "killed");
    assert_eq!(report.guest("b")["reason"], "killed");
    assert_eq!(report.guest("c")["state"], "running");
    let state = |name: &str| {
        let mut ends = report.of_kind("state").into_iter();
        ends.find(|record| record["guest"] == name && record["state"] == "stopped")
            .expect("killed")["t"]
            .as_u64()
    };
    let t = state("a").expect("a time");
    assert!((3_000_000..3_400_000).contains(&t), "{t}");
    assert!(state("b").expect("a time") > t);
}

#[test]
fn processor_time_follows_weights_even_for_guests_that_only_exit() {
    let busy = vec![exits(Exit::Cpuid), Op::Jump(0)];
    let mut heavy = guest("heavy");
    heavy.weight = 300;
    let mut machine = Machine::new(vec![
        (heavy, busy.clone()),
        (guest("light"), vec![Op::Spin(100), Op::Jump(0)]),
    ]);
    machine.config.for_ms = Some(40);
    let report = machine.run();
    let used = |name: &str| report.guest(name)["instructions"].as_u64().expect("a number") as f64;
    let ratio = used("heavy") / used("light");
    assert!((2.8..3.2).contains(&ratio), "{ratio}");
}

#[test]
fn a_timer_wakes_a_waiting_guest_on_time() {
    const TSC_DEADLINE: u64 = 0x6e0;
    const LVT_TIMER: u64 = 0x832;
    const SPURIOUS: u64 = 0x80f;
    let write = |msr: u64, value: u64| {
        Op::Exits(
            Exit::WriteMsr,
            vec![(Gpr::Rcx, msr), (Gpr::Rax, value), (Gpr::Rdx, 0)],
        )
    };
    let program = vec![
        write(SPURIOUS, 0x1ff),
        write(LVT_TIMER, 0x4_00ec),
        write(TSC_DEADLINE, 5_000_000),
        Op::Interrupts(true),
        exits(Exit::Hlt),
        finish(0),
    ];
    let busy = vec![Op::Spin(100), Op::Jump(0)];
    let mut machine = Machine::new(vec![(guest("sleeper"), program), (guest("busy"), busy)]);
    machine.config.for_ms = Some(10);
    let report = machine.run();
    assert_eq!(report.guest("sleeper")["reason"], "finished");
    assert_eq!(report.platform.delivered, [(0, Event::Interrupt(0xec))]);
    let end = report
        .of_kind("state")
        .into_iter()
        .find(|record| record["reason"] == "finished")
        .expect("ended");
    let t = end["t"].as_u64().expect("a number");
    assert!((5_000_000..5_150_000).contains(&t), "woken at {t}");
}

#[test]
fn a_reset_ends_a_guest_that_is_not_to_restart() {
    let report = Machine::new(vec![(guest("a"), vec![out(0x64, 0xfe)])]).run();
    assert_eq!(
        (&report.guest("a")["state"], &report.guest("a")["reason"]),
        (&"halted".into(), &"reset its machine".into())
    );
}
