//! Why a guest stopped running, decoded once from the VMCS (SDM vol. 3, appendix C and section 28.2).

use crate::Gpa;

/// How a guest touched memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A data read, or a page walk that read a guest page table.
    Read,
    /// A data write, or a page walk that set an A/D bit in a guest page table.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// An access that the extended page tables did not allow (SDM 29.3.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EptViolation {
    /// Where, in guest-physical memory.
    pub gpa: Gpa,
    /// What the guest tried.
    pub access: Access,
}

/// Width of a port access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortSize {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
}

impl PortSize {
    /// Width in bytes: 1, 2 or 4.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// All bits that an access of this width carries.
    #[must_use]
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

/// An IN, OUT, INS or OUTS (SDM table 28-5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// Its width.
    pub size: PortSize,
    /// IN or INS, not OUT or OUTS.
    pub is_read: bool,
    /// INS or OUTS: the data is in memory.
    pub is_string: bool,
}

/// A MOV to or from a control register that the masks do not let pass (SDM table 28-3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrAccess {
    /// MOV CR0, with the value to be loaded.
    WriteCr0(u64),
    /// MOV CR4, with the value to be loaded.
    WriteCr4(u64),
    /// Anything else (CLTS, LMSW and CR3 and CR8 accesses are not intercepted).
    Other,
}

/// One VM exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// An interrupt for the host; the machine has acknowledged and handled it.
    ExternalInterrupt,
    /// The VMX-preemption timer ran out.
    TimerExpired,
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The guest lowered its TPR below the threshold.
    TprBelowThreshold,
    /// CPUID; leaf in EAX, subleaf in ECX.
    Cpuid,
    /// HLT.
    Hlt,
    /// VMCALL; the hypercall ABI is in [`crate::hypercall`].
    Vmcall,
    /// INVD or WBINVD.
    CacheFlush,
    /// RDMSR; index in ECX.
    ReadMsr,
    /// WRMSR; index in ECX, value in EDX:EAX.
    WriteMsr,
    /// XSETBV; register in ECX, value in EDX:EAX.
    Xsetbv,
    /// IN, OUT, INS, OUTS.
    Port(PortAccess),
    /// MOV to a control register.
    ControlRegister(CrAccess),
    /// An EPT violation.
    EptViolation(EptViolation),
    /// An EPT entry that the processor finds malformed: a bug of ours.
    EptMisconfiguration(Gpa),
    /// Triple fault.
    TripleFault,
    /// PAUSE in a loop (PAUSE-loop exiting).
    Pause,
    /// An instruction that raises #UD in our guests: VMX, MONITOR/MWAIT, RDPMC, GETSEC …
    UndefinedInstruction,
    /// The VM entry failed on guest state; the basic exit reason (33, 34 or 41),
    /// or the VM-instruction error (7 or 8) of an entry that was refused.
    EntryFailed(u16),
    /// Any other basic exit reason.
    Other(u16),
    /// #DB or #AC of the guest, which the machine has queued again: enter the guest as it is. They exit
    /// because a guest can nest them without end, which nothing but an exit interrupts (CVE-2015-5307).
    ReflectedException,
    /// The page-modification log is full: take it ([`crate::Vcpu::take_dirty_log`]) and go on.
    DirtyLogFull,
}

impl Exit {
    /// A short stable name for counters and statistics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        NAMES[self.index()]
    }

    /// A small dense number for counters: below [`Exit::KINDS`].
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::ExternalInterrupt => 0,
            Self::TimerExpired => 1,
            Self::InterruptWindow => 2,
            Self::TprBelowThreshold => 3,
            Self::Cpuid => 4,
            Self::Hlt => 5,
            Self::Vmcall => 6,
            Self::CacheFlush => 7,
            Self::ReadMsr => 8,
            Self::WriteMsr => 9,
            Self::Xsetbv => 10,
            Self::Port(_) => 11,
            Self::ControlRegister(_) => 12,
            Self::EptViolation(_) => 13,
            Self::EptMisconfiguration(_) => 14,
            Self::TripleFault => 15,
            Self::Pause => 16,
            Self::UndefinedInstruction => 17,
            Self::EntryFailed(_) => 18,
            Self::Other(_) => 19,
            Self::ReflectedException => 20,
            Self::DirtyLogFull => 21,
        }
    }

    /// How many kinds of exits there are.
    pub const KINDS: usize = NAMES.len();

    /// The names of all kinds, by [`Exit::index`].
    pub const NAMES: [&'static str; NAMES.len()] = NAMES;
}

const NAMES: [&str; 22] = [
    "external-interrupt",
    "timer",
    "interrupt-window",
    "tpr-threshold",
    "cpuid",
    "hlt",
    "vmcall",
    "cache-flush",
    "rdmsr",
    "wrmsr",
    "xsetbv",
    "port",
    "control-register",
    "ept-violation",
    "ept-misconfiguration",
    "triple-fault",
    "pause",
    "undefined-instruction",
    "entry-failed",
    "other",
    "reflected-exception",
    "dirty-log-full",
];
