//! A driver of the balloon that is obedient, hasty, lying, lazy, noisy, or gone in the middle of its work; an oracle
//! knows what each page of memory has to hold all the while.
//!
//! Parameters: `how`, one of the names in `WAYS`; `seed` (1); `pages` (of the memory that is worked on, 16384);
//! `interrupts` (`messages`, `line` or `polled`, which is usual); `skew` (bytes into their pages at which the rings
//! begin, 0); what each way takes besides is said in its module. Event at the end of each: `work-ok`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod arena;
mod flood;
mod lie;
mod measure;
mod oom;
mod poison;
mod report;
mod stall;
mod storm;
mod unload;

use pleat_guest::memory::{self, Page, Pages};
use pleat_guest::parameters::Parameters;
use pleat_guest::virtio::Interrupts;
use pleat_guest::virtio::balloon::{self, Balloon};
use pleat_guest::{apic, check, hypercall, println};

pleat_guest::main!(run);

/// What all ways begin with.
struct Start {
    parameters: Parameters<'static>,
    pages: Pages,
    /// Memory of the driver.
    driver: &'static mut [Page],
    interrupts: Interrupts,
}

type Way = fn(Start);

const WAYS: [(&str, Way); 10] = [
    ("storm", storm::run),
    ("measure", measure::run),
    ("lie", lie::run),
    ("suicide", lie::give_everything),
    ("stall", stall::run),
    ("flood", flood::run),
    ("unload", unload::run),
    ("oom", oom::run),
    ("report", report::run),
    ("poison", poison::run),
];
/// The vector for changes of the configuration; those of the queues follow.
const VECTOR: u8 = 0x60;

impl Start {
    /// The balloon with these of its features.
    fn balloon(&self, wanted: u64) -> Balloon {
        let skew = self.parameters.number("skew", 0);
        let place = self.driver[0].address();
        Balloon::must_start(wanted, self.interrupts, place, skew)
    }

    /// The memory that is worked on.
    fn arena(&mut self) -> arena::Arena {
        let len = self.parameters.count("pages", 16384);
        arena::Arena::new(&mut self.pages, len, self.parameters.number("seed", 1))
    }

    fn micros(&self, key: &str, default_millis: u64) -> u64 {
        self.parameters.number(key, default_millis).saturating_mul(1000)
    }
}

fn interrupts(parameters: Parameters<'_>) -> Interrupts {
    match parameters.text("interrupts").unwrap_or("polled") {
        "messages" if apic::is_usable() => Interrupts::Messages(VECTOR),
        "line" => Interrupts::Line,
        _ => Interrupts::Polled,
    }
}

fn run(parameters: Parameters<'static>) {
    let how = parameters.text("how").unwrap_or("(nothing)");
    let Some((_, way)) = WAYS.iter().find(|(name, _)| *name == how) else {
        println!("FAILED: how={how} is none of:");
        for (name, _) in WAYS {
            println!("  {name}");
        }
        hypercall::finish(1)
    };
    let mut pages = memory::take_all();
    let driver = pages.take(balloon::PAGES, 4096);
    check!(!driver.is_empty(), "no memory for the driver");
    way(Start {
        parameters,
        pages,
        driver,
        interrupts: interrupts(parameters),
    });
    hypercall::event("work-ok");
}
