//! Devices write into memory of every kind: merged with pages of another guest, all zeros, never touched, in the
//! balloon, reported as free, the guest's own. The bytes that the device was to write are there, those around them
//! are as before, and whoever shared the page sees nothing of it.
//!
//! Two guests of a domain run this with the same `seed`, so that their pages are equal, and write to them in turn. Each has
//! the disk image `scenarios/numbers.img`, a source of random numbers and, where the host types, a console.
//! Parameters: `seed` (1), `own` (1), `rounds` (3), `wait` (milliseconds to merge, 400), `typed` (bytes that the host
//! types at the virtio console after the event `listening`, 0; they are digits). Events: `up`, `merged`, `listening`,
//! `work-ok`. Measures: `from-disk`, `from-entropy`, `from-console` (bytes), `first-writes` (of the processor, to
//! pages that had to be merged, that went through the host).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod field;
mod sources;

use pleat_guest::memory;
use pleat_guest::parameters::Parameters;
use pleat_guest::random::Random;
use pleat_guest::{apic, hypercall, println};

use field::{Field, Kind};
use sources::Sources;

pleat_guest::main!(run);

/// Writes of each kind of source in a round.
const WRITES: usize = 60;

fn run(parameters: Parameters<'static>) {
    let wait = parameters.number("wait", 400).saturating_mul(1000);
    let mut pages = memory::take_all();
    let mut random = Random::new(parameters.number("own", 1));
    let mut sources = Sources::new(&mut pages);
    let mut field = Field::new(
        &mut pages,
        parameters.number("seed", 1),
        parameters.number("own", 1),
    );
    hypercall::event("up");
    for _ in 0..parameters.number("rounds", 3) {
        field.fill();
        apic::sleep_micros(wait);
        field.check_all("after a time to merge");
        hypercall::event("merged");
        for _ in 0..WRITES {
            sources.disk_writes(&mut field, &mut random);
            sources.entropy_writes(&mut field, &mut random);
        }
        field.check_all("after devices have written");
        for kind in [Kind::Ballooned, Kind::Reported] {
            sources.let_go(&mut field, kind);
            for _ in 0..WRITES / 2 {
                sources.disk_writes(&mut field, &mut random);
            }
            sources.entropy_writes(&mut field, &mut random);
            field.check_all("after devices have written to what was let go");
        }
        // Nobody else has written: what is equal merges again, and stays what it is.
        apic::sleep_micros(wait);
        field.check_all("some time after that");
        field.touch_merged();
        field.forget();
    }
    let typed = parameters.count("typed", 0);
    if typed != 0 {
        field.fill();
        apic::sleep_micros(wait);
        sources.console_writes(&mut field, typed);
        field.check_all("after the console has written");
    }
    println!("{field:?}");
    hypercall::measure("from-disk", sources.disk_bytes);
    hypercall::measure("from-entropy", sources.entropy_bytes);
    hypercall::measure("from-console", sources.console_bytes);
    hypercall::measure("first-writes", field.writes.through_host);
    hypercall::event("work-ok");
}
