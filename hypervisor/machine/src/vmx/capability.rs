//! What this processor must have: checked once, before anything depends on it, and named if missing.

use arrayvec::ArrayVec;
use core::arch::x86_64::__cpuid_count;
use core::fmt;

use x86::msr;
use x86::vmx::vmcs::control::{
    EntryControls, ExitControls, PinbasedControls, PrimaryControls, SecondaryControls,
};

use crate::cpu::rdmsr;

/// The most features that can be missing at once.
const MAX_MISSING: usize = 40;

/// The names of the features that this processor lacks.
pub struct Missing(ArrayVec<&'static str, MAX_MISSING>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Values for the control fields: what Pleat wants, with the bits that the processor fixes.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// Pin-based controls.
    pub pin: u32,
    /// Primary processor-based controls.
    pub primary: u32,
    /// Secondary processor-based controls.
    pub secondary: u32,
    /// VM-exit controls.
    pub exit: u32,
    /// VM-entry controls.
    pub entry: u32,
    /// Identifies the format of VMCS regions.
    pub revision: u32,
    /// The preemption timer ticks once in 2 to this power TSC ticks.
    pub timer_shift: u32,
    /// CR4 bits that may be set in VMX operation.
    pub cr4_allowed: u64,
    /// XCR0 bits for guests, of x87, SSE and AVX.
    pub xcr0_guest: u64,
}

const PIN: PinbasedControls = PinbasedControls::EXTERNAL_INTERRUPT_EXITING
    .union(PinbasedControls::NMI_EXITING)
    .union(PinbasedControls::VMX_PREEMPTION_TIMER);
const PRIMARY: PrimaryControls = PrimaryControls::HLT_EXITING
    .union(PrimaryControls::USE_TSC_OFFSETTING)
    .union(PrimaryControls::MWAIT_EXITING)
    .union(PrimaryControls::MONITOR_EXITING)
    .union(PrimaryControls::RDPMC_EXITING)
    .union(PrimaryControls::USE_TPR_SHADOW)
    .union(PrimaryControls::UNCOND_IO_EXITING)
    .union(PrimaryControls::USE_MSR_BITMAPS)
    .union(PrimaryControls::SECONDARY_CONTROLS);
const SECONDARY: SecondaryControls = SecondaryControls::ENABLE_EPT
    .union(SecondaryControls::ENABLE_VPID)
    .union(SecondaryControls::UNRESTRICTED_GUEST)
    .union(SecondaryControls::WBINVD_EXITING);
/// Used where the processor has it: the page-modification log.
const SECONDARY_OPTIONAL: SecondaryControls = SecondaryControls::ENABLE_PML;
const EXIT: ExitControls = ExitControls::HOST_ADDRESS_SPACE_SIZE
    .union(ExitControls::ACK_INTERRUPT_ON_EXIT)
    .union(ExitControls::SAVE_DEBUG_CONTROLS)
    .union(ExitControls::SAVE_IA32_PAT)
    .union(ExitControls::LOAD_IA32_PAT)
    .union(ExitControls::SAVE_IA32_EFER)
    .union(ExitControls::LOAD_IA32_EFER);
const ENTRY: EntryControls = EntryControls::LOAD_DEBUG_CONTROLS
    .union(EntryControls::LOAD_IA32_PAT)
    .union(EntryControls::LOAD_IA32_EFER);

/// Default1 bits of the primary controls that the TRUE registers let be 0 (SDM A.3.2): CR3 accesses.
const PRIMARY_MUST_CLEAR: PrimaryControls =
    PrimaryControls::CR3_LOAD_EXITING.union(PrimaryControls::CR3_STORE_EXITING);

/// x87, SSE and AVX.
const XCR0_GUEST: u64 = 0b111;

/// Checks everything that Pleat needs.
#[allow(clippy::result_large_err)] // made once, at boot
pub fn check() -> Result<Capabilities, Missing> {
    let mut check = Check(Missing(ArrayVec::new()));
    check.cpuid();
    if !check.0.0.is_empty() {
        return Err(check.0); // what follows reads registers that may not exist
    }
    let capabilities = check.vmx();
    if check.0.0.is_empty() {
        Ok(capabilities)
    } else {
        Err(check.0)
    }
}

/// The processor maps 1 GiB pages in its own tables (CPUID.80000001H:EDX.26).
pub fn has_huge_pages() -> bool {
    __cpuid_count(0x8000_0001, 0).edx & 1 << 26 != 0
}

/// The processor has the local APIC that Pleat uses, with the timer that ends a sleep: x2APIC and TSC deadline
/// (CPUID.1:ECX.21 and 24).
pub fn has_timer() -> bool {
    const NEEDED: u32 = 1 << 21 | 1 << 24;
    __cpuid_count(1, 0).ecx & NEEDED == NEEDED
}

/// The processor maps 1 GiB pages in extended page tables (IA32_VMX_EPT_VPID_CAP bit 17, SDM A.10). Only
/// after [`check`]: the register exists where EPT does.
pub fn has_huge_ept() -> bool {
    rdmsr(msr::IA32_VMX_EPT_VPID_CAP) & 1 << 17 != 0
}

struct Check(Missing);

impl Check {
    fn need(&mut self, is_there: bool, name: &'static str) {
        if !is_there {
            // The list is longer than the names below; if it were full, one fewer would be printed.
            let _ = self.0.0.try_push(name);
        }
    }

    fn cpuid(&mut self) {
        let basic = __cpuid_count(1, 0);
        self.need(basic.ecx & 1 << 5 != 0, "VMX (CPUID.1:ECX.5)");
        self.need(basic.ecx & 1 << 21 != 0, "x2APIC (CPUID.1:ECX.21)");
        self.need(basic.ecx & 1 << 24 != 0, "TSC deadline timer (CPUID.1:ECX.24)");
        self.need(basic.ecx & 1 << 26 != 0, "XSAVE (CPUID.1:ECX.26)");
        let extended = __cpuid_count(0x8000_0001, 0);
        self.need(
            extended.edx & 1 << 20 != 0,
            "no-execute pages (CPUID.80000001H:EDX.20)",
        );
    }

    fn vmx(&mut self) -> Capabilities {
        const LOCKED: u64 = 1 << 0;
        const VMX_OUTSIDE_SMX: u64 = 1 << 2;
        let feature_control = rdmsr(msr::IA32_FEATURE_CONTROL);
        let is_forbidden = feature_control & LOCKED != 0 && feature_control & VMX_OUTSIDE_SMX == 0;
        self.need(
            !is_forbidden,
            "VMX allowed by the firmware (IA32_FEATURE_CONTROL bit 2 is locked at 0)",
        );
        let basic = rdmsr(msr::IA32_VMX_BASIC);
        self.need(
            basic & 1 << 55 != 0,
            "VMX TRUE control registers (IA32_VMX_BASIC bit 55)",
        );
        if basic & 1 << 55 == 0 {
            return Capabilities::NONE;
        }
        let secondary_allowed = rdmsr(msr::IA32_VMX_TRUE_PROCBASED_CTLS) >> 63 != 0;
        self.need(secondary_allowed, "VMX secondary controls");
        if !secondary_allowed {
            return Capabilities::NONE;
        }
        self.ept();
        Capabilities {
            pin: self.pin(),
            primary: self.primary(),
            secondary: self.secondary(),
            exit: self.control(
                msr::IA32_VMX_TRUE_EXIT_CTLS,
                EXIT.bits(),
                "VM-exit controls for 64-bit hosts, PAT and EFER",
            ),
            entry: self.control(
                msr::IA32_VMX_TRUE_ENTRY_CTLS,
                ENTRY.bits(),
                "VM-entry controls for PAT and EFER",
            ),
            revision: u32::try_from(basic & 0x7fff_ffff).unwrap_or_default(),
            timer_shift: u32::try_from(rdmsr(msr::IA32_VMX_MISC) & 0x1f).unwrap_or_default(),
            cr4_allowed: rdmsr(msr::IA32_VMX_CR4_FIXED1),
            xcr0_guest: XCR0_GUEST & u64::from(__cpuid_count(0xd, 0).eax),
        }
    }

    fn pin(&mut self) -> u32 {
        let register = msr::IA32_VMX_TRUE_PINBASED_CTLS;
        let timer = PinbasedControls::VMX_PREEMPTION_TIMER.bits();
        self.control(
            register,
            PIN.bits() & !timer,
            "external-interrupt and NMI exiting",
        ) | self.control(register, timer, "VMX preemption timer")
    }

    fn primary(&mut self) -> u32 {
        let register = msr::IA32_VMX_TRUE_PROCBASED_CTLS;
        let value = self.control(register, PRIMARY.bits(), "TPR shadow, MSR bitmaps or I/O exiting");
        self.need(value & PRIMARY_MUST_CLEAR.bits() == 0, "CR3 access without exits");
        value
    }

    fn secondary(&mut self) -> u32 {
        let register = msr::IA32_VMX_PROCBASED_CTLS2;
        for (control, name) in [
            (SecondaryControls::ENABLE_EPT, "EPT"),
            (SecondaryControls::ENABLE_VPID, "VPID"),
            (SecondaryControls::UNRESTRICTED_GUEST, "unrestricted guest"),
        ] {
            self.need(rdmsr(register) >> 32 & u64::from(control.bits()) != 0, name);
        }
        let allowed = u32::try_from(rdmsr(register) >> 32).unwrap_or_default();
        self.need(
            allowed & SecondaryControls::WBINVD_EXITING.bits() != 0,
            "WBINVD exiting",
        );
        let must = u32::try_from(rdmsr(register) & 0xffff_ffff).unwrap_or_default();
        (SECONDARY.union(SECONDARY_OPTIONAL).bits() | must) & allowed
    }

    /// EPT and VPID capabilities (SDM A.10).
    fn ept(&mut self) {
        let capabilities = rdmsr(msr::IA32_VMX_EPT_VPID_CAP);
        let mut need = |bit: u32, name| self.need(capabilities & 1 << bit != 0, name);
        need(6, "EPT with 4 levels");
        need(14, "EPT write-back memory type");
        need(16, "EPT 2 MiB pages");
        need(20, "INVEPT");
        need(21, "EPT accessed and dirty bits");
        need(25, "INVEPT of a single context");
        need(32, "INVVPID");
        need(41, "INVVPID of a single context");
    }

    /// The wanted controls with those that the processor fixes at 1 (SDM A.3: low half must be 1, high half may).
    fn control(&mut self, register: u32, wanted: u32, name: &'static str) -> u32 {
        let value = rdmsr(register);
        let must = u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        let may = u32::try_from(value >> 32).unwrap_or_default();
        if !self.0.0.contains(&name) {
            self.need(wanted & !may == 0, name);
        }
        (wanted | must) & may
    }
}

impl Capabilities {
    const NONE: Self = Self {
        pin: 0,
        primary: 0,
        secondary: 0,
        exit: 0,
        entry: 0,
        revision: 0,
        timer_shift: 0,
        cr4_allowed: 0,
        xcr0_guest: 0,
    };
}
