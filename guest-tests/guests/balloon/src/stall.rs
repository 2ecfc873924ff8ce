//! `how=stall`: the host asks for memory, and nothing happens. The guest works on with all that it has.
//!
//! Parameters: `for` (milliseconds of idleness, 6000), `then` (`answer`: the target is met at last; else nothing).
//! Events: `up`, `ignored` (a target was there, and nothing was done), `answered`, `settled` (2 s later). Measures: `asked` (pages).

use pleat_guest::random::Random;
use pleat_guest::virtio::Interrupts;
use pleat_guest::virtio::balloon::{ALL, LIST_MAX, POISON, Way};
use pleat_guest::{apic, check, cpu, hypercall, interrupts};

use crate::{Start, VECTOR};

const STEP_MICROS: u64 = 50_000;
/// The host looks about once a second.
const SETTLE_MICROS: u64 = 2_200_000;
const CHECKS: usize = 20;

pub(crate) fn run(mut start: Start) {
    let mut balloon = start.balloon(ALL & !POISON);
    let mut arena = start.arena();
    let mut random = Random::new(start.parameters.number("seed", 1));
    arena.fill_all();
    hypercall::event("up");
    let end = cpu::tsc() + apic::ticks(start.micros("for", 6000));
    while cpu::tsc() < end {
        apic::sleep_micros(STEP_MICROS);
        arena.expect_some(&mut random, CHECKS, "while the host waits");
    }
    let asked = balloon.target();
    check!(asked != 0, "the host has not asked for anything");
    if start.interrupts == Interrupts::Messages(VECTOR) {
        check!(
            interrupts::counted(VECTOR) != 0,
            "the target came without an interrupt"
        );
    }
    check!(balloon.actual() == 0, "a balloon that nobody filled");
    hypercall::measure("asked", u64::from(asked));
    hypercall::event("ignored");
    if start.parameters.text("then") == Some("answer") {
        let asked = asked as usize;
        check!(asked <= arena.len(), "{asked} pages are asked for");
        let mut list = [0; LIST_MAX];
        while arena.away < asked {
            let wanted = (asked - arena.away).min(LIST_MAX);
            let found = arena.pick(&mut random, Way::Inflate, &mut list[..wanted]);
            if found == 0 {
                continue;
            }
            arena.to_frames(&mut list[..found]);
            balloon.move_pages(Way::Inflate, &list[..found]);
            balloon.set_actual(u32::try_from(arena.away).unwrap_or(0));
        }
        hypercall::event("answered");
        apic::sleep_micros(SETTLE_MICROS);
        hypercall::event("settled");
        apic::sleep_micros(STEP_MICROS);
    }
    arena.expect_all("at the end");
}
