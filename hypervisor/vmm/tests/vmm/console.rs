//! What a person at the console sees.

use crate::fake::{Op, exits, out, print};
use crate::scenario::{Machine, Report, guest};
use pleat_types::Exit;

fn typed(text: &str) -> Report {
    let program = [
        vec![Op::Store(0x5000, 1)],
        print("pleat-event: up\n"),
        vec![Op::Interrupts(true), exits(Exit::Hlt)],
    ];
    let mut machine = Machine::new(vec![(guest("a"), program.concat())]);
    machine.config.for_ms = Some(5);
    // The script's commands come after the guest has run; typed ones come before.
    machine.config.script = text
        .lines()
        .map(|line| pleat_bundle::config::Step {
            when: pleat_bundle::config::When::Micros(1000),
            command: Box::leak(line.to_string().into_boxed_str()),
        })
        .collect();
    machine.run()
}

#[test]
fn the_page_tables_of_a_guest() {
    let answers = typed("ept a").answers();
    let expected = "\
guest `a`:   2048 KiB promised,     24 KiB backed
  unique 4 KiB         6     24 KiB   1 %
  large 2 MiB          0      0 KiB   0 %
  huge 1 GiB           0      0 KiB   0 %
  shared               0      0 KiB   0 %
  zero                 0      0 KiB   0 %
  swapped              0      0 KiB   0 %
  untouched          506   2024 KiB  98 %
  ballooned            0      0 KiB   0 %
  tables: 4 = 1 level 4, 1 level 3, 1 level 2, 1 level 1
  devices: 0 port accesses that nothing answered, 0 bytes of output lost
  faults: 4
    unique                          4
";
    assert!(answers.starts_with(expected), "{answers}");
    assert!(answers.contains("port"), "{answers}");
}

#[test]
fn the_list_of_guests_and_the_audit() {
    let answers = typed("guests\naudit").answers();
    let mut lines = answers.lines();
    assert!(
        lines
            .next()
            .expect("a heading")
            .starts_with("guest            state")
    );
    let row = lines.next().expect("a guest");
    assert!(row.starts_with("a                idle"), "{row}");
    assert!(row.ends_with("100  up"), "{row}");
    assert!(answers.contains("audit: clean"), "{answers}");
}

#[test]
fn mistakes_are_answered_with_what_is_allowed() {
    let answers = typed("frobnicate\nkill nobody\nkill").answers();
    assert!(
        answers.contains("`frobnicate` is not a command; allowed are help, guests"),
        "{answers}"
    );
    assert!(
        answers.contains("there is no guest `nobody`; there are:\n  a\n"),
        "{answers}"
    );
    assert!(
        answers.contains("`kill` needs the name of a guest: kill GUEST"),
        "{answers}"
    );
}

#[test]
fn paused_guests_do_not_run() {
    let mut machine = Machine::new(vec![(guest("a"), vec![Op::Spin(100), Op::Jump(0)])]);
    machine.config.for_ms = Some(10);
    let step = |micros, command| pleat_bundle::config::Step {
        when: pleat_bundle::config::When::Micros(micros),
        command,
    };
    machine.config.script = [step(1000, "pause a"), step(8000, "resume a")]
        .into_iter()
        .collect();
    let report = machine.run();
    let used = report.guest("a")["instructions"].as_u64().expect("a number");
    assert!((2_900_000..3_300_000).contains(&used), "{used}");
}

#[test]
fn typed_bytes_reach_an_attached_guest_until_it_is_left() {
    // Receives by polling the line status register would need a branch; the board's backlog shows it: the
    // guest reads the receive buffer after it was told that there is something.
    use pleat_types::{Gpr, PortAccess, PortSize};
    let read = PortAccess {
        port: 0x3f8,
        size: PortSize::Byte,
        is_read: true,
        is_string: false,
    };
    let program = vec![
        Op::Spin(500_000),
        Op::Exits(Exit::Port(read), vec![(Gpr::Rax, 0)]),
        Op::ExpectGpr(Gpr::Rax, u64::from(b'x')),
        crate::fake::hypercall(pleat_types::hypercall::FINISH, 0, 0, 0),
    ];
    let mut machine = Machine::new(vec![
        (guest("a"), program),
        (guest("b"), vec![Op::Spin(100), Op::Jump(0)]),
    ]);
    machine.config.for_ms = Some(5);
    machine.input = b"attach a\rx\x1dguests\r".to_vec();
    let report = machine.run();
    assert_eq!(report.guest("a")["reason"], "finished");
    assert!(report.answers().contains("[attached to `a`; Ctrl-] detaches]"));
    assert!(String::from_utf8_lossy(&report.platform.console).contains("[detached]"));
    assert!(
        report.answers().contains("guest            state"),
        "commands are commands again"
    );
}

#[test]
fn the_whole_record_is_what_the_types_say() {
    let report = typed("stats");
    let records = report.of_kind("stats");
    assert_eq!(records.len(), 2, "one for the command, one for the end");
    let keys: Vec<&String> = records[1]["record"]
        .as_object()
        .expect("an object")
        .keys()
        .collect();
    let expected = [
        "failures",
        "guests",
        "host",
        "instructions",
        "merge",
        "outcome",
        "schema",
        "swap",
    ];
    assert_eq!(keys, expected);
    let host = &report.stats()["host"];
    let classes = [
        "free",
        "image",
        "metadata",
        "tables",
        "guests",
        "compressed_pool",
        "bundle",
        "vcpus",
    ];
    let sum: u64 = classes
        .iter()
        .map(|class| host[format!("frames_{class}")].as_u64().expect("a number"))
        .sum();
    assert_eq!(host["frames_total"], sum);
    assert_eq!(report.guest("a")["event_ticks"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_guest_that_prints_without_end_leaves_room_for_answers() {
    let text = print(&format!("{}\n", "x".repeat(99)).repeat(300));
    let program = [text, vec![Op::Interrupts(true), exits(Exit::Hlt)]].concat();
    let mut machine = Machine::new(vec![(guest("chatty"), program)]);
    machine.config.is_interactive = true;
    // A byte takes as long as on a line of 115,200 baud.
    machine.console_ticks = 86_806;
    machine.config.for_ms = Some(2000);
    machine.config.script = [5000, 10_000]
        .into_iter()
        .map(|micros| pleat_bundle::config::Step {
            when: pleat_bundle::config::When::Micros(micros),
            command: "guests",
        })
        .collect();
    let report = machine.run();
    assert_eq!(report.platform.line.dropped, 0);
    let console = String::from_utf8_lossy(&report.platform.console).into_owned();
    assert_eq!(console.matches("guest            state").count(), 2, "{console}");
    let lines = console.lines().filter(|line| line.contains("chatty| "));
    let shown: usize = lines.map(|line| line.matches('x').count()).sum();
    assert!((4000..9000).contains(&shown), "{shown}");
    let gap = console
        .rsplit("[chatty: ")
        .next()
        .and_then(|rest| rest.split_once(" bytes not shown]"));
    let missing: usize = gap.expect("a gap").0.parse().expect("a number");
    // Lines of a hundred bytes with their newlines.
    assert_eq!(shown + missing / 100 * 99, 300 * 99);
    assert_eq!(report.output("chatty").len(), 30_000, "programs get all of it");
}

#[test]
fn no_control_sequence_of_a_guest_gets_to_the_terminal() {
    // U+009B is CSI in UTF-8, as a lone byte in 8-bit terminals; DEL, backspace and tab are controls, too.
    let csi = [out(0x3f8, 0xc2), out(0x3f8, 0x9b), out(0x3f8, 0x9b)];
    let program = [
        print("a"),
        csi.to_vec(),
        print("2J\x7f\x08\tb\n"),
        vec![exits(Exit::Hlt)],
    ];
    let mut machine = Machine::new(vec![(guest("a"), program.concat())]);
    machine.config.is_interactive = true;
    machine.config.for_ms = Some(1);
    let report = machine.run();
    let console = &report.platform.console;
    let line = b"\ra| a...2J..\tb\r\n";
    assert!(
        console.windows(line.len()).any(|window| window == line),
        "{console:?}"
    );
    assert!(console.is_ascii());
}

#[test]
fn output_of_guests_is_told_apart_and_harmless() {
    let program = [print("one\x1b[2Jtwo\r\nthree"), vec![exits(Exit::Hlt)]].concat();
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.config.is_interactive = true;
    machine.config.for_ms = Some(1);
    let report = machine.run();
    let console = String::from_utf8_lossy(&report.platform.console).into_owned();
    assert!(
        console.contains("\ra| one.[2Jtwo\r\n\ra| three\r\n"),
        "{console:?}"
    );
    assert_eq!(report.output("a"), "one\x1b[2Jtwo\r\nthree");
}
