//! A write to a merged page gives the writer a copy, whatever the write comes from, and changes nobody else's
//! page: stores of every size and alignment, across pages, strings, locked instructions, stacks, interrupts,
//! the processor's walk of page tables, code that modifies itself.
//!
//! Two guests in one domain run this with the same `seed`, each with its own `own`. Memory is filled with contents that
//! both have; every byte is checked after a time to merge, after all writers, and after a time in which it
//! became equal and could merge again. That pages were merged is seen in the time of the first write.
//! Parameters: `seed` (1), `own` (1), `wait` (milliseconds to merge, 600), `merged` (`yes`, `no`: expected).
//! Events: `merged`, `broken`, `work-ok`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod arena;
mod model;
mod tables;
mod writers;

use pleat_guest::memory;
use pleat_guest::parameters::Parameters;
use pleat_guest::timing::Writes;
use pleat_guest::{apic, check, hypercall, println, store};

use arena::Arena;
use model::Base;
use tables::Tables;

pleat_guest::main!(run);

/// Each content is filled in once and restored once.
const PASSES: u64 = 2;
const TABLE_PAGES: usize = 16;

fn write_all(arena: &mut Arena<'_>) {
    writers::sizes(arena);
    writers::across_pages(arena);
    writers::strings(arena);
    writers::words(arena);
    writers::merged_to_merged(arena);
    writers::locked(arena);
    writers::stacks(arena);
    writers::interrupts(arena);
    writers::code(arena);
}

/// Where merging is expected, (nearly) every first write must have broken a merge: or the test tests nothing.
fn judge(name: &str, writes: Writes, is_merged: bool) {
    println!("{name}: {writes:?}");
    hypercall::measure(name, writes.through_host);
    check!(
        !is_merged || writes.direct == 0,
        "{name}: {} of {} first writes met a page that was not merged",
        writes.direct,
        writes.all()
    );
}

fn run(parameters: Parameters<'_>) {
    let (seed, own) = (parameters.number("seed", 1), parameters.number("own", 1));
    let wait = parameters.number("wait", 600) * 1000;
    let is_merged = match parameters.text("merged").unwrap_or("yes") {
        "yes" => true,
        "no" => false,
        other => panic!("merged={other}: expected yes or no"),
    };
    let mut pages = memory::take_all();
    let (for_tables, pages) = pages.longest_run().split_at_mut(TABLE_PAGES);
    hypercall::event("up");
    println!("stores of {:?} bytes", store::sizes());
    let mut tables = Tables::new(for_tables, own);
    for base in [Base::Pairs(seed), Base::Zero, Base::Same(seed)] {
        let mut arena = Arena::new(pages, base, own);
        arena.fill();
        for pass in 0..PASSES {
            apic::sleep_micros(wait);
            arena.check_all("after a time to merge");
            hypercall::event("merged");
            write_all(&mut arena);
            arena.check_all("after all writers");
            tables.use_all(own ^ pass);
            tables.reset();
            hypercall::event("broken");
            arena.check_all("after page tables were used");
            arena.restore();
        }
        apic::sleep_micros(wait);
        arena.check_all("when all is equal again");
        judge("first-writes", arena.writes, is_merged);
    }
    judge("walks", tables.walks, is_merged);
    println!("every byte is right");
    hypercall::event("work-ok");
}
