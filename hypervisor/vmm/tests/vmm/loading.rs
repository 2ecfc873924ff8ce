//! Kernels of both kinds, images that change hands, and what cannot be loaded.

use crate::fake::{Op, exits, hypercall};
use crate::scenario::{KERNEL_AT, Machine, Report, guest, kernel};
use pleat_bundle::config::{GuestConfig, OnReboot, Start, Step, When};
use pleat_types::{Exit, Gpr, hypercall as calls};
use pleat_vmm::Outcome;

const ONES: u64 = 0x0101_0101_0101_0101;
const TWOS: u64 = 0x0202_0202_0202_0202;
const START_INFO: u64 = 0x9_8000;

/// Looks at the kernel that it was loaded from, and idles.
fn look() -> Vec<Op> {
    vec![
        Op::Expect(KERNEL_AT, ONES),
        Op::Expect(KERNEL_AT + 0xff8, ONES),
        Op::Expect(KERNEL_AT + 0x1000, 0),
        Op::Expect(KERNEL_AT + 0x2000, TWOS),
        Op::Expect(KERNEL_AT + 0x3000, 0),
        Op::ExpectGpr(Gpr::Rbx, START_INFO),
        // Magic and version; "quiet" and its final zero.
        Op::Expect(START_INFO, 0x1_336e_c578),
        Op::Expect(0x9_9000, u64::from_le_bytes(*b"quiet\0\0\0")),
        Op::Interrupts(true),
        exits(Exit::Hlt),
    ]
}

fn run_for_a_while(guests: Vec<(GuestConfig<'static>, Vec<Op>)>) -> Report {
    let mut machine = Machine::new(guests);
    machine.config.for_ms = Some(2);
    machine.run()
}

/// Host frames behind the first page of the kernel of each guest, by walking what the stream does not show.
fn held_of_bundle(report: &Report) -> u64 {
    report.stats()["host"]["frames_bundle"]
        .as_u64()
        .expect("a number")
}

#[test]
fn every_guest_gets_its_kernel_and_the_last_one_the_frames_themselves() {
    let report = run_for_a_while(vec![(guest("a"), look()), (guest("b"), look())]);
    assert_eq!(held_of_bundle(&report), 0);
    // The pages of ones and twos still lie where the bundle had them: now the last guest's own.
    let first = report.bundle_frames.start + 2;
    assert_eq!(report.platform.memory.word(first * 4096), ONES);
    assert_eq!(report.platform.memory.word((first + 2) * 4096), TWOS);
    let unique = |name: &str| report.guest(name)["unique"].as_u64().expect("a number");
    // Two pages of kernel, parameters, command line, ACPI tables: no page for zeros.
    assert_eq!((unique("a"), unique("b")), (5, 5));
}

#[test]
fn images_of_guests_that_restart_are_kept() {
    let mut config = guest("a");
    config.on_reboot = OnReboot::Restart;
    let program = vec![
        Op::Expect(KERNEL_AT, ONES),
        Op::Expect(0x5000, 0),
        Op::Store(0x5000, 1),
        Op::Store(KERNEL_AT, 2),
        Op::Spin(300_000),
        crate::fake::out(0x64, 0xfe),
    ];
    let report = run_for_a_while(vec![(config, program)]);
    assert!(held_of_bundle(&report) >= 4);
    let restarts = report
        .of_kind("state")
        .iter()
        .filter(|record| record["reason"] == "restarted")
        .count();
    assert!(restarts > 2, "{restarts}");
}

#[test]
fn kept_images_go_back_when_the_last_guest_that_could_restart_has_ended() {
    let work = |steps| {
        [
            vec![Op::Spin(1000); steps],
            vec![hypercall(calls::FINISH, 0, 0, 0)],
        ]
        .concat()
    };
    let restarting = |name, steps| {
        let mut config = guest(name);
        config.on_reboot = OnReboot::Restart;
        (config, work(steps))
    };
    let mut machine = Machine::new(vec![
        restarting("a", 100),
        restarting("b", 2500),
        (guest("c"), work(7000)),
    ]);
    machine.kernel = kernel(&[[1; 4096]; 40], 0);
    machine.config.script = [2000, 8000].into_iter().map(stats_at).collect();
    let report = machine.run();
    let held = |index: usize| {
        let record = &report.of_kind("stats")[index]["record"];
        record["host"]["frames_bundle"].as_u64().expect("a number")
    };
    assert_eq!(report.guest("a")["reason"], "finished");
    // 40 pages and the ELF header, for as long as `b` may need them again.
    assert_eq!((held(0), held(1), held_of_bundle(&report)), (41, 0, 0));
}

fn stats_at(micros: u64) -> Step<'static> {
    Step {
        when: When::Micros(micros),
        command: "stats",
    }
}

#[test]
fn an_initramfs_lies_high_and_is_announced() {
    let mut config = guest("a");
    config.initramfs = Some(1);
    let start = (2 << 20) - 8192;
    let program = vec![
        Op::Expect(start, 0x0707_0707_0707_0707),
        Op::Expect(start + 4992, 0x0707_0707_0707_0707),
        Op::Expect(start + 5000, 0),
        Op::Expect(START_INFO + 16, START_INFO + 0x40),
        Op::Expect(START_INFO + 0x40, start),
        Op::Expect(START_INFO + 0x48, 5000),
        hypercall(calls::FINISH, 0, 0, 0),
    ];
    let report = run_for_a_while(vec![(config, program)]);
    assert_eq!(report.guest("a")["reason"], "finished");
}

#[test]
fn a_bzimage_is_entered_with_its_parameters() {
    let mut file = vec![0u8; 1024 + 5000];
    file[0x1f1] = 1;
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x200..0x208].copy_from_slice(&[0xeb, 0x6a, b'H', b'd', b'r', b'S', 0x0f, 2]);
    file[0x214..0x218].copy_from_slice(&0x10_0000u32.to_le_bytes());
    file[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    file[0x238] = 200;
    file[0x260..0x264].copy_from_slice(&0x8000u32.to_le_bytes());
    file[1024..].fill(3);
    let program = vec![
        Op::Expect(0x10_0000, 0x0303_0303_0303_0303),
        Op::Expect(0x10_0000 + 4992, 0x0303_0303_0303_0303),
        Op::ExpectGpr(Gpr::Rsi, START_INFO),
        Op::Expect(START_INFO + 0x70, 0x9_e000),
        Op::Expect(START_INFO + 0x2d0, 0),
        Op::Expect(START_INFO + 0x2d8, 0x9_e000),
        // The command line, and the header's highest address for an initramfs.
        Op::Expect(START_INFO + 0x228, 0x7fff_ffff_0009_9000),
        hypercall(calls::FINISH, 0, 0, 0),
    ];
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.kernel = file;
    assert_eq!(machine.run().guest("a")["reason"], "finished");
}

#[test]
fn what_cannot_be_loaded_stops_nobody_else() {
    let mut tiny = guest("tiny");
    tiny.memory_bytes = 1 << 20;
    let mut missing = guest("missing");
    missing.initramfs = Some(77);
    let mut not_a_kernel = guest("not-a-kernel");
    not_a_kernel.kernel = 1;
    let report = run_for_a_while(vec![
        (tiny, vec![]),
        (missing, vec![]),
        (not_a_kernel, vec![]),
        (guest("good"), vec![hypercall(calls::FINISH, 0, 0, 0)]),
    ]);
    let reason = |name: &str| report.guest(name)["reason"].as_str().expect("a text").to_string();
    assert_eq!(
        reason("tiny"),
        "could not start: its memory is too small for kernel and initramfs: at least 2 MiB"
    );
    assert!(
        reason("missing").contains("section with its initramfs"),
        "{}",
        reason("missing")
    );
    assert_eq!(
        reason("not-a-kernel"),
        "could not start: kernel is neither an ELF with a PVH note nor a bzImage"
    );
    assert_eq!(report.guest("tiny")["state"], "crashed");
    assert_eq!(reason("good"), "finished");
    // Who describes a guest that is not there has not got the run that was asked for.
    assert_eq!(report.outcome, Outcome::Failed);
    let failures = report.stats()["failures"].as_array().map(Vec::len);
    assert_eq!(failures, Some(3));
    assert_eq!(held_of_bundle(&report), 0);
}

/// A kernel whose one page lies at `start`.
fn kernel_at(start: u64) -> Vec<u8> {
    let mut file = kernel(&[[1; 4096]], 0);
    for at in [64 + 16, 64 + 24] {
        file[at..at + 8].copy_from_slice(&start.to_le_bytes());
    }
    file
}

#[test]
fn a_kernel_that_boot_data_would_overwrite_is_refused() {
    let run = |start: u64| {
        let program = vec![Op::Expect(start, ONES), hypercall(calls::FINISH, 0, 0, 0)];
        let mut machine = Machine::new(vec![(guest("a"), program)]);
        machine.kernel = kernel_at(start);
        machine.run()
    };
    for (start, end) in [(0x9_7001, 0x9_8001), (0x9_d000, 0x9_e000), (0xf_f800, 0x10_0800)] {
        let report = run(start);
        let reason = format!(
            "could not start: kernel has a segment at {start:#x}..{end:#x}, but 0x98000..0x100000 is for boot data"
        );
        assert_eq!(report.guest("a")["reason"], reason);
        assert_eq!(report.outcome, Outcome::Failed);
    }
    assert_eq!(run(0x9_7000).guest("a")["reason"], "finished");
}

#[test]
fn an_unaligned_kernel_is_copied() {
    // The segment's place in the file and in memory differ within the page.
    let mut file = kernel(&[[1; 4096], [2; 4096]], 0);
    file[88..96].copy_from_slice(&(KERNEL_AT + 0x800).to_le_bytes());
    let program = vec![
        Op::Expect(KERNEL_AT + 0x7f8, 0),
        Op::Expect(KERNEL_AT + 0x800, ONES),
        Op::Expect(KERNEL_AT + 0x1800, TWOS),
        Op::Expect(KERNEL_AT + 0x27f8, TWOS),
        hypercall(calls::FINISH, 0, 0, 0),
    ];
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.kernel = file;
    assert_eq!(machine.run().guest("a")["reason"], "finished");
}

#[test]
fn a_page_with_a_single_late_byte_is_no_page_of_zeros() {
    let mut page = [0; 4096];
    page[4090] = 9;
    let program = vec![
        Op::Expect(KERNEL_AT, 0),
        Op::Expect(KERNEL_AT + 0xff8, 9 << 16),
        Op::Expect(KERNEL_AT + 0x1000, 0),
        hypercall(calls::FINISH, 0, 0, 0),
    ];
    let mut machine = Machine::new(vec![(guest("a"), program)]);
    machine.kernel = kernel(&[page, [0; 4096]], 0);
    assert_eq!(machine.run().guest("a")["reason"], "finished");
}

#[test]
fn a_host_that_is_too_small_says_so() {
    let mut config = guest("greedy");
    config.initramfs = Some(1);
    config.memory_bytes = 16 << 20;
    let mut machine = Machine::new(vec![
        (config, vec![]),
        (guest("modest"), vec![hypercall(calls::FINISH, 0, 0, 0)]),
    ]);
    // An image that somebody else still needs is copied, and there is no room for the copy.
    machine.initramfs = Some(vec![5; 5 << 20]);
    machine.memory_bytes = 10 << 20;
    let mut keeper = guest("keeper");
    keeper.initramfs = Some(1);
    keeper.memory_bytes = 1 << 20;
    machine.config.guests.push(keeper);
    let report = machine.run();
    let reason = report.guest("greedy")["reason"]
        .as_str()
        .expect("a text")
        .to_string();
    assert_eq!(
        reason,
        "could not start: the host has too little free memory to load it"
    );
    assert_eq!(report.guest("modest")["reason"], "finished");
    assert_eq!(report.stats()["host"]["frames_guests"], 0);
}

#[test]
fn a_damaged_image_is_found_before_a_guest_runs_it() {
    let machine = Machine::new(vec![(guest("a"), vec![])]);
    let report = machine.run_damaged(1);
    let reason = report.guest("a")["reason"].as_str().expect("a text").to_string();
    assert!(reason.contains("SectionChecksum"), "{reason}");
}

#[test]
fn a_guest_that_starts_later_has_nothing_until_it_is_asked_for() {
    let mut later = guest("b");
    later.start = Start::Later;
    let mut machine = Machine::new(vec![
        (guest("a"), vec![Op::Spin(1000), Op::Jump(0)]),
        (
            later,
            vec![Op::Expect(KERNEL_AT, ONES), hypercall(calls::FINISH, 0, 0, 0)],
        ),
    ]);
    machine.config.for_ms = Some(12);
    let at = |micros, command| Step {
        when: When::Micros(micros),
        command,
    };
    let steps = ["attach b", "type b x", "pause b", "start a", "stats", "start b"];
    machine.config.script = (1..)
        .map(|n| n * 1000)
        .zip(steps)
        .map(|(n, step)| at(n, step))
        .collect();
    let report = machine.run();
    let console = report.answers();
    assert!(
        console.contains("guest `b` has not been started: `start b`"),
        "{console}"
    );
    assert!(console.contains("guest `a` has been started before"), "{console}");
    let before = &report.of_kind("stats")[0]["record"]["guests"][1];
    assert_eq!(
        (&before["state"], &before["unique"]),
        (&serde_json::json!("unstarted"), &serde_json::json!(0))
    );
    assert_eq!(report.guest("b")["reason"], "finished");
}

#[test]
fn images_of_a_guest_that_nobody_starts_go_back_when_it_is_killed() {
    let mut later = guest("b");
    later.start = Start::Later;
    let mut machine = Machine::new(vec![
        (guest("a"), vec![Op::Spin(1000), Op::Jump(0)]),
        (later, look()),
    ]);
    machine.kernel = kernel(&[[1; 4096]; 40], 0);
    machine.config.for_ms = Some(10);
    let kill = Step {
        when: When::Micros(4000),
        command: "kill b",
    };
    machine.config.script = [stats_at(2000), kill].into_iter().collect();
    let report = machine.run();
    let held = report.of_kind("stats")[0]["record"]["host"]["frames_bundle"].as_u64();
    assert_eq!((held, held_of_bundle(&report)), (Some(41), 0));
    assert_eq!(report.guest("b")["reason"], "killed");
}
