//! What the processor has one of and neither the VMCS nor the exit path saves: swapped when another
//! virtual processor is to run, not at every exit.

use core::arch::asm;

use pleat_types::Hpa;
use x86::msr::{self, wrmsr};

use crate::cpu::{debug_registers, rdmsr, set_debug_registers, xsetbv};

/// Registers for the SYSCALL instruction and SWAPGS, which guests reach without exits.
const SYSCALL_REGISTERS: [u32; 5] = [
    msr::IA32_STAR,
    msr::IA32_LSTAR,
    msr::IA32_CSTAR,
    msr::IA32_FMASK,
    msr::IA32_KERNEL_GSBASE,
];

/// Room for x87, SSE and AVX in the standard XSAVE format: 832 bytes (SDM vol. 1, 13.4).
const EXTENDED_STATE: usize = 1024;

/// The state of a virtual processor that does not run, in a frame of its own.
#[repr(C, align(64))]
pub struct Parked {
    extended: [u8; EXTENDED_STATE],
    syscall: [u64; SYSCALL_REGISTERS.len()],
    debug: [u64; 5],
    cr2: u64,
    xcr0: u64,
}

fn parked(frame: Hpa) -> *mut Parked {
    frame.get() as *mut Parked
}

/// Puts the state after reset into a frame (SDM table 10-1, and section 13.6 of volume 1).
///
/// # Safety
/// The frame belongs to one virtual processor and is mapped at its address.
pub unsafe fn initialise(frame: Hpa) {
    const MXCSR_OFFSET: usize = 24;
    let mut extended = [0; EXTENDED_STATE];
    extended[MXCSR_OFFSET..MXCSR_OFFSET + 4].copy_from_slice(&0x1f80_u32.to_le_bytes());
    let debug = [0, 0, 0, 0, 0xffff_0ff0];
    // SAFETY: the caller vouches for the frame, which is aligned and large enough.
    unsafe {
        parked(frame).write(Parked {
            extended,
            syscall: [0; 5],
            debug,
            cr2: 0,
            xcr0: 1,
        });
    }
}

/// Saves the registers' state into the frame of the virtual processor that ran last.
///
/// # Safety
/// The frame was initialised; `xcr0_all` are bits that the processor supports.
pub unsafe fn save(frame: Hpa, xcr0_all: u64) {
    // SAFETY: the caller vouches for the frame; nothing else refers to it during the call. XMM registers
    // hold Pleat's values here, the guest's are in its context.
    unsafe {
        let state = &mut *parked(frame);
        state.xcr0 = xgetbv();
        xsetbv(xcr0_all);
        asm!("xsave64 [{}]", in(reg) &raw mut state.extended, in("eax") xcr0_all & 0xffff_ffff, in("edx") 0);
        state.syscall = SYSCALL_REGISTERS.map(rdmsr);
        state.debug = debug_registers();
        state.cr2 = x86::controlregs::cr2() as u64;
    }
}

/// Loads the state of the virtual processor that is to run.
///
/// # Safety
/// As for [`save`].
pub unsafe fn restore(frame: Hpa, xcr0_all: u64) {
    // SAFETY: the caller vouches for the frame. XRSTOR overwrites XMM registers, which the compiler is
    // told; the values of the others were accepted by the processor when the guest set them.
    unsafe {
        let state = &*parked(frame);
        xsetbv(xcr0_all);
        asm!("xrstor64 [{}]", in(reg) &raw const state.extended, in("eax") xcr0_all & 0xffff_ffff, in("edx") 0,
             clobber_abi("C"));
        xsetbv(state.xcr0);
        for (register, value) in SYSCALL_REGISTERS.into_iter().zip(state.syscall) {
            wrmsr(register, value);
        }
        set_debug_registers(state.debug);
        x86::controlregs::cr2_write(state.cr2);
    }
}

/// Changes XCR0 of a virtual processor that is not loaded.
///
/// # Safety
/// As for [`save`], and the value is one that the processor accepts.
pub unsafe fn set_parked_xcr0(frame: Hpa, value: u64) {
    // SAFETY: the caller vouches for the frame.
    unsafe { (*parked(frame)).xcr0 = value };
}

fn xgetbv() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads XCR0; CR4.OSXSAVE is set at start-up.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
    u64::from(high) << 32 | u64::from(low)
}
