//! Stores of every size and kind, each by one instruction to an address of choice.
//!
//! A write to a page that a host merged has to break the merge whichever instruction it comes from. As in
//! [`crate::cpu`] these are safe functions: a kernel can break nothing but itself.

use core::arch::asm;

use crate::{extended, trap};

/// The sizes that [`bytes`] can store.
pub const SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// The sizes that this processor can store: without AVX not the last one.
#[must_use]
pub fn sizes() -> &'static [usize] {
    if extended::has_avx() { &SIZES } else { &SIZES[..5] }
}

/// Stores up to 32 bytes by one MOV, MOVDQU or VMOVDQU.
///
/// # Panics
/// For a length that is not in [`SIZES`].
#[inline]
pub fn bytes(address: u64, value: &[u8]) {
    let from = value.as_ptr();
    // SAFETY: reads the slice, and writes as many bytes; see the module's note.
    unsafe {
        match value.len() {
            1 => asm!("mov {0}, [{1}]", "mov [{2}], {0}", out(reg_byte) _, in(reg) from, in(reg) address,
                      options(nostack)),
            2 => asm!("mov {0:x}, [{1}]", "mov [{2}], {0:x}", out(reg) _, in(reg) from, in(reg) address,
                      options(nostack)),
            4 => asm!("mov {0:e}, [{1}]", "mov [{2}], {0:e}", out(reg) _, in(reg) from, in(reg) address,
                      options(nostack)),
            8 => asm!("mov {0}, [{1}]", "mov [{2}], {0}", out(reg) _, in(reg) from, in(reg) address,
                      options(nostack)),
            16 => {
                asm!("movdqu {0}, [{1}]", "movdqu [{2}], {0}", out(xmm_reg) _, in(reg) from, in(reg) address,
                     options(nostack));
            }
            32 => asm!("vmovdqu ymm0, [{0}]", "vmovdqu [{1}], ymm0", "vzeroupper", in(reg) from,
                       in(reg) address, out("xmm0") _, options(nostack)),
            other => panic!("no instruction stores {other} bytes"),
        }
    };
}

/// REP MOVSB.
pub fn string_of_bytes(address: u64, value: &[u8]) {
    copy(address, value.as_ptr().addr() as u64, value.len() as u64);
}

/// REP MOVSB from an address.
pub fn copy(to: u64, from: u64, count: u64) {
    // SAFETY: see the module's note; the direction flag is clear in compiled code.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack));
    }
}

/// REP MOVSQ from an address.
#[inline]
pub fn copy_words(to: u64, from: u64, count: u64) {
    // SAFETY: see the module's note; the direction flag is clear in compiled code.
    unsafe {
        asm!("rep movsq", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack));
    }
}

/// REP MOVSB with the direction flag set: downwards from the last byte.
pub fn copy_down(to: u64, from: u64, count: u64) {
    // SAFETY: see the module's note; the direction flag is clear again afterwards.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rdi") to + count - 1 => _, inout("rsi") from + count - 1 => _,
             inout("rcx") count => _, options(nostack));
    }
}

/// REP STOSQ.
pub fn fill_words(address: u64, value: u64, count: u64) {
    // SAFETY: see the module's note; the direction flag is clear in compiled code.
    unsafe {
        asm!("rep stosq", inout("rdi") address => _, in("rax") value, inout("rcx") count => _, options(nostack));
    }
}

/// MOVNTI: a store that goes past the caches.
pub fn past_caches(address: u64, value: u64) {
    // SAFETY: see the module's note.
    unsafe { asm!("movnti [{}], {}", "sfence", in(reg) address, in(reg) value, options(nostack)) }
}

/// LOCK XADD of a quadword; what was there before.
#[must_use]
pub fn exchange_add(address: u64, addend: u64) -> u64 {
    let before;
    // SAFETY: see the module's note.
    unsafe { asm!("lock xadd [{}], {}", in(reg) address, inout(reg) addend => before, options(nostack)) }
    before
}

/// LOCK CMPXCHG16B; whether it found what was expected. The processor writes in either case.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the halves of the values")]
pub fn compare_exchange(address: u64, expected: u128, new: u128) -> bool {
    let (new_low, new_high) = (new as u64, (new >> 64) as u64);
    let is_equal: u8;
    // SAFETY: see the module's note. RBX is reserved by the compiler, hence the exchange.
    unsafe {
        asm!("xchg rbx, {low}", "lock cmpxchg16b [rdi]", "sete sil", "mov rbx, {low}",
             low = inout(reg) new_low => _, in("rdi") address, out("sil") is_equal, in("rcx") new_high,
             inout("rax") expected as u64 => _, inout("rdx") (expected >> 64) as u64 => _, options(nostack));
    }
    is_equal != 0
}

/// PUSH on a stack that ends at `top`.
pub fn push(top: u64, value: u64) {
    // SAFETY: see the module's note; interrupts have stacks of their own.
    unsafe {
        asm!("xchg rsp, {top}", "push {value}", "mov rsp, {top}", top = inout(reg) top => _, value = in(reg) value);
    }
}

/// CALL of a function that returns at once, on a stack that ends at `top`; the return address that it left.
#[must_use]
pub fn call_on_stack(top: u64) -> u64 {
    let pushed;
    // SAFETY: see the module's note; interrupts have stacks of their own.
    unsafe {
        asm!("xchg rsp, {top}", "call 2f", "3: mov rsp, {top}", "lea {pushed}, [rip + 3b]", "jmp 4f", "2: ret", "4:",
             top = inout(reg) top => _, pushed = out(reg) pushed);
    }
    pushed
}

/// CALL of code that lies at an address, keeps all registers but RAX, and returns; its EAX.
#[must_use]
pub fn call_code(address: u64) -> u32 {
    let result: u64;
    // SAFETY: see the module's note.
    unsafe { asm!("call {}", in(reg) address, lateout("rax") result) }
    #[expect(clippy::cast_possible_truncation, reason = "EAX")]
    let result = result as u32;
    result
}

/// INT of [`trap::FAST_VECTOR`]: the processor pushes 40 bytes on the stack of interrupts, and the handler
/// 24 more.
pub fn software_interrupt() {
    // SAFETY: the handler keeps all registers and acknowledges an interrupt that is not in service: no effect.
    unsafe { asm!("int {}", const trap::FAST_VECTOR) }
}
