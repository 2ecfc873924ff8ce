//! Access to the state of one virtual processor.

use crate::Gfn;

/// A general-purpose register, numbered as instructions encode it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)] // the names say it
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

/// What can be injected into a guest at the next entry (SDM 25.8.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An external interrupt with this vector; only after [`Vcpu::can_take_interrupt`].
    Interrupt(u8),
    /// #UD.
    InvalidOpcode,
    /// #GP(0).
    GeneralProtection,
}

/// Whether an event that was to be injected found its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Injection {
    /// It is delivered at the next entry.
    Queued,
    /// Another event is already on its way; try again after the next exit.
    Busy,
}

/// Which segment register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the names say it
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
}

/// A segment register with its hidden part; `rights` as the VMCS has them (SDM table 25-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The visible part.
    pub selector: u16,
    /// Base address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Access rights in VMCS form; bit 16 means unusable.
    pub rights: u32,
}

/// A snapshot of the registers for reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)] // architectural names
pub struct Registers {
    /// By [`Gpr`] number.
    pub gprs: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
    pub ss: Segment,
}

/// One virtual processor. Reads and writes are of the guest's own view (CR4 reads its shadow, say).
///
/// A virtual processor starts in the state that the PVH and the 32-bit Linux boot protocols share:
/// flat 32-bit protected mode, paging off, interrupts off, everything else as after reset.
pub trait Vcpu {
    /// A general-purpose register.
    fn gpr(&self, register: Gpr) -> u64;
    /// Sets a general-purpose register.
    fn set_gpr(&mut self, register: Gpr, value: u64);
    /// The instruction pointer.
    fn rip(&self) -> u64;
    /// Sets the instruction pointer.
    fn set_rip(&mut self, rip: u64);
    /// Moves past the instruction that exited; ends blocking by STI and MOV SS.
    fn advance(&mut self);
    /// RFLAGS.
    fn rflags(&self) -> u64;
    /// The current privilege level, 0 to 3.
    fn privilege(&self) -> u8;
    /// CR0 as the guest sees it.
    fn cr0(&self) -> u64;
    /// CR4 as the guest sees it.
    fn cr4(&self) -> u64;
    /// Lets the guest's MOV CR0 pass when it is executed again (`Resume::Retry`, not the next
    /// instruction), or says that it must get #GP.
    fn write_cr0(&mut self, value: u64) -> Result<(), Event>;
    /// Lets the guest's MOV CR4 pass when it is executed again (`Resume::Retry`), or says that it must get
    /// #GP.
    fn write_cr4(&mut self, value: u64) -> Result<(), Event>;
    /// Performs the guest's XSETBV of XCR0, or says that it must get #GP (SDM vol. 1, 13.3).
    fn write_xcr0(&mut self, value: u64) -> Result<(), Event>;
    /// The guest's TSC minus the host's.
    fn tsc_offset(&self) -> u64;
    /// Sets the guest's TSC minus the host's.
    fn set_tsc_offset(&mut self, offset: u64);
    /// The guest's task priority (CR8 shifted left by 4).
    fn tpr(&self) -> u8;
    /// Sets the guest's task priority.
    fn set_tpr(&mut self, tpr: u8);
    /// Asks for an exit once the guest's priority class falls below that of `vector`; `None` for never.
    fn set_tpr_threshold(&mut self, vector: Option<u8>);
    /// IF is set, nothing blocks interrupts, and no other event is queued.
    fn can_take_interrupt(&self) -> bool;
    /// Queues an event for the next entry.
    fn inject(&mut self, event: Event) -> Injection;
    /// Asks (or no longer asks) for an exit as soon as the guest can take an interrupt.
    fn set_interrupt_window(&mut self, wanted: bool);
    /// Reports the pages that the processor has logged as newly dirty since the last call, in any order and
    /// perhaps more than once, and empties the log. At most 512. Nothing where there is no such log
    /// ([`crate::Platform::has_dirty_log`]).
    fn take_dirty_log(&mut self, report: impl FnMut(Gfn));
    /// All registers, for a report.
    fn registers(&self) -> Registers;
}
