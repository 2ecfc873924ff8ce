//! The corners of the processor that kernels seldom visit and hypervisors often get wrong: real mode, legacy
//! paging, an instruction pointer that wraps, single steps over exits, exceptions without end.
//!
//! Parameters: `how`, one of the names in `WAYS` (`checks`). `caches` watches CR0 for `for` milliseconds (20).
//! Those that come through report `work-ok`. All of it needs Pleat.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod control;
mod legacy;
mod steps;
mod wrap;

use pleat_guest::parameters::Parameters;
use pleat_guest::trap::{self, GENERAL_PROTECTION};
use pleat_guest::{check, hypercall, memory, modes, println, step};

pleat_guest::main!(run);

type Way = fn(Parameters<'_>);

const WAYS: [(&str, Way); 5] = [
    ("checks", |_| checks()),
    ("caches", control::watch_caches),
    ("task-switch", |_| modes::call_task()),
    ("debug-loop", |_| {
        let frames = step::debug_loop();
        println!("the loop of debug exceptions ended after {frames}");
    }),
    ("alignment-loop", |_| modes::alignment_loop()),
];

/// Fails unless the operation ends in #GP.
fn expect_gp(what: &str, operation: impl FnOnce()) {
    let fault = trap::catch_fault(operation).err();
    let vector = fault.map(|fault| fault.vector);
    check!(
        vector == Some(GENERAL_PROTECTION),
        "{what}: {fault:x?}, expected #GP"
    );
}

fn checks() {
    control::check_all();
    steps::check_all();
    let mut pages = memory::take_all();
    wrap::check_all(&mut pages);
    legacy::check_all(&mut pages);
}

fn run(parameters: Parameters<'_>) {
    check!(hypercall::is_on_pleat(), "this kernel needs Pleat");
    let how = parameters.text("how").unwrap_or("checks");
    let Some((_, way)) = WAYS.iter().find(|(name, _)| *name == how) else {
        println!("FAILED: how={how} is none of:");
        for (name, _) in WAYS {
            println!("  {name}");
        }
        hypercall::finish(1)
    };
    hypercall::event("up");
    way(parameters);
    let must_not_end = ["task-switch", "debug-loop", "alignment-loop"].contains(&how);
    check!(!must_not_end, "{how}: still alive");
    hypercall::event("work-ok");
}
