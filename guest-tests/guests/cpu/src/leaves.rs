//! CPUID: the leaves agree with each other, with the control registers, and with the hypervisor.

use pleat_guest::{apic, check, cpu, hypercall};

const KVM_SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x0000_004d];
const GENUINE_INTEL: [u32; 3] = [0x756e_6547, 0x4965_6e69, 0x6c65_746e];
const XCR0_SSE: u64 = 3;
const XCR0_AVX: u64 = 7;
/// Legacy area and header; and with AVX (SDM vol. 1, 13.4 and 13.5).
const XSAVE_BYTES_SSE: u32 = 576;
const XSAVE_BYTES_AVX: u32 = 832;

pub(crate) fn check_all() {
    vendor();
    osxsave_follows_cr4();
    xsave_sizes();
    physical_and_linear_bits();
    if hypercall::is_on_pleat() {
        hypervisor();
        features();
        frequencies();
        apic_ids();
    }
}

fn vendor() {
    let leaf = cpu::cpuid(0, 0);
    let words = [leaf.ebx, leaf.edx, leaf.ecx];
    check!(words == GENUINE_INTEL, "vendor {words:x?}");
    if hypercall::is_on_pleat() {
        check!(
            leaf.eax >= 0x16,
            "the highest basic leaf is {:#x}: no frequencies",
            leaf.eax
        );
    }
}

fn hypervisor() {
    check!(
        cpu::cpuid(1, 0).ecx & cpu::ECX_HYPERVISOR != 0,
        "CPUID.1:ECX.31 is clear"
    );
    let leaf = cpu::cpuid(0x4000_0000, 0);
    let words = [leaf.ebx, leaf.ecx, leaf.edx];
    check!(words == KVM_SIGNATURE, "hypervisor signature {words:x?}");
    check!(
        leaf.eax >= 0x4000_0001,
        "the highest hypervisor leaf is {:#x}",
        leaf.eax
    );
}

fn features() {
    let leaf = cpu::cpuid(1, 0);
    let wanted = cpu::ECX_X2APIC | cpu::ECX_TSC_DEADLINE;
    check!(
        leaf.ecx & wanted == wanted,
        "CPUID.1:ECX {:#x} lacks x2APIC or TSC deadline",
        leaf.ecx
    );
    let hidden = cpu::ECX_VMX | cpu::ECX_MONITOR;
    check!(
        leaf.ecx & hidden == 0,
        "CPUID.1:ECX {:#x} shows VMX or MONITOR",
        leaf.ecx
    );
    check!(leaf.edx & 1 << 9 != 0, "CPUID.1:EDX {:#x} has no APIC", leaf.edx);
    check!(cpu::cpuid(6, 0).eax & 4 != 0, "ARAT is clear");
    check!(
        cpu::cpuid(0x8000_0007, 0).edx & 1 << 8 != 0,
        "the TSC is not invariant"
    );
}

fn frequencies() {
    let hz = hypercall::tsc_hz();
    let leaf_hz = cpu::cpuid_tsc_hz().unwrap_or(0);
    check!(
        leaf_hz.abs_diff(hz) <= hz / 1000,
        "leaf 0x15 says {leaf_hz} Hz, the hypercall {hz} Hz"
    );
    let mhz = u64::from(cpu::cpuid(0x16, 0).eax & 0xffff);
    check!(
        mhz.abs_diff(hz / 1_000_000) <= 1,
        "leaf 0x16 says {mhz} MHz, the hypercall {hz} Hz"
    );
}

fn apic_ids() {
    let short = cpu::cpuid(1, 0).ebx >> 24;
    let long = u32::try_from(cpu::read_msr(apic::ID)).unwrap_or(u32::MAX);
    check!(
        short == long & 0xff,
        "APIC ID {short} in leaf 1, {long} in the x2APIC"
    );
    if cpu::cpuid(0xb, 0).ebx != 0 {
        let topology = cpu::cpuid(0xb, 0).edx;
        check!(
            topology == long,
            "APIC ID {topology} in leaf 0xb, {long} in the x2APIC"
        );
    }
}

fn osxsave_follows_cr4() {
    if cpu::cpuid(1, 0).ecx & cpu::ECX_XSAVE == 0 {
        return;
    }
    let cr4 = cpu::read_cr4();
    cpu::write_cr4(cr4 & !cpu::CR4_OSXSAVE);
    let off = cpu::cpuid(1, 0).ecx & cpu::ECX_OSXSAVE;
    cpu::write_cr4(cr4 | cpu::CR4_OSXSAVE);
    let on = cpu::cpuid(1, 0).ecx & cpu::ECX_OSXSAVE;
    check!(
        off == 0 && on != 0,
        "OSXSAVE does not follow CR4: {off:#x}, then {on:#x}"
    );
}

fn xsave_sizes() {
    if cpu::cpuid(1, 0).ecx & cpu::ECX_XSAVE == 0 {
        return;
    }
    let xcr0 = cpu::read_xcr0();
    let possible = cpu::cpuid(0xd, 0);
    check!(
        possible.eax & 3 == 3,
        "leaf 0xd offers {:#x}: x87 and SSE are missing",
        possible.eax
    );
    cpu::write_xcr(0, XCR0_SSE);
    let size = cpu::cpuid(0xd, 0).ebx;
    check!(
        size == XSAVE_BYTES_SSE,
        "the XSAVE area has {size} bytes with XCR0 = 3"
    );
    if possible.eax & 4 != 0 {
        cpu::write_xcr(0, XCR0_AVX);
        let size = cpu::cpuid(0xd, 0).ebx;
        check!(
            size == XSAVE_BYTES_AVX,
            "the XSAVE area has {size} bytes with XCR0 = 7"
        );
        let avx = cpu::cpuid(0xd, 2);
        check!(
            (avx.eax, avx.ebx) == (256, 576),
            "AVX state: {} bytes at {}",
            avx.eax,
            avx.ebx
        );
        check!(
            possible.ecx >= XSAVE_BYTES_AVX,
            "the largest XSAVE area has {} bytes",
            possible.ecx
        );
    }
    cpu::write_xcr(0, xcr0);
}

fn physical_and_linear_bits() {
    let leaf = cpu::cpuid(0x8000_0008, 0).eax;
    let (physical, linear) = (leaf & 0xff, leaf >> 8 & 0xff);
    check!((32..=52).contains(&physical), "{physical} physical address bits");
    check!(linear == 48 || linear == 57, "{linear} linear address bits");
}
