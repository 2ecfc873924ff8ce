//! VMX: from VMXON to a VM exit that is decoded.

pub mod capability;
mod context;
mod dirty_log;
mod event;
mod exits;
mod setup;
mod switch;
mod vcpu;
mod vmcs;

use core::arch::global_asm;
use core::mem::offset_of;

use pleat_types::{Exit, Hpa};
use x86::controlregs::{Cr0, Cr4, Xcr0};
use x86::msr;

use crate::cpu::{rdmsr, rdtsc};
use crate::processor;
use capability::Capabilities;
use context::Context;
pub use vcpu::VirtualProcessor;
use vcpu::make_current;
use vmcs::field;

global_asm!(
    include_str!("world_switch.s"),
    xmm = const offset_of!(Context, xmm),
    mxcsr = const offset_of!(Context, mxcsr),
    host_mxcsr = const offset_of!(Context, host_mxcsr),
);

unsafe extern "C" {
    fn pleat_enter_guest(context: *mut Context, is_launched: u64) -> u64;
    fn pleat_vm_exit();
}

/// A page that the processor wants for itself.
#[repr(C, align(4096))]
struct Page(core::cell::UnsafeCell<[u8; 4096]>);

// SAFETY: written once at start-up by the only processor, then by the processor itself.
unsafe impl Sync for Page {}

static VMXON_REGION: Page = Page(core::cell::UnsafeCell::new([0; 4096]));

/// VMX operation on this processor.
pub struct Engine {
    capabilities: Capabilities,
    msr_bitmap: Hpa,
}

impl Engine {
    /// Turns VMX on (SDM 24.7).
    pub fn start(capabilities: Capabilities) -> Self {
        allow_by_firmware();
        set_control_registers(&capabilities);
        let region = VMXON_REGION.0.get();
        // SAFETY: the region is a static page that nothing else uses; control registers and
        // IA32_FEATURE_CONTROL have just been set as VMXON wants them.
        unsafe {
            region.cast::<u32>().write(capabilities.revision);
            vmcs::vmxon(Hpa::new(region as u64));
        }
        Self {
            capabilities,
            msr_bitmap: setup::msr_bitmap(),
        }
    }

    /// A virtual processor made of these frames.
    pub fn new_vcpu(&self, identity: Identity, frames: [Hpa; VCPU_FRAMES]) -> VirtualProcessor {
        vmcs::invvpid(identity.vpid());
        vmcs::invept(identity.eptp);
        // SAFETY: the frames belong to the virtual processor from now on (Platform::new_vcpu).
        unsafe { VirtualProcessor::new(&self.capabilities, self.msr_bitmap, identity, frames) }
    }

    /// Virtual processors log the pages that they write.
    pub fn has_dirty_log(&self) -> bool {
        dirty_log::is_available(&self.capabilities)
    }

    /// Runs the guest until an exit, at the latest at `until`.
    pub fn enter(&self, vcpu: &mut VirtualProcessor, until: u64) -> Exit {
        if !processor::this().has_loaded(vcpu.parked().get()) {
            self.load(vcpu);
        }
        let remaining = until.saturating_sub(rdtsc());
        if remaining == 0 {
            return Exit::TimerExpired;
        }
        let vmcs = make_current(vcpu);
        let ticks = u32::try_from((remaining >> self.capabilities.timer_shift) + 1).unwrap_or(u32::MAX);
        vmcs.write(field::PREEMPTION_TIMER, ticks);
        let is_launched = vcpu.is_launched();
        // SAFETY: the VMCS is current, its host state leads to `pleat_vm_exit`, and the context is
        // that of this virtual processor; everything that the switch changes it restores.
        let failed = unsafe { pleat_enter_guest(vcpu.context_mut(), is_launched.into()) };
        if failed != 0 {
            return refused_entry(vcpu);
        }
        vcpu.on_exit();
        let exit = exits::decode(vcpu);
        let reason = exits::basic_reason(vcpu);
        processor::this()
            .trace
            .record(rdtsc(), vcpu.guest().0, reason, vcpu.rax());
        exit
    }

    /// Drops all translations of one guest.
    pub fn flush(eptp: u64) {
        vmcs::invept(eptp);
    }

    /// Puts this virtual processor's extended state into the registers, after saving the last one's.
    #[cold]
    fn load(&self, vcpu: &VirtualProcessor) {
        if let Some(parked) = processor::this().loaded_state() {
            // SAFETY: the state frame of a live virtual processor (`drop` makes the processor forget it).
            unsafe { switch::save(Hpa::new(parked), self.capabilities.xcr0_guest) };
        }
        // SAFETY: the state frame of this virtual processor, initialised when it was made.
        unsafe { switch::restore(vcpu.parked(), self.capabilities.xcr0_guest) };
        processor::this().set_loaded(vcpu.parked().get());
    }
}

/// Frames of a virtual processor: VMCS, virtual-APIC page, what is parked while others run, and the log of the
/// pages that it writes.
pub const VCPU_FRAMES: usize = 4;
pub use context::Identity;

/// IA32_FEATURE_CONTROL is 0 after reset: set and lock it where the firmware has not.
fn allow_by_firmware() {
    const LOCKED: u64 = 1 << 0;
    const VMX_OUTSIDE_SMX: u64 = 1 << 2;
    let value = rdmsr(msr::IA32_FEATURE_CONTROL);
    if value & LOCKED == 0 {
        // SAFETY: the register exists where VMX does, and is not locked.
        unsafe { msr::wrmsr(msr::IA32_FEATURE_CONTROL, value | VMX_OUTSIDE_SMX | LOCKED) }
    }
}

/// CR0.NE and CR4.VMXE for VMX, caches on, CR4.MCE, CR4.OSXSAVE and XCR0 for the guests' extended state.
fn set_control_registers(capabilities: &Capabilities) {
    // SAFETY: the capability check has found VMX and XSAVE; the guests' XCR0 bits are the processor's.
    unsafe {
        let caches_on = x86::controlregs::cr0() - Cr0::CR0_CACHE_DISABLE - Cr0::CR0_NOT_WRITE_THROUGH;
        x86::controlregs::cr0_write(caches_on | Cr0::CR0_NUMERIC_ERROR);
        let mut wanted = Cr4::CR4_ENABLE_VMX | Cr4::CR4_ENABLE_OS_XSAVE;
        // A machine check is to end in a crash record, not in a silent reset.
        wanted.set(
            Cr4::CR4_ENABLE_MACHINE_CHECK,
            setup::machine_check(capabilities) != 0,
        );
        x86::controlregs::cr4_write(x86::controlregs::cr4() | wanted);
        x86::controlregs::xcr0_write(Xcr0::from_bits_truncate(capabilities.xcr0_guest));
    }
}

/// VMLAUNCH or VMRESUME itself was refused, with VM-instruction error 7 or 8 (SDM 31.4): the controls or the
/// host state are wrong. That is a mistake of ours, and the guest that brings it to light is the one to end.
#[cold]
fn refused_entry(vcpu: &VirtualProcessor) -> Exit {
    let error = make_current(vcpu).read(field::INSTRUCTION_ERROR);
    log::error!(
        "{}: VM entry refused with VM-instruction error {error}",
        vcpu.guest()
    );
    Exit::EntryFailed(u16::try_from(error).unwrap_or(u16::MAX))
}

/// Where a VM exit arrives.
fn exit_address() -> u64 {
    pleat_vm_exit as *const () as u64
}
