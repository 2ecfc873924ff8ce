//! MSRs: those that exist keep what they are given and refuse what they must; the others fault.

use pleat_guest::trap::catch_fault;
use pleat_guest::{apic, check, cpu, hypercall};

use crate::{expect_gp, expect_no_fault};

const IA32_TSC_ADJUST: u32 = 0x3b;
const IA32_MISC_ENABLE: u32 = 0x1a0;
const IA32_PAT: u32 = 0x277;
const IA32_EFER: u32 = 0xc000_0080;
const EFER_SCE: u64 = 1;
const EFER_LME: u64 = 1 << 8;
const EFER_NXE: u64 = 1 << 11;
const NOT_CANONICAL: u64 = 0x8000_0000_0000_0000;
const CPUID_7_EBX_TSC_ADJUST: u32 = 2;

/// MSR, a value that it takes.
const ROUND_TRIPS: [(u32, u64); 11] = [
    (0x174, 0x10),
    (0x175, 0x7000_1234_5678),
    (0x176, 0xffff_8000_0000_1000),
    (IA32_PAT, 0x0007_0406_0007_0406),
    (0xc000_0081, 0x0023_0010_0000_0000),
    (0xc000_0082, 0xffff_8000_1234_5678),
    (0xc000_0083, 0x1234_5678),
    (0xc000_0084, 0x4_7700),
    (0xc000_0100, 0x1234_5000),
    (0xc000_0101, 0xffff_9000_0000_0000),
    (0xc000_0102, 0x6fff_ffff_f000),
];

/// MSRs that hold linear addresses: LSTAR, CSTAR, FS.base, GS.base, KERNEL_GS_BASE, SYSENTER_ESP.
const ADDRESSES: [u32; 6] = [
    0xc000_0082,
    0xc000_0083,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
    0x175,
];

/// Numbers that no processor has.
const NOWHERE: [u32; 5] = [0x1234_5678, 0x4000_1fff, 0xc000_1fff, 0x1fff, u32::MAX];

/// VMX capabilities: a guest without VMX has none of them.
const VMX: core::ops::RangeInclusive<u32> = 0x480..=0x491;

/// Reserved or write-only x2APIC registers (SDM table 11-6).
const APIC_NOT_READABLE: [u32; 7] = [0x800, 0x801, 0x804, 0x80b, 0x831, 0x83f, 0x840];
/// Read-only or reserved ones: ID, version, PPR, LDR, ISR, IRR, current count, and 0x80c.
const APIC_NOT_WRITABLE: [u32; 8] = [0x802, 0x803, 0x80a, 0x80c, 0x80d, 0x810, 0x820, 0x839];

pub(crate) fn check_all() {
    round_trips();
    faults();
    efer();
    tsc_adjust();
    if apic::is_usable() {
        x2apic();
    }
    if hypercall::is_on_pleat() {
        let base = cpu::read_msr(apic::APIC_BASE);
        check!(base == 0xfee0_0d00, "IA32_APIC_BASE is {base:#x}");
        let _ = expect_no_fault("RDMSR of IA32_MISC_ENABLE", || cpu::read_msr(IA32_MISC_ENABLE));
        for index in VMX {
            expect_gp("RDMSR of a VMX capability", || _ = cpu::read_msr(index));
        }
    }
}

fn round_trips() {
    for (index, value) in ROUND_TRIPS {
        let before = cpu::read_msr(index);
        cpu::write_msr(index, value);
        let found = cpu::read_msr(index);
        cpu::write_msr(index, before);
        check!(
            found == value,
            "MSR {index:#x} was given {value:#x} and holds {found:#x}"
        );
    }
}

fn faults() {
    for index in NOWHERE {
        expect_gp("RDMSR of an MSR that is none", || _ = cpu::read_msr(index));
        expect_gp("WRMSR of an MSR that is none", || cpu::write_msr(index, 0));
    }
    for index in ADDRESSES {
        expect_gp("WRMSR of an address that is not canonical", || {
            cpu::write_msr(index, NOT_CANONICAL);
        });
    }
    expect_gp("WRMSR of IA32_PAT with memory type 2", || {
        cpu::write_msr(IA32_PAT, 0x0202);
    });
}

fn efer() {
    let before = cpu::read_msr(IA32_EFER);
    for bit in [EFER_SCE, EFER_NXE] {
        cpu::write_msr(IA32_EFER, before ^ bit);
        let found = cpu::read_msr(IA32_EFER);
        check!(
            found == before ^ bit,
            "EFER was given {:#x} and holds {found:#x}",
            before ^ bit
        );
        cpu::write_msr(IA32_EFER, before);
    }
    expect_gp("EFER with a reserved bit", || {
        cpu::write_msr(IA32_EFER, before | 1 << 20);
    });
    expect_gp("EFER without LME while paging is on", || {
        cpu::write_msr(IA32_EFER, before & !EFER_LME);
    });
}

/// Adding to TSC_ADJUST adds the same to the TSC (SDM 18.17.3).
fn tsc_adjust() {
    if cpu::cpuid(7, 0).ebx & CPUID_7_EBX_TSC_ADJUST == 0 {
        // Not promised; where it is there all the same it must not do harm.
        let _ = catch_fault(|| cpu::read_msr(IA32_TSC_ADJUST));
        return;
    }
    let step = 1 << 40;
    let before = cpu::read_msr(IA32_TSC_ADJUST);
    let early = cpu::tsc();
    cpu::write_msr(IA32_TSC_ADJUST, before + step);
    let late = cpu::tsc();
    let found = cpu::read_msr(IA32_TSC_ADJUST);
    cpu::write_msr(IA32_TSC_ADJUST, before);
    let back = cpu::tsc();
    check!(
        found == before + step,
        "TSC_ADJUST was given {:#x} and holds {found:#x}",
        before + step
    );
    let slack = apic::ticks(100_000);
    check!(
        (step..step + slack).contains(&(late - early)),
        "the TSC moved by {:#x}, not {step:#x}",
        late - early
    );
    check!(
        (early..early + slack).contains(&back),
        "the TSC did not come back: {early:#x}, then {back:#x}"
    );
}

fn x2apic() {
    for index in APIC_NOT_READABLE {
        expect_gp("RDMSR of an x2APIC register that cannot be read", || {
            _ = cpu::read_msr(index);
        });
    }
    for index in APIC_NOT_WRITABLE {
        expect_gp("WRMSR of an x2APIC register that cannot be written", || {
            cpu::write_msr(index, 0);
        });
    }
    expect_gp("TPR above 0xff", || cpu::write_msr(apic::TPR, 0x100));
    expect_gp("EOI that is not 0", || cpu::write_msr(apic::EOI, 1));
    if hypercall::is_on_pleat() {
        // Bochs's own APIC lets it pass.
        expect_gp("self-IPI above 0xff", || cpu::write_msr(apic::SELF_IPI, 0x100));
    }
    let version = cpu::read_msr(apic::VERSION);
    check!(
        (0x10..=0x1f).contains(&(version & 0xff)),
        "the APIC has version {version:#x}"
    );
    check!(
        version >> 16 & 0xff >= 3,
        "the APIC has only {} LVT entries",
        (version >> 16 & 0xff) + 1
    );
    expect_gp("an xAPIC mode without reset: EXTD cleared alone", || {
        cpu::write_msr(apic::APIC_BASE, cpu::read_msr(apic::APIC_BASE) & !0x400);
    });
}
