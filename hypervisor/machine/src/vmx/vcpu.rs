//! A virtual processor: its registers outside the VMCS, and access to those inside.

use pleat_types::{Event, Gfn, Gpr, GuestId, Hpa, Injection, Registers, Segment, SegmentName, Vcpu};
use x86::vmx::vmcs::control::PrimaryControls;

use super::capability::Capabilities;
use super::context::{Context, Identity};
use super::dirty_log::{self, DirtyLog};
use super::event;
use super::switch::{self, Parked};
use super::vmcs::{self, CurrentVmcs, Natural, field};
use super::{VCPU_FRAMES, setup};
use crate::processor;

const RFLAGS_TRAP: u64 = 1 << 8;
const RFLAGS_INTERRUPT: u64 = 1 << 9;
/// Blocking by STI and by MOV SS (SDM table 25-3).
const BLOCKED: u32 = 0b11;
/// PENDING_DEBUG: a single step is due.
const PENDING_SINGLE_STEP: u64 = 1 << 14;
/// PENDING_DEBUG: a data or I/O breakpoint was met that is enabled.
const PENDING_BREAKPOINT: u64 = 1 << 12;
const CR0_PROTECTION: u64 = 1 << 0;
const CR0_NOT_WRITE_THROUGH: u64 = 1 << 29;
const CR0_CACHE_DISABLE: u64 = 1 << 30;
/// CR0.NE: fixed in VMX operation, virtual for the guest.
pub(super) const CR0_NUMERIC_ERROR: u64 = 1 << 5;
/// CR0 bits that guests see a shadow of. Neither entries nor exits switch CD and NW (SDM 28.5.1), so a guest
/// that set them would turn the caches off for everyone.
pub(super) const CR0_HOST_OWNED: u64 = CR0_NUMERIC_ERROR | CR0_NOT_WRITE_THROUGH | CR0_CACHE_DISABLE;
/// CS access rights: a 64-bit code segment.
const RIGHTS_LONG: u32 = 1 << 13;
const EFER_LONG_MODE_ACTIVE: u64 = 1 << 10;

/// One virtual processor.
pub struct VirtualProcessor {
    context: Context,
    identity: Identity,
    vmcs: Hpa,
    virtual_apic: Hpa,
    parked: Hpa,
    dirty_log: Option<DirtyLog>,
    primary: u32,
    cr4_allowed: u64,
    xcr0_allowed: u64,
    tpr_threshold: u32,
    is_launched: bool,
    is_event_queued: bool,
}

/// Makes this virtual processor's VMCS the current one, if it is not.
#[inline]
pub(super) fn make_current(vcpu: &VirtualProcessor) -> CurrentVmcs<'_> {
    let processor = processor::this();
    if processor.has_current(vcpu.vmcs.get()) {
        return CurrentVmcs::already(vcpu.vmcs);
    }
    processor.set_current(vcpu.vmcs.get());
    // SAFETY: the region was cleared in `new` and is this processor's until `drop`.
    unsafe { CurrentVmcs::load(vcpu.vmcs) }
}

impl VirtualProcessor {
    /// A virtual processor in its first state.
    ///
    /// # Safety
    /// The frames are its own until it is dropped, and VMX is on.
    pub(super) unsafe fn new(
        capabilities: &Capabilities,
        msr_bitmap: Hpa,
        identity: Identity,
        [vmcs, virtual_apic, parked, log]: [Hpa; VCPU_FRAMES],
    ) -> Self {
        // SAFETY: frames of its own, mapped at their addresses.
        unsafe {
            (vmcs.get() as *mut [u8; 4096]).write_bytes(0, 1);
            (vmcs.get() as *mut u32).write(capabilities.revision);
            (virtual_apic.get() as *mut [u8; 4096]).write_bytes(0, 1);
            switch::initialise(parked);
            vmcs::clear(vmcs);
        }
        let mut vcpu = Self {
            context: Context {
                gprs: [0; 16],
                xmm: [0; 16],
                mxcsr: 0x1f80,
                host_mxcsr: 0x1f80,
            },
            identity,
            vmcs,
            virtual_apic,
            parked,
            dirty_log: None,
            primary: capabilities.primary,
            cr4_allowed: setup::cr4_for_guests(capabilities),
            xcr0_allowed: capabilities.xcr0_guest,
            tpr_threshold: 0,
            is_launched: false,
            is_event_queued: false,
        };
        let fields = make_current(&vcpu);
        setup::controls(fields, capabilities, identity, msr_bitmap, virtual_apic);
        setup::host_state(fields);
        setup::guest_state(fields, capabilities);
        if dirty_log::is_available(capabilities) {
            // SAFETY: a frame of its own, as long as its VMCS is in use.
            vcpu.dirty_log = Some(unsafe { DirtyLog::start(fields, log) });
        }
        vcpu
    }

    pub(super) fn guest(&self) -> GuestId {
        self.identity.guest
    }

    pub(super) fn parked(&self) -> Hpa {
        self.parked
    }

    pub(super) fn is_launched(&self) -> bool {
        self.is_launched
    }

    pub(super) fn context_mut(&mut self) -> *mut Context {
        &raw mut self.context
    }

    pub(super) fn rax(&self) -> u64 {
        self.context.gprs[0]
    }

    /// An exit happened: the launch has succeeded and the queued event was delivered (or is in the
    /// vectoring field, from which `exits` queues it again).
    pub(super) fn on_exit(&mut self) {
        self.is_launched = true;
        self.is_event_queued = false;
    }

    /// Queues an event in the form of the interruption-information fields.
    pub(super) fn queue(&mut self, identity: u32, error_code: u32) {
        let vmcs = make_current(self);
        let mut identity = identity & event::IDENTITY;
        if vmcs.read(field::CR0).0 & CR0_PROTECTION == 0 {
            identity &= !event::ERROR_CODE; // real mode pushes none, and the entry insists (SDM 27.2.1.3)
        }
        vmcs.write(field::ENTRY_EVENT, identity | event::VALID);
        vmcs.write(field::ENTRY_ERROR_CODE, error_code);
        if identity & event::TYPE >= event::SOFTWARE {
            vmcs.write(
                field::ENTRY_INSTRUCTION_LENGTH,
                vmcs.read(field::INSTRUCTION_LENGTH),
            );
        }
        self.is_event_queued = true;
    }

    fn segment(&self, name: SegmentName) -> Segment {
        let (vmcs, fields) = (make_current(self), field::segment(name as u32));
        Segment {
            selector: vmcs.read(fields.selector),
            base: vmcs.read(fields.base).0,
            limit: vmcs.read(fields.limit),
            rights: vmcs.read(fields.rights),
        }
    }

    fn is_in_64_bit_mode(&self) -> bool {
        let vmcs = make_current(self);
        vmcs.read(field::EFER) & EFER_LONG_MODE_ACTIVE != 0
            && vmcs.read(field::segment(SegmentName::Cs as u32).rights) & RIGHTS_LONG != 0
    }

    /// Makes the single-step trap due at the next entry, beside what is due already.
    fn set_single_step_pending(&self) {
        let vmcs = make_current(self);
        let pending = vmcs.read(field::PENDING_DEBUG).0;
        vmcs.write(field::PENDING_DEBUG, Natural(pending | PENDING_SINGLE_STEP));
    }

    /// Single-stepping with interrupts blocked by STI or MOV SS: a #DB exit leaves no trap pending, but an
    /// entry insists on one (SDM 27.3.1.5). It is dropped when the entry delivers the exception.
    pub(super) fn satisfy_blocked_step(&self) {
        let vmcs = make_current(self);
        let is_stepping = vmcs.read(field::RFLAGS).0 & RFLAGS_TRAP != 0;
        if is_stepping && vmcs.read(field::INTERRUPTIBILITY) & BLOCKED != 0 {
            self.set_single_step_pending();
        }
    }

    fn task_priority(&self) -> *mut u8 {
        (self.virtual_apic.get() + 0x80) as *mut u8
    }
}

impl Drop for VirtualProcessor {
    /// Ends the use of its frames, however it ends.
    fn drop(&mut self) {
        // SAFETY: the region is this virtual processor's; nothing uses it afterwards.
        unsafe { vmcs::clear(self.vmcs) };
        processor::this().forget(self.vmcs.get(), self.parked.get());
    }
}

impl Vcpu for VirtualProcessor {
    #[inline]
    fn gpr(&self, register: Gpr) -> u64 {
        match register {
            Gpr::Rsp => make_current(self).read(field::RSP).0,
            other => self.context.gprs[other as usize],
        }
    }

    #[inline]
    fn set_gpr(&mut self, register: Gpr, value: u64) {
        match register {
            Gpr::Rsp => make_current(self).write(field::RSP, Natural(value)),
            other => self.context.gprs[other as usize] = value,
        }
    }

    fn rip(&self) -> u64 {
        make_current(self).read(field::RIP).0
    }

    fn set_rip(&mut self, rip: u64) {
        make_current(self).write(field::RIP, Natural(rip));
    }

    #[inline]
    fn advance(&mut self) {
        let vmcs = make_current(self);
        let length = vmcs.read(field::INSTRUCTION_LENGTH);
        let mut next = vmcs.read(field::RIP).0.wrapping_add(u64::from(length));
        if next >> 32 != 0 && !self.is_in_64_bit_mode() {
            next &= 0xffff_ffff; // as the instruction pointer wraps there; the entry insists (SDM 27.3.1.4)
        }
        vmcs.write(field::RIP, Natural(next));
        let blocking = vmcs.read(field::INTERRUPTIBILITY);
        if blocking & BLOCKED != 0 {
            vmcs.write(field::INTERRUPTIBILITY, blocking & !BLOCKED);
        }
        if vmcs.read(field::RFLAGS).0 & RFLAGS_TRAP != 0 {
            // The instruction was executed here, so its single-step trap is due here (SDM 27.7.3).
            self.set_single_step_pending();
        }
    }

    fn rflags(&self) -> u64 {
        make_current(self).read(field::RFLAGS).0
    }

    fn privilege(&self) -> u8 {
        // SS.DPL is the current privilege level (SDM 25.4.1).
        (make_current(self).read(field::SS_RIGHTS) >> 5 & 3).to_le_bytes()[0]
    }

    fn cr0(&self) -> u64 {
        let vmcs = make_current(self);
        let (real, shadow) = (vmcs.read(field::CR0).0, vmcs.read(field::CR0_SHADOW).0);
        real & !CR0_HOST_OWNED | shadow & CR0_HOST_OWNED
    }

    fn cr4(&self) -> u64 {
        make_current(self).read(field::CR4).0 & self.cr4_allowed
    }

    fn write_cr0(&mut self, value: u64) -> Result<(), Event> {
        if value & CR0_NOT_WRITE_THROUGH != 0 && value & CR0_CACHE_DISABLE == 0 {
            return Err(Event::GeneralProtection);
        }
        // Once the shadow agrees with the value, the guest's own MOV does not exit again and the
        // processor does everything that belongs to it: long mode, PDPTEs, faults.
        make_current(self).write(field::CR0_SHADOW, Natural(value & CR0_HOST_OWNED));
        Ok(())
    }

    fn write_cr4(&mut self, value: u64) -> Result<(), Event> {
        // The masked bits are those that guests may not set; their shadows are 0.
        if value & !self.cr4_allowed != 0 {
            Err(Event::GeneralProtection)
        } else {
            Ok(())
        }
    }

    fn write_xcr0(&mut self, value: u64) -> Result<(), Event> {
        const X87: u64 = 1 << 0;
        const SSE: u64 = 1 << 1;
        const AVX: u64 = 1 << 2;
        let is_avx_alone = value & AVX != 0 && value & SSE == 0;
        if value & X87 == 0 || value & !self.xcr0_allowed != 0 || is_avx_alone {
            return Err(Event::GeneralProtection);
        }
        if processor::this().has_loaded(self.parked.get()) {
            // SAFETY: the value was checked, and the registers hold this guest's state.
            unsafe { crate::cpu::xsetbv(value) };
        } else {
            // SAFETY: the frame is this virtual processor's own.
            unsafe { switch::set_parked_xcr0(self.parked, value) };
        }
        Ok(())
    }

    fn tsc_offset(&self) -> u64 {
        make_current(self).read(field::TSC_OFFSET)
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        make_current(self).write(field::TSC_OFFSET, offset);
    }

    fn tpr(&self) -> u8 {
        // SAFETY: a byte of this virtual processor's own virtual-APIC page.
        unsafe { self.task_priority().read_volatile() }
    }

    fn set_tpr(&mut self, tpr: u8) {
        // SAFETY: as for `tpr`.
        unsafe { self.task_priority().write_volatile(tpr) }
    }

    fn set_tpr_threshold(&mut self, vector: Option<u8>) {
        let threshold = vector.map_or(0, |vector| u32::from(vector >> 4));
        if threshold != self.tpr_threshold {
            self.tpr_threshold = threshold;
            make_current(self).write(field::TPR_THRESHOLD, threshold);
        }
    }

    fn can_take_interrupt(&self) -> bool {
        let vmcs = make_current(self);
        !self.is_event_queued
            && vmcs.read(field::RFLAGS).0 & RFLAGS_INTERRUPT != 0
            && vmcs.read(field::INTERRUPTIBILITY) & BLOCKED == 0
            // An entry that delivers an interrupt drops a pending #DB (SDM 27.7.3): that goes first.
            && vmcs.read(field::PENDING_DEBUG).0 & (PENDING_SINGLE_STEP | PENDING_BREAKPOINT) == 0
    }

    fn inject(&mut self, wanted: Event) -> Injection {
        const INVALID_OPCODE: u32 = 6;
        const GENERAL_PROTECTION: u32 = 13;
        if self.is_event_queued {
            return Injection::Busy;
        }
        let identity = match wanted {
            Event::Interrupt(vector) => u32::from(vector),
            Event::InvalidOpcode => event::EXCEPTION | INVALID_OPCODE,
            Event::GeneralProtection => event::EXCEPTION | event::ERROR_CODE | GENERAL_PROTECTION,
        };
        self.queue(identity, 0);
        Injection::Queued
    }

    fn set_interrupt_window(&mut self, wanted: bool) {
        const WINDOW: u32 = PrimaryControls::INTERRUPT_WINDOW_EXITING.bits();
        let controls = if wanted {
            self.primary | WINDOW
        } else {
            self.primary & !WINDOW
        };
        if controls != self.primary {
            self.primary = controls;
            make_current(self).write(field::PRIMARY_CONTROLS, controls);
        }
    }

    fn take_dirty_log(&mut self, report: impl FnMut(Gfn)) {
        if let Some(log) = &self.dirty_log {
            log.take(make_current(self), report);
        }
    }

    fn registers(&self) -> Registers {
        let vmcs = make_current(self);
        let mut gprs = self.context.gprs;
        gprs[Gpr::Rsp as usize] = self.gpr(Gpr::Rsp);
        Registers {
            gprs,
            rip: self.rip(),
            rflags: self.rflags(),
            cr0: self.cr0(),
            cr3: vmcs.read(field::CR3).0,
            cr4: self.cr4(),
            efer: vmcs.read(field::EFER),
            cs: self.segment(SegmentName::Cs),
            ss: self.segment(SegmentName::Ss),
        }
    }
}

const _: () = assert!(size_of::<Parked>() <= 4096, "what is parked fits its frame");
