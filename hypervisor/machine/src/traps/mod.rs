//! Interrupts and exceptions of the host: descriptor tables, stacks, and what happens on each vector.
//!
//! The precompiled `core` uses the red zone, so every vector runs on a stack of its own through the
//! interrupt stack table (SDM vol. 3, 6.14.5). Exceptions end in a crash record. Interrupts are on only
//! while the processor sleeps; while a guest runs they are VM exits instead.

mod tables;

use core::arch::global_asm;

use crate::{crash, interrupts};

pub use tables::{CODE_SELECTOR, DATA_SELECTOR, TSS_SELECTOR, is_stack_guard, start, table_bases};

global_asm!(include_str!("stubs.s"), trap = sym pleat_trap);

/// What the stubs saved, lowest address first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SavedRegisters {
    /// R15 down to R8.
    pub high: [u64; 8],
    /// RDI, RSI, RBP, RBX, RDX, RCX, RAX.
    pub low: [u64; 7],
    stub: u64,
}

/// What the processor pushed (SDM vol. 3, figure 6-9).
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(missing_docs)] // architectural names
pub struct InterruptFrame {
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// The vector of non-maskable interrupts.
const NMI: u8 = 2;
/// Exceptions for which the processor pushes an error code (SDM vol. 3, table 6-1).
const WITH_ERROR_CODE: u32 =
    1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// Where every vector arrives.
///
/// # Safety
/// Called by the stubs only, with what they have pushed.
unsafe extern "C" fn pleat_trap(saved: *const SavedRegisters) {
    // SAFETY: the stub passes its own stack.
    let registers = unsafe { *saved };
    let vector = tables::vector_of_stub(registers.stub);
    if vector >= 32 {
        interrupts::serve(vector);
        return;
    }
    if vector == NMI {
        interrupts::on_nmi();
        return;
    }
    let has_error_code = WITH_ERROR_CODE & (1 << vector) != 0;
    // SAFETY: above the saved registers lie the error code, where there is one, and then the frame.
    let (error_code, frame) = unsafe {
        let above = saved.add(1).cast::<u64>();
        if has_error_code {
            (Some(*above), *above.add(1).cast::<InterruptFrame>())
        } else {
            (None, *above.cast::<InterruptFrame>())
        }
    };
    crash::on_exception(vector, error_code, &frame, &registers)
}
