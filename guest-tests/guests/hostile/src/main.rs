//! Seeded garbage in the rings and registers of all devices. It may hurt this guest, whose own memory the devices read
//! and write; its kernel it spares on purpose, so that it lasts. Nobody else may notice.
//!
//! Parameters: `seed` (1), `for` (milliseconds, 1000), `pages` (of memory for garbage, 512). Events: `up`, `done`.
//! Measures: `rounds`, `notifications`, `chains`, `resets` (of devices that asked for one), `interrupts`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod attack;
mod garbage;

use pleat_guest::parameters::Parameters;
use pleat_guest::virtio::balloon;
use pleat_guest::virtio::{block, console, entropy, mem, queue};
use pleat_guest::{apic, cpu, hypercall, interrupts, memory, println, trap};

use attack::{Counts, Target};
use garbage::Garbage;

pleat_guest::main!(run);

/// The devices that a guest can have, and how many queues each has at most.
const DEVICES: [(u16, u16); 5] = [
    (balloon::ID, 4),
    (mem::ID, 1),
    (console::ID, 6),
    (block::ID, 1),
    (entropy::ID, 1),
];

/// Interrupts come with any vector: none of them is a surprise.
fn expect_all_vectors() {
    for vector in trap::FIRST_INTERRUPT..=u8::MAX {
        if ![apic::SLEEP_VECTOR, trap::FAST_VECTOR].contains(&vector) {
            interrupts::count(vector);
        }
    }
}

fn attack(parameters: Parameters<'_>) -> Counts {
    let mut pages = memory::take_all();
    let slots: u16 = DEVICES.iter().map(|(_, queues)| queues).sum();
    let rings = pages.take(usize::from(slots) * queue::PAGES, 4096);
    let arena = pages.take(parameters.count("pages", 512), 4096);
    let mut garbage = Garbage::new(rings, arena, parameters.number("seed", 1));
    let mut first_slot = 0;
    let mut targets = DEVICES.map(|(id, queues)| {
        first_slot += usize::from(queues);
        Target::find(id, queues, first_slot - usize::from(queues))
    });
    let end = cpu::tsc() + apic::ticks(parameters.number("for", 1000).saturating_mul(1000));
    let mut counts = Counts::default();
    while cpu::tsc() < end {
        let number = garbage.below(targets.len());
        let Some(target) = &mut targets[number] else {
            continue;
        };
        target.round(&mut garbage, &mut counts);
        if apic::is_usable() {
            cpu::blink_interrupts_around_cpuid();
        }
        counts.rounds += 1;
    }
    targets.iter().flatten().for_each(Target::leave);
    counts
}

fn run(parameters: Parameters<'static>) {
    expect_all_vectors();
    hypercall::event("up");
    // An exception is what may come of it.
    match trap::catch_fault(|| attack(parameters)) {
        Ok(counts) => {
            let interrupts: u32 = (0..=u8::MAX).map(interrupts::counted).sum();
            println!("{counts:?}, {interrupts} interrupts");
            hypercall::measure("rounds", counts.rounds);
            hypercall::measure("notifications", counts.notifications);
            hypercall::measure("chains", counts.chains);
            hypercall::measure("resets", counts.resets);
            hypercall::measure("interrupts", u64::from(interrupts));
        }
        Err(fault) => println!("this guest has hurt itself: {fault:?}"),
    }
    hypercall::event("done");
}
