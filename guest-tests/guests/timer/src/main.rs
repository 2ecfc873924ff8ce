//! Time: deadlines are met and never early, the APIC timer runs at the crystal's rate, interrupts come in
//! order of priority, and the wall clock runs as fast as the TSC.
//!
//! Parameters: `rounds` (deadlines, 200), `bound` (microseconds that the median may be late, 50),
//! `worst` (that any may be late, 20000), `rtc` (`yes`: also watch the real-time clock for a second),
//! `seed` (1).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod counter;
mod deadline;
mod order;
mod wall;

use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, hypercall};

pleat_guest::main!(run);

fn run(parameters: Parameters<'_>) {
    hypercall::event("up");
    check!(apic::is_usable(), "CPUID shows no x2APIC with TSC deadline");
    deadline::check_all(parameters);
    counter::check_all(parameters);
    order::check_all();
    if parameters.text("rtc") == Some("yes") {
        wall::check_rate();
    }
    hypercall::event("work-ok");
}
