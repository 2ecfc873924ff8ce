//! The memory functions that the compiler calls and that no library provides here.
//!
//! String instructions, with as wide steps as there are: the emulators count each step of a repeated
//! instruction as one instruction, and real processors run them by the cache line.

use core::arch::asm;

// SAFETY: no other item of the program has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges, as C's memcpy demands; DF is clear by the ABI.
    unsafe {
        asm!(
            "rep movsq", "mov ecx, {rest:e}", "rep movsb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _, inout("rdi") target => _, inout("rsi") source => _,
            options(nostack, preserves_flags)
        );
    }
    target
}

// SAFETY: no other item of the program has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, bytes: usize) -> *mut u8 {
    if target.addr().wrapping_sub(source.addr()) >= bytes {
        // SAFETY: a forward copy reads each byte before it writes it, because the target lies before
        // the source or behind its end; the ranges are the caller's promise.
        return unsafe { memcpy(target, source, bytes) };
    }
    // SAFETY: as above, but backwards from the last byte; DF is restored. Here `bytes` is not 0.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") bytes => _,
            inout("rdi") target.add(bytes - 1) => _, inout("rsi") source.add(bytes - 1) => _,
            options(nostack)
        );
    }
    target
}

// SAFETY: no other item of the program has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    let pattern = u64::from(value.to_le_bytes()[0]) * 0x0101_0101_0101_0101;
    // SAFETY: the caller vouches for the range; DF is clear by the ABI.
    unsafe {
        asm!(
            "rep stosq", "mov ecx, {rest:e}", "rep stosb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _, inout("rdi") target => _, in("rax") pattern,
            options(nostack, preserves_flags)
        );
    }
    target
}

// SAFETY: no other item of the program has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    for index in 0..bytes {
        // SAFETY: the caller vouches for both ranges.
        let (a, b) = unsafe { (left.add(index).read(), right.add(index).read()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

// SAFETY: no other item of the program has this name.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(left, right, bytes) }
}
