//! The guest's own page tables: in memory that was never touched, with rights that are honoured, with
//! accessed and dirty bits, and with translations that go when INVLPG, CR3 or CR4 says so.
//!
//! Everything happens in a linear range of its own (512 GiB and up), so that the tables that the boot code
//! made stay as they are. Parameters: `seed` (1), `rounds` (200, of random remapping).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod space;

use pleat_guest::memory::{self, Pages};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::{Random, mix};
use pleat_guest::trap::{self, PAGE_FAULT};
use pleat_guest::{check, cpu, hypercall, println};

use space::{ACCESSED, DIRTY, GLOBAL, NO_EXECUTE, PRESENT, SPACE, Space, USER, WRITABLE};

pleat_guest::main!(run);

/// Page-fault error code: the page is present; the access was a write; it was an instruction fetch.
const ERROR_PRESENT: u64 = 1;
const ERROR_WRITE: u64 = 2;
const ERROR_FETCH: u64 = 16;
const CR4_PGE: u64 = 1 << 7;
const IA32_EFER: u32 = 0xc000_0080;
const EFER_NXE: u64 = 1 << 11;
const CPUID_NX: u32 = 1 << 20;

fn expect_fault(what: &str, address: u64, error: u64, operation: impl FnOnce()) {
    match trap::catch_fault(operation) {
        Ok(()) => check!(false, "{what}: no page fault"),
        Err(fault) => check!(
            (fault.vector, fault.error, fault.address) == (PAGE_FAULT, error, address),
            "{what}: exception {} error {:#x} at {:#x}; expected a page fault, error {error:#x}, at {address:#x}",
            fault.vector,
            fault.error,
            fault.address
        ),
    }
}

/// Each level of the tables is a page that nobody has touched: the walk reads zeros, and that is a page
/// fault of the guest's own, whatever the host does to its tables meanwhile.
fn untouched_tables(space: &mut Space, pages: &mut Pages) {
    for level in 0..2 {
        expect_fault("a walk that ends in an untouched table", SPACE, 0, || {
            _ = cpu::peek(SPACE);
        });
        space.add_table(pages, level);
    }
    expect_fault("a walk that ends in an untouched page table", SPACE, 0, || {
        _ = cpu::peek(SPACE);
    });
    let frame = space.take_frame(pages);
    space.map(pages, 0, frame | PRESENT | WRITABLE);
    let value = cpu::peek_u64(SPACE);
    check!(
        value == 0,
        "an untouched page behind untouched tables holds {value:#x}"
    );
}

fn accessed_and_dirty(space: &mut Space, pages: &mut Pages) {
    let frame = space.take_frame(pages);
    space.map(pages, 1, frame | PRESENT | WRITABLE);
    let address = SPACE + 4096;
    let bits = |space: &Space, pages: &mut Pages| space.entry(pages, 1) & (ACCESSED | DIRTY);
    check!(bits(space, pages) == 0, "accessed or dirty before any access");
    let _ = cpu::peek(address);
    check!(
        bits(space, pages) == ACCESSED,
        "after a read: {:#x}",
        bits(space, pages)
    );
    cpu::poke(address, 7);
    check!(
        bits(space, pages) == ACCESSED | DIRTY,
        "after a write: {:#x}",
        bits(space, pages)
    );
}

fn rights(space: &mut Space, pages: &mut Pages) {
    let frame = space.take_frame(pages);
    space.map(pages, 2, frame | PRESENT);
    let address = SPACE + 2 * 4096;
    let error = ERROR_PRESENT | ERROR_WRITE;
    expect_fault("a write to a read-only page", address, error, || {
        cpu::poke(address, 1);
    });
    let cr0 = cpu::read_cr0();
    cpu::write_cr0(cr0 & !cpu::CR0_WP);
    let written = trap::catch_fault(|| cpu::poke(address, 0x5a5a));
    cpu::write_cr0(cr0);
    check!(
        written.is_ok(),
        "CR0.WP is clear, and a write to a read-only page faults"
    );
    check!(cpu::peek_u64(address) == 0x5a5a, "that write is lost");
    expect_fault("CR0.WP is set again", address, error, || cpu::poke(address, 1));
    if cpu::cpuid(0x8000_0001, 0).edx & CPUID_NX != 0 {
        cpu::write_msr(IA32_EFER, cpu::read_msr(IA32_EFER) | EFER_NXE);
        space.map(pages, 3, frame | PRESENT | WRITABLE | NO_EXECUTE);
        let address = SPACE + 3 * 4096;
        let error = ERROR_PRESENT | ERROR_FETCH;
        expect_fault("a fetch from a no-execute page", address, error, || {
            cpu::jump(address)
        });
    }
}

/// A translation that was used stays usable until it is flushed, and not longer.
fn flushes(space: &mut Space, pages: &mut Pages) {
    let frames = [space.take_frame(pages), space.take_frame(pages)];
    for (frame, value) in frames.into_iter().zip([0x1111, 0x2222]) {
        cpu::poke(frame, value);
    }
    let address = SPACE + 4 * 4096;
    let cr4 = cpu::read_cr4();
    let ways: [(&str, u64, fn()); 4] = [
        ("INVLPG", 0, || cpu::flush_page(SPACE + 4 * 4096)),
        ("MOV to CR3", 0, || cpu::write_cr3(cpu::read_cr3())),
        ("INVLPG of a global page", GLOBAL, || {
            cpu::flush_page(SPACE + 4 * 4096);
        }),
        ("a change of CR4.PGE", GLOBAL, || {
            cpu::write_cr4(cpu::read_cr4() ^ CR4_PGE);
        }),
    ];
    for (name, flag, flush) in ways {
        cpu::write_cr4(cr4 | CR4_PGE);
        space.map(pages, 4, frames[0] | PRESENT | WRITABLE | flag);
        cpu::flush_page(address);
        check!(
            cpu::peek_u64(address) == 0x1111,
            "{name}: the first mapping reads {:#x}",
            cpu::peek_u64(address)
        );
        space.map(pages, 4, frames[1] | PRESENT | WRITABLE | flag);
        flush();
        let value = cpu::peek_u64(address);
        check!(
            value == 0x2222,
            "{name}: a stale translation was used, {value:#x}"
        );
        cpu::write_cr4(cr4);
    }
}

/// Random pages of the range are mapped to random frames, flushed, and read; what is read tells the frame.
fn remapping(space: &mut Space, pages: &mut Pages, seed: u64, rounds: u64) {
    let mut random = Random::new(mix(seed));
    let frames: [u64; 32] = core::array::from_fn(|_| space.take_frame(pages));
    for _ in 0..rounds {
        let (slot, chosen) = (16 + random.below(400), random.below(frames.len()));
        let mark = u32::try_from(random.next_u64() >> 32).unwrap_or(0);
        cpu::poke(frames[chosen], mark);
        space.map(pages, slot, frames[chosen] | PRESENT | WRITABLE | USER);
        let address = SPACE + slot as u64 * 4096;
        cpu::flush_page(address);
        let value = cpu::peek_u64(address);
        check!(
            value == u64::from(mark),
            "page {slot} reads {value:#x}, its frame holds {mark:#x}"
        );
    }
}

fn run(parameters: Parameters<'_>) {
    hypercall::event("up");
    let mut pages = memory::take_all();
    let mut space = Space::new(&mut pages);
    untouched_tables(&mut space, &mut pages);
    accessed_and_dirty(&mut space, &mut pages);
    rights(&mut space, &mut pages);
    flushes(&mut space, &mut pages);
    let rounds = parameters.number("rounds", 200);
    remapping(&mut space, &mut pages, parameters.number("seed", 1), rounds);
    println!("tables, rights and flushes are right");
    hypercall::event("work-ok");
}
