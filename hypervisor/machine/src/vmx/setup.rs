//! The first contents of a VMCS.

use core::cell::UnsafeCell;

use pleat_types::Hpa;
use x86::msr;

use super::capability::Capabilities;
use super::context::Identity;
use super::vcpu::{CR0_HOST_OWNED, CR0_NUMERIC_ERROR};
use super::vmcs::{CurrentVmcs, Natural, field};
use crate::cpu::rdmsr;
use crate::{paging, traps};

/// CR4 bits that guests may set; the others are masked and setting one is #GP. This is the only place that
/// decides: they are the bits of the features that the CPUID policy shows where the processor has them, and
/// the test kernel `cpu` compares the two. Not among them: VMXE and SMXE (no nesting), PKE and CET (their state
/// is not switched), LA57, and what newer processors add. MCE is the host's: it stays on while a guest runs.
const CR4_FOR_GUESTS: u64 = 0x7bf // VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, OSXMMEXCPT
    | 1 << 16 // FSGSBASE
    | 1 << 17 // PCIDE
    | 1 << 18 // OSXSAVE
    | 1 << 20 // SMEP
    | 1 << 21; // SMAP

const CR4_VMXE: u64 = 1 << 13;
const CR4_MCE: u64 = 1 << 6;

/// CR4.MCE, where the processor has it.
pub fn machine_check(capabilities: &Capabilities) -> u64 {
    CR4_MCE & capabilities.cr4_allowed
}

/// #DB and #AC (see `Exit::ReflectedException`), and #MC, which is the host's.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// The CR4 bits that guests may set on this processor.
pub fn cr4_for_guests(capabilities: &Capabilities) -> u64 {
    CR4_FOR_GUESTS & capabilities.cr4_allowed
}

#[repr(C, align(4096))]
struct Bitmap(UnsafeCell<[u8; 4096]>);

// SAFETY: written once, before the first virtual processor exists; then only the processor reads it.
unsafe impl Sync for Bitmap {}

static MSR_BITMAP: Bitmap = Bitmap(UnsafeCell::new([0xff; 4096]));

/// The registers that guests read and write without an exit: the VMCS or `switch` keeps them apart.
const GUEST_OWN: [u32; 12] = [
    msr::IA32_SYSENTER_CS,
    msr::IA32_SYSENTER_ESP,
    msr::IA32_SYSENTER_EIP,
    msr::IA32_PAT,
    msr::IA32_EFER,
    msr::IA32_STAR,
    msr::IA32_LSTAR,
    msr::IA32_CSTAR,
    msr::IA32_FMASK,
    msr::IA32_FS_BASE,
    msr::IA32_GS_BASE,
    msr::IA32_KERNEL_GSBASE,
];

/// The MSR bitmap (SDM 25.6.9): a quarter each for reads of low and high, writes of low and high numbers.
pub fn msr_bitmap() -> Hpa {
    const WRITES: usize = 2048;
    let bitmap = MSR_BITMAP.0.get();
    // SAFETY: see `Bitmap`: this runs once, before anything else can refer to the page.
    let bytes = unsafe { &mut *bitmap };
    let mut allow = |register: u32, base: usize| {
        let number = (register & 0x1fff) as usize;
        let half = if register >= 0xc000_0000 { 1024 } else { 0 };
        bytes[base + half + number / 8] &= !(1 << (number % 8));
    };
    for register in GUEST_OWN {
        allow(register, 0);
        allow(register, WRITES);
    }
    allow(msr::TSC, 0); // the offset applies to RDMSR too (SDM 26.3)
    Hpa::new(bitmap as u64)
}

/// Execution, exit and entry controls (SDM 25.6 to 25.8).
pub fn controls(
    vmcs: CurrentVmcs<'_>,
    capabilities: &Capabilities,
    identity: Identity,
    msr_bitmap: Hpa,
    virtual_apic: Hpa,
) {
    vmcs.write(field::PIN_CONTROLS, capabilities.pin);
    vmcs.write(field::PRIMARY_CONTROLS, capabilities.primary);
    vmcs.write(field::SECONDARY_CONTROLS, capabilities.secondary);
    vmcs.write(field::EXIT_CONTROLS, capabilities.exit);
    vmcs.write(field::ENTRY_CONTROLS, capabilities.entry);
    vmcs.write(field::EXCEPTION_BITMAP, EXCEPTIONS);
    vmcs.write(field::MSR_BITMAP, msr_bitmap.get());
    vmcs.write(field::VIRTUAL_APIC, virtual_apic.get());
    vmcs.write(field::TPR_THRESHOLD, 0);
    vmcs.write(field::EPTP, identity.eptp);
    vmcs.write(field::VPID, identity.vpid());
    vmcs.write(field::TSC_OFFSET, 0);
    vmcs.write(field::CR0_MASK, Natural(CR0_HOST_OWNED));
    vmcs.write(field::CR4_MASK, Natural(!cr4_for_guests(capabilities)));
    vmcs.write(field::LINK_POINTER, u64::MAX);
}

/// The state that a VM exit loads (SDM 25.5).
pub fn host_state(vmcs: CurrentVmcs<'_>) {
    let [gdt, idt, tss] = traps::table_bases();
    // SAFETY: reads control registers.
    let (cr0, cr4) = unsafe {
        (
            x86::controlregs::cr0().bits() as u64,
            x86::controlregs::cr4().bits() as u64,
        )
    };
    vmcs.write(field::HOST_CR0, Natural(cr0));
    vmcs.write(field::HOST_CR3, Natural(paging::root()));
    vmcs.write(field::HOST_CR4, Natural(cr4));
    vmcs.write(field::HOST_EFER, rdmsr(msr::IA32_EFER));
    vmcs.write(field::HOST_PAT, rdmsr(msr::IA32_PAT));
    vmcs.write(field::HOST_CS, traps::CODE_SELECTOR);
    for data in [field::HOST_SS, field::HOST_DS, field::HOST_ES] {
        vmcs.write(data, traps::DATA_SELECTOR);
    }
    vmcs.write(field::HOST_FS, 0);
    vmcs.write(field::HOST_GS, 0);
    vmcs.write(field::HOST_TR, traps::TSS_SELECTOR);
    for unused in [
        field::HOST_FS_BASE,
        field::HOST_GS_BASE,
        field::HOST_SYSENTER_ESP,
        field::HOST_SYSENTER_EIP,
    ] {
        vmcs.write(unused, Natural(0));
    }
    vmcs.write(field::HOST_SYSENTER_CS, 0);
    vmcs.write(field::HOST_GDTR_BASE, Natural(gdt));
    vmcs.write(field::HOST_IDTR_BASE, Natural(idt));
    vmcs.write(field::HOST_TR_BASE, Natural(tss));
    vmcs.write(field::HOST_RIP, Natural(super::exit_address()));
}

/// The guest's state at its first entry (see [`pleat_types::Vcpu`]): flat 32-bit protected mode.
pub fn guest_state(vmcs: CurrentVmcs<'_>, capabilities: &Capabilities) {
    const FLAT_CODE: u32 = 0xc09b;
    const FLAT_DATA: u32 = 0xc093;
    const UNUSABLE: u32 = 0x1_0000;
    const BUSY_TSS: u32 = 0x8b;
    const CR0: u64 = 0x11 | CR0_NUMERIC_ERROR; // PE, ET
    for number in 0..8 {
        let (limit, rights) = match number {
            1 => (u32::MAX, FLAT_CODE),
            6 => (0xffff, UNUSABLE),
            7 => (0x67, BUSY_TSS),
            _ => (u32::MAX, FLAT_DATA),
        };
        let segment = field::segment(number);
        vmcs.write(segment.selector, 0);
        vmcs.write(segment.base, Natural(0));
        vmcs.write(segment.limit, limit);
        vmcs.write(segment.rights, rights);
    }
    for table in [field::GDTR_LIMIT, field::IDTR_LIMIT] {
        vmcs.write(table, 0xffff);
    }
    vmcs.write(field::GDTR_BASE, Natural(0));
    vmcs.write(field::IDTR_BASE, Natural(0));
    vmcs.write(field::CR0, Natural(CR0));
    vmcs.write(field::CR0_SHADOW, Natural(CR0));
    vmcs.write(field::CR3, Natural(0));
    vmcs.write(field::CR4, Natural(CR4_VMXE | machine_check(capabilities)));
    vmcs.write(field::CR4_SHADOW, Natural(0));
    vmcs.write(field::EFER, 0);
    vmcs.write(field::PAT, 0x0007_0406_0007_0406);
    vmcs.write(field::DEBUG_CONTROL, 0);
    vmcs.write(field::DR7, Natural(0x400));
    vmcs.write(field::RFLAGS, Natural(2));
    vmcs.write(field::RSP, Natural(0));
    vmcs.write(field::RIP, Natural(0));
    vmcs.write(field::SYSENTER_CS, 0);
    vmcs.write(field::SYSENTER_ESP, Natural(0));
    vmcs.write(field::SYSENTER_EIP, Natural(0));
    vmcs.write(field::INTERRUPTIBILITY, 0);
    vmcs.write(field::ACTIVITY, 0);
    vmcs.write(field::PENDING_DEBUG, Natural(0));
    vmcs.write(field::ENTRY_EVENT, 0);
}
