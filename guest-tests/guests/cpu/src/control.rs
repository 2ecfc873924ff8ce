//! Control registers: bits that may change do, bits that must not fault, and CR8 is the TPR.

use pleat_guest::{apic, check, cpu, hypercall};

use crate::{expect_gp, expect_no_fault};

const CR0_PE: u64 = 1;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
/// TSD, DE, PGE, PCE: every processor has them and none of them disturbs a running kernel.
const CR4_HARMLESS: [u64; 4] = [1 << 2, 1 << 3, 1 << 7, 1 << 8];

/// A CR4 bit, and the CPUID bit without which it is reserved: register 0 is CPUID.7:EBX, 1 is CPUID.7:ECX,
/// 2 is CPUID.1:ECX.
const CR4_BY_CPUID: [(u64, usize, u32); 7] = [
    (1 << 11, 1, 1 << 2),  // UMIP
    (1 << 14, 2, 1 << 6),  // SMXE
    (1 << 16, 0, 1 << 0),  // FSGSBASE
    (1 << 17, 2, 1 << 17), // PCIDE
    (1 << 20, 0, 1 << 7),  // SMEP
    (1 << 21, 0, 1 << 20), // SMAP
    (1 << 22, 1, 1 << 3),  // PKE
];

pub(crate) fn check_all() {
    cr0();
    cr3();
    cr4();
    cr4_features();
    cr8();
    xcr0();
}

fn set_and_clear(what: &str, read: fn() -> u64, write: fn(u64), bit: u64) {
    let before = read();
    expect_no_fault(what, || write(before ^ bit));
    let found = read();
    write(before);
    check!(
        found == before ^ bit,
        "{what}: wrote {:#x}, read {found:#x}",
        before ^ bit
    );
    check!(read() == before, "{what}: wrote {before:#x}, read {:#x}", read());
}

fn cr0() {
    let cr0 = cpu::read_cr0();
    set_and_clear("CR0.WP", cpu::read_cr0, cpu::write_cr0, cpu::CR0_WP);
    set_and_clear("CR0.NE", cpu::read_cr0, cpu::write_cr0, 1 << 5);
    set_and_clear("CR0.AM", cpu::read_cr0, cpu::write_cr0, 1 << 18);
    set_and_clear("CR0.CD", cpu::read_cr0, cpu::write_cr0, CR0_CD);
    expect_gp("CR0 with bit 32", || cpu::write_cr0(cr0 | 1 << 32));
    expect_gp("CR0.PG without PE", || cpu::write_cr0(cr0 & !CR0_PE));
    expect_gp("CR0.NW without CD", || cpu::write_cr0(cr0 & !CR0_CD | CR0_NW));
    check!(
        cpu::read_cr0() == cr0,
        "CR0 was {cr0:#x} and is {:#x} after faults",
        cpu::read_cr0()
    );
}

fn cr3() {
    let cr3 = cpu::read_cr3();
    // CPUID may show fewer bits than the processor has, and nobody intercepts CR3: the bits in between are
    // not checked. Bit 51 is above every processor with fewer than 52 of them.
    if cpu::cpuid(0x8000_0008, 0).eax & 0xff < 52 {
        expect_gp("CR3 with bit 51", || cpu::write_cr3(cr3 | 1 << 51));
    }
    expect_gp("CR3 with bit 62", || cpu::write_cr3(cr3 | 1 << 62));
    cpu::write_cr3(cr3);
    check!(
        cpu::read_cr3() == cr3,
        "CR3 changed from {cr3:#x} to {:#x}",
        cpu::read_cr3()
    );
}

fn cr4() {
    let cr4 = cpu::read_cr4();
    for bit in CR4_HARMLESS {
        set_and_clear("CR4.TSD, DE, PGE or PCE", cpu::read_cr4, cpu::write_cr4, bit);
    }
    if hypercall::is_on_pleat() {
        expect_gp("CR4.VMXE", || cpu::write_cr4(cr4 | cpu::CR4_VMXE));
    }
    expect_gp("CR4 with bit 63", || cpu::write_cr4(cr4 | 1 << 63));
    expect_gp("CR4 with bit 15", || cpu::write_cr4(cr4 | 1 << 15));
    expect_gp("CR4 without PAE in long mode", || cpu::write_cr4(cr4 & !CR4_PAE));
    expect_gp("CR4.LA57 changed in long mode", || cpu::write_cr4(cr4 ^ CR4_LA57));
    check!(
        cpu::read_cr4() == cr4,
        "CR4 was {cr4:#x} and is {:#x} after faults",
        cpu::read_cr4()
    );
}

/// What CPUID does not show cannot be switched on.
fn cr4_features() {
    let cr4 = cpu::read_cr4();
    let words = [cpu::cpuid(7, 0).ebx, cpu::cpuid(7, 0).ecx, cpu::cpuid(1, 0).ecx];
    for (bit, word, feature) in CR4_BY_CPUID {
        if words[word] & feature == 0 && cr4 & bit == 0 {
            expect_gp("a CR4 bit whose feature CPUID does not show", || {
                cpu::write_cr4(cr4 | bit);
            });
        }
    }
}

fn cr8() {
    if !apic::is_usable() {
        return;
    }
    for class in (0..16).rev() {
        cpu::write_cr8(class);
        let (cr8, tpr) = (cpu::read_cr8(), cpu::read_msr(apic::TPR));
        check!(
            cr8 == class && tpr == class << 4,
            "wrote {class} to CR8: it is {cr8}, the TPR {tpr:#x}"
        );
        cpu::write_msr(apic::TPR, class << 4);
        let cr8 = cpu::read_cr8();
        check!(cr8 == class, "wrote {:#x} to the TPR: CR8 is {cr8}", class << 4);
    }
    expect_gp("CR8 above 15", || cpu::write_cr8(16));
}

fn xcr0() {
    if cpu::cpuid(1, 0).ecx & cpu::ECX_OSXSAVE == 0 {
        return;
    }
    let before = cpu::read_xcr0();
    expect_gp("XCR0 without x87", || cpu::write_xcr(0, before & !1));
    expect_gp("XCR0 with AVX and without SSE", || cpu::write_xcr(0, 5));
    expect_gp("XCR0 with bit 63", || cpu::write_xcr(0, before | 1 << 63));
    expect_gp("XCR1", || cpu::write_xcr(1, before));
    let offered = u64::from(cpu::cpuid(0xd, 0).eax) | u64::from(cpu::cpuid(0xd, 0).edx) << 32;
    for bit in (0..63).map(|shift| 1 << shift).filter(|bit| offered & bit == 0) {
        expect_gp("XCR0 with a bit that leaf 0xd does not offer", || {
            cpu::write_xcr(0, before | bit);
        });
    }
    check!(
        cpu::read_xcr0() == before,
        "XCR0 was {before:#x} and is {:#x}",
        cpu::read_xcr0()
    );
}
