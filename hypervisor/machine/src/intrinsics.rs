//! What the compiler expects of a C library: memory routines, and a personality that nothing calls.
//!
//! The precompiled `core` for this target refers to all of them. REP MOVSQ and STOSQ move eight bytes a
//! step, which is right on the emulator (one tick a step) and good enough on processors with fast strings.

use core::arch::asm;

/// Copies `count` bytes.
///
/// # Safety
/// As C's `memcpy`: both ranges valid, not overlapping.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; DF is clear by the ABI.
    unsafe {
        asm!(
            "rep movsq", "mov rcx, {tail}", "rep movsb",
            tail = in(reg) count % 8,
            inout("rcx") count / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Copies `count` bytes between ranges that may overlap.
///
/// # Safety
/// As C's `memmove`: both ranges valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: the destination does not start inside the source, so a forward copy reads each byte
        // before it is overwritten.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: a backward copy, from the last byte down; DF is set only inside.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") count => _,
            inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _,
            options(nostack)
        );
    }
    to
}

/// Fills `count` bytes with `byte`.
///
/// # Safety
/// As C's `memset`: the range is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    let word = u64::from(byte.to_le_bytes()[0]) * 0x0101_0101_0101_0101;
    // SAFETY: the caller vouches for the range; DF is clear by the ABI.
    unsafe {
        asm!(
            "rep stosq", "mov rcx, {tail}", "rep stosb",
            tail = in(reg) count % 8,
            inout("rcx") count / 8 => _, inout("rdi") to => _, in("rax") word,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Compares `count` bytes as unsigned numbers.
///
/// # Safety
/// As C's `memcmp`: both ranges valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    let mut at = 0;
    while at < count {
        // SAFETY: `at` is below `count`, and the caller vouches for both ranges.
        let (a, b) = unsafe { (*left.add(at), *right.add(at)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        at += 1;
    }
    0
}

/// Compares `count` bytes for equality: zero if equal.
///
/// # Safety
/// As [`memcmp`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: passed on.
    unsafe { memcmp(left, right, count) }
}

/// Named by the precompiled `core`; never called, because panics abort.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}
