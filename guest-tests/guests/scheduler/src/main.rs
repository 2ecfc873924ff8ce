//! How much of the processor this guest gets: it reads the TSC in a loop, and a step that is too long
//! for the loop is time in which others ran.
//!
//! Parameters: `settle`, `window`, `linger` (milliseconds before, during and after the measurement: 20,
//! 200, 60), `share` (expected, in percent; without it nothing is expected), `slack` (percent points, 3),
//! `gap` (microseconds: the longest time without the processor that is allowed).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, cpu, hypercall, println};

pleat_guest::main!(run);

/// A step of the loop that takes longer is not the loop's.
const STEP_MICROS: u64 = 20;

struct Share {
    ran: u64,
    longest_gap: u64,
    gaps: u64,
}

fn spin_for(ticks: u64) -> Share {
    let step = apic::ticks(STEP_MICROS);
    let start = cpu::tsc();
    let mut share = Share {
        ran: 0,
        longest_gap: 0,
        gaps: 0,
    };
    let mut before = start;
    while before - start < ticks {
        let now = cpu::tsc();
        check!(now >= before, "the TSC went back by {} ticks", before - now);
        let passed = now - before;
        if passed < step {
            share.ran += passed;
        } else {
            share.gaps += 1;
            share.longest_gap = share.longest_gap.max(passed);
        }
        before = now;
    }
    share
}

fn run(parameters: Parameters<'_>) {
    let millis = |key, default| apic::ticks(parameters.number(key, default).saturating_mul(1000));
    hypercall::event("up");
    spin_for(millis("settle", 20));
    let window = millis("window", 200);
    let share = spin_for(window);
    let permille = share.ran.saturating_mul(1000) / window.max(1);
    hypercall::measure("share-permille", permille);
    hypercall::measure("longest-gap", share.longest_gap);
    hypercall::measure("gaps", share.gaps);
    println!(
        "ran {permille} of 1000, {} gaps, the longest of {} ticks",
        share.gaps, share.longest_gap
    );
    if parameters.text("share").is_some() {
        let (expected, slack) = (
            parameters.number("share", 0) * 10,
            parameters.number("slack", 3) * 10,
        );
        let is_right = permille.abs_diff(expected) <= slack;
        check!(is_right, "expected {expected} of 1000, give or take {slack}");
    }
    if parameters.text("gap").is_some() {
        let longest = apic::ticks(parameters.number("gap", 0));
        check!(
            share.longest_gap <= longest,
            "waited {} ticks, at most {longest} allowed",
            share.longest_gap
        );
    }
    hypercall::event("measured");
    spin_for(millis("linger", 60));
    hypercall::event("work-ok");
}
