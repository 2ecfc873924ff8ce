//! What happens when the host has no frame left.

use crate::fake::{Op, exits};
use crate::scenario::{Machine, Report, guest};
use pleat_bundle::config::GuestConfig;
use pleat_types::Exit;

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

/// `filler` takes so many pages and sleeps for ever; then two guests want a page and a table each.
fn two_want_two_frames(filler: u64) -> Report {
    let late = [
        vec![Op::Spin(8_000_000), Op::Store(0x40_0000, 1)],
        sleep().to_vec(),
    ]
    .concat();
    let mut machine = Machine::new(vec![
        (sized("a", 8, 100), late.clone()),
        (sized("b", 8, 100), late),
        (
            sized("filler", 16, 200),
            [fill(filler), sleep().to_vec()].concat(),
        ),
    ]);
    machine.memory_bytes = 8 << 20;
    machine.config.for_ms = Some(100);
    machine.run()
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
