//! What the compiler and the precompiled `core` expect the platform to provide, and a freestanding
//! program of this target lacks.

use core::arch::asm;

/// `core` refers to it; nothing ever unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Copies forwards. String instructions, because a loop would be compiled into a call of this function.
///
/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; RCX, RSI and RDI are declared as changed.
    unsafe {
        asm!("rep movsq", "mov ecx, {tail:e}", "rep movsb", tail = in(reg) bytes & 7,
             inout("rcx") bytes / 8 => _, inout("rsi") from => _, inout("rdi") to => _, options(nostack));
    }
    to
}

/// Copies in the direction that overlapping ranges need.
///
/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: passed on; copying forwards is right when `to` does not lie inside `from`.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: `to` lies inside `from`, so `bytes` is at least 1; the direction flag is restored.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") bytes => _,
             inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _,
             inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _, options(nostack));
    }
    to
}

/// Fills with a byte.
///
/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    let byte = value.to_le_bytes()[0];
    // SAFETY: the caller vouches for the range; RCX and RDI are declared as changed.
    unsafe {
        asm!("rep stosq", "mov ecx, {tail:e}", "rep stosb", tail = in(reg) bytes & 7,
             in("rax") u64::from_le_bytes([byte; 8]),
             inout("rcx") bytes / 8 => _, inout("rdi") to => _, options(nostack));
    }
    to
}

/// Compares bytes as unsigned numbers.
///
/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    for index in 0..bytes {
        // SAFETY: the caller vouches for both ranges. Volatile, so that the loop is not compiled into a
        // call of this function.
        let (a, b) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// Compares bytes for equality.
///
/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: passed on.
    unsafe { memcmp(left, right, bytes) }
}
