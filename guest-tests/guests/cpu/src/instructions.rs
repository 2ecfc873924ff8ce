//! Instructions that must fault, that must not, and hypercalls with hostile arguments.

use pleat_guest::hypercall::{self, INVALID, TEXT_MAX, UNKNOWN};
use pleat_guest::memory::{Page, Pages, WORDS};
use pleat_guest::trap::{self, GENERAL_PROTECTION, INVALID_OPCODE};
use pleat_guest::{apic, check, cpu, memory};

use crate::{expect_fault, expect_no_fault};

pub(crate) fn check_all(pages: &mut Pages) {
    caches(pages.page(0));
    expect_fault("UD2", INVALID_OPCODE, cpu::ud2);
    if hypercall::is_on_pleat() {
        expect_fault("VMXON", INVALID_OPCODE, cpu::vmxon);
        expect_fault("MONITOR", INVALID_OPCODE, cpu::monitor);
        performance_counters();
        vmcall_in_ring_3();
        hostile_hypercalls();
        text_over_a_page_bound(pages);
    }
    if apic::is_usable() {
        sleep_ends_by_timer();
    }
}

fn caches(page: &mut Page) {
    page.store(7, 0x0123_4567_89ab_cdef);
    if hypercall::is_on_pleat() {
        // On a real processor INVD would lose what is in the caches; a hypervisor must not let it.
        expect_no_fault("INVD", cpu::invd);
    }
    expect_no_fault("WBINVD", cpu::wbinvd);
    let found = page.load(7);
    check!(
        found == 0x0123_4567_89ab_cdef,
        "INVD or WBINVD lost a write: {found:#x}"
    );
}

fn performance_counters() {
    match trap::catch_fault(cpu::rdpmc) {
        Err(fault) if fault.vector == INVALID_OPCODE || fault.vector == GENERAL_PROTECTION => {}
        other => check!(false, "RDPMC: {other:?}"),
    }
}

fn vmcall_in_ring_3() {
    let fault = trap::user_vmcall(hypercall::NULL);
    let vector = fault.map(|fault| fault.vector);
    check!(vector == Some(INVALID_OPCODE), "VMCALL in ring 3: {fault:?}");
}

fn hostile_hypercalls() {
    let end = memory::ram_end();
    let inside = end - 4096;
    let too_long = TEXT_MAX as u64 + 1;
    for number in [hypercall::PRINT, hypercall::EVENT, hypercall::MEASURE] {
        let expect = |what: &str, address, len| {
            let result = hypercall::call(number, address, len, 0);
            check!(
                result == INVALID,
                "hypercall {number:#x} with {what}: {result:#x}"
            );
        };
        expect("an address behind all memory", end + (1 << 30), 8);
        expect("text over the end of memory", end - 4, 8);
        expect("an address that wraps around", u64::MAX - 3, 8);
        expect("the APIC's page", 0xfee0_0000, 8);
        expect("a length above the limit", inside, too_long);
        expect("the longest length there is", inside, u64::MAX);
    }
    for number in [
        hypercall::NULL - 1,
        hypercall::YIELD + 1,
        0,
        u64::MAX,
        hypercall::PRINT | 1 << 32,
    ] {
        let result = hypercall::call(number, inside, 8, 0);
        check!(
            result == UNKNOWN,
            "hypercall {number:#x}, which is none: {result:#x}"
        );
    }
}

/// A name that starts at the end of one page and ends in the next; then one that ends in memory that
/// nobody has touched, which is zeros and so no name.
fn text_over_a_page_bound(pages: &mut Pages) {
    let start = pages.page(1).address() + 4096 - 8;
    check!(
        pages.page(2).address() == start + 8,
        "the first pages are not neighbours"
    );
    pages.page(1).store(WORDS - 1, u64::from_le_bytes(*b"over-a-p"));
    let result = hypercall::call(hypercall::EVENT, start, 16, 0);
    check!(result == INVALID, "a name that ends in zeros: {result:#x}");
    pages.page(2).store(0, u64::from_le_bytes(*b"age-here"));
    let result = hypercall::call(hypercall::EVENT, start, 11, 0);
    check!(result == 0, "a name over a page bound: {result:#x}");
}

fn sleep_ends_by_timer() {
    let ticks = apic::ticks(500);
    let start = cpu::tsc();
    apic::sleep_until(start + ticks);
    let slept = cpu::tsc() - start;
    check!(slept >= ticks, "slept {slept} ticks, asked for {ticks}");
}
