//! Control-register bits that belong to the host, shown to the guest as its own or not at all; GD; and what
//! privilege level 3 may not do.

use pleat_guest::parameters::Parameters;
use pleat_guest::trap::{self, DEBUG, GENERAL_PROTECTION};
use pleat_guest::{apic, check, cpu, hypercall, step};

use crate::expect_gp;

const CR0_NE: u64 = 1 << 5;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR4_MCE: u64 = 1 << 6;
/// Bits that are the host's, or whose state it does not switch.
const CR4_REFUSED: [(&str, u64); 6] = [
    ("CR4.MCE", CR4_MCE),
    ("CR4.LA57", 1 << 12),
    ("CR4.VMXE", cpu::CR4_VMXE),
    ("CR4.SMXE", 1 << 14),
    ("CR4.PKE", 1 << 22),
    ("CR4.CET", 1 << 23),
];
const DR6_DEFAULT: u64 = 0xffff_0ff0;
const DR6_ACCESS: u64 = 1 << 13;
const DR7_DEFAULT: u64 = 0x400;
const DR7_GENERAL_DETECT: u64 = 1 << 13;

pub(crate) fn check_all() {
    caches();
    numeric_error();
    refused_bits();
    general_detect();
    xsetbv_in_ring_3();
}

fn write_cr0(what: &str, value: u64) {
    let fault = trap::catch_fault(|| cpu::write_cr0(value)).err();
    check!(fault.is_none(), "{what}: {fault:x?}");
    let found = cpu::read_cr0();
    check!(found == value, "{what}: wrote {value:#x} to CR0, read {found:#x}");
}

fn caches() {
    let cr0 = cpu::read_cr0() & !(CR0_CD | CR0_NW);
    for round in 0..20 {
        write_cr0("CD", cr0 | CR0_CD);
        write_cr0("CD and NW", cr0 | CR0_CD | CR0_NW);
        expect_gp("NW without CD", || cpu::write_cr0(cr0 | CR0_NW));
        let found = cpu::read_cr0();
        check!(found == cr0 | CR0_CD | CR0_NW, "CR0 is {found:#x} after #GP");
        if round % 4 == 0 {
            // The others look at their own CR0 meanwhile.
            hypercall::yield_now();
            apic::sleep_micros(200);
        }
        let found = cpu::read_cr0();
        check!(found == cr0 | CR0_CD | CR0_NW, "CR0 is {found:#x} after a sleep");
        write_cr0("CD alone again", cr0 | CR0_CD);
        write_cr0("neither", cr0);
        expect_gp("NW without CD", || cpu::write_cr0(cr0 | CR0_NW));
    }
}

/// Looks at its own CR0 while another guest turns its caches off and on.
pub(crate) fn watch_caches(parameters: Parameters<'_>) {
    let end = cpu::tsc() + apic::ticks(parameters.number("for", 20).saturating_mul(1000));
    while cpu::tsc() < end {
        for _ in 0..100 {
            let found = cpu::read_cr0();
            check!(found & (CR0_CD | CR0_NW) == 0, "CR0 is {found:#x}, never touched");
        }
        let found = cpu::cpuid(0x4000_0000, 0).ebx;
        check!(found != 0, "CPUID shows no hypervisor");
        hypercall::yield_now();
    }
}

fn numeric_error() {
    let cr0 = cpu::read_cr0();
    write_cr0("NE off", cr0 & !CR0_NE);
    write_cr0("NE off and CD on", cr0 & !CR0_NE | CR0_CD);
    write_cr0("NE on", cr0 | CR0_NE);
    write_cr0("as before", cr0);
}

fn refused_bits() {
    let cr4 = cpu::read_cr4();
    for (name, bit) in CR4_REFUSED {
        check!(cr4 & bit == 0, "{name} reads 1: CR4 is {cr4:#x}");
        expect_gp(name, || cpu::write_cr4(cr4 | bit));
        let found = cpu::read_cr4();
        check!(
            found == cr4,
            "{name}: CR4 was {cr4:#x} and is {found:#x} after #GP"
        );
    }
}

/// A MOV of a debug register faults, and the handler may use them: the processor has cleared GD.
fn general_detect() {
    let operations: [(&str, fn()); 3] = [
        ("MOV from DR0", || _ = cpu::read_dr0()),
        ("MOV to DR3", || cpu::write_dr3(0)),
        ("MOV from DR7", || _ = cpu::read_dr7()),
    ];
    for (name, operation) in operations {
        cpu::write_dr6(DR6_DEFAULT);
        let fault = trap::catch_fault(|| {
            cpu::write_dr7(DR7_DEFAULT | DR7_GENERAL_DETECT);
            operation();
        })
        .err();
        let vector = fault.map(|fault| fault.vector);
        check!(vector == Some(DEBUG), "{name} with DR7.GD: {fault:x?}");
        let (dr6, dr7) = (cpu::read_dr6(), cpu::read_dr7());
        check!(
            dr6 & (DR6_ACCESS | step::SINGLE_STEP) == DR6_ACCESS,
            "{name} with DR7.GD: DR6 is {dr6:#x}"
        );
        check!(
            dr7 == DR7_DEFAULT,
            "{name} with DR7.GD: DR7 is {dr7:#x} afterwards"
        );
    }
    cpu::write_dr6(DR6_DEFAULT);
}

fn xsetbv_in_ring_3() {
    if cpu::cpuid(1, 0).ecx & cpu::ECX_OSXSAVE == 0 {
        return;
    }
    let (fault, expected) = step::user_xsetbv();
    let place = fault.map(|fault| (fault.vector, fault.rip));
    check!(
        place == Some((GENERAL_PROTECTION, expected)),
        "XSETBV in ring 3: {fault:x?}, expected #GP at {expected:#x}"
    );
}
