//! Real mode, 16-bit protected mode, 32-bit and PAE paging, with exits, faults and interrupts in each.

use pleat_guest::memory::Pages;
use pleat_guest::modes::{self, Paging, REAL_CODE, RealCase};
use pleat_guest::{check, cpu, hypercall};

const DEBUG: u16 = 1;
const INVALID_OPCODE: u16 = 6;
const GENERAL_PROTECTION: u16 = 13;
const SOFTWARE: u16 = 0x32;
const CASES: [(&str, u16); 8] = [
    (
        "RDMSR of an unknown number on a new stack page",
        GENERAL_PROTECTION,
    ),
    (
        "WRMSR of an unknown number on a new stack page",
        GENERAL_PROTECTION,
    ),
    ("XSETBV of 0 on a new stack page", GENERAL_PROTECTION),
    ("VMXOFF on a new stack page", INVALID_OPCODE),
    ("INT n on a new stack page", SOFTWARE),
    ("RDMSR of an unknown number", GENERAL_PROTECTION),
    ("a step over CPUID", DEBUG),
    ("CPUID at the end of the segment", GENERAL_PROTECTION),
];
/// What an interrupt or exception pushes in real mode: FLAGS, CS, IP; never an error code.
const FRAME: u16 = 6;

pub(crate) fn check_all(pages: &mut Pages) {
    let cr = (cpu::read_cr0(), cpu::read_cr3(), cpu::read_cr4());
    let signature = cpu::cpuid(0x4000_0000, 0).ebx;
    for round in 0..3 {
        real_mode(pages, signature, round);
        paging("32-bit paging", &modes::visit_32_bit_paging(), signature, 1);
        paging("PAE paging", &modes::visit_pae_paging(), signature, 2);
        let found = (cpu::read_cr0(), cpu::read_cr3(), cpu::read_cr4());
        check!(
            found == cr,
            "CR0, CR3, CR4 were {cr:x?} and are {found:x?} after other modes"
        );
        let found = cpu::cpuid(0x4000_0000, 0).ebx;
        check!(
            found == signature,
            "CPUID gives {found:#x} after other modes, not {signature:#x}"
        );
    }
    hypercall::event("real-mode-ok");
}

fn real_mode(pages: &mut Pages, signature: u32, round: usize) {
    let Some(page) = pages.iter_mut().find(|page| page.address() == REAL_CODE) else {
        check!(false, "there is no page at {REAL_CODE:#x}");
        return;
    };
    let seen = modes::visit_real_mode(page);
    for ((name, vector), case) in CASES.iter().zip(seen.cases) {
        real_case(name, *vector, &case);
    }
    check!(seen.is_complete, "round {round} in real mode: {seen:x?}");
    let found = (seen.signature_16, seen.signature);
    check!(
        found == (signature, signature),
        "CPUID in 16-bit protected and real mode: {found:x?}"
    );
    check!(
        seen.null_call == 0,
        "VMCALL in real mode gave {:#x}",
        seen.null_call
    );
    check!(seen.port == 0x5a5a_5a77, "IN in real mode gave {:#x}", seen.port);
    check!(
        seen.apic_base == 0xfee0_0d00,
        "RDMSR in real mode gave {:#x}",
        seen.apic_base
    );
    let came = (seen.after_deadline, seen.after_self_ipi);
    check!(
        came == (1, 2),
        "interrupts after HLT in real mode: {came:?}, not (1, 2)"
    );
}

fn real_case(name: &str, vector: u16, case: &RealCase) {
    check!(
        case.vector == vector && case.instruction == case.expected_instruction && case.code_segment == 0,
        "{name} in real mode, vector {vector} expected: {case:x?}"
    );
    check!(
        case.stack_in_handler == case.stack_before - FRAME && case.stack_afterwards == case.stack_before,
        "{name} in real mode pushed an error code, or not a whole frame: {case:x?}"
    );
}

fn paging(name: &str, seen: &Paging, signature: u32, reads: usize) {
    check!(
        seen.signature == signature && seen.null_call == 0,
        "exits in {name}: {seen:x?}"
    );
    check!(
        seen.read[..reads].iter().all(|word| *word == seen.expected),
        "an alias in {name} shows something else: {seen:x?}"
    );
}
