//! What the compiler and the precompiled `core` expect of a C library, for programs that have none.
//!
//! The ROM, the hypervisor and the test kernels are freestanding programs for the host's own target. Each
//! names this crate once (`use pleat_freestanding as _;`) and so gets `memcpy` and its kin, and a personality
//! that nothing calls because panics abort.
//!
//! The copies use string instructions with steps as wide as there are: the emulators count each step of a
//! repeated instruction as one instruction, and real processors run them by the cache line. So does comparing; and
//! a plain loop would be compiled into a call of itself.
#![cfg_attr(not(test), no_std)]

use core::arch::asm;

/// Named by the precompiled `core`; never called.
#[cfg(not(test))]
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// Copies `bytes` bytes forwards.
///
/// # Safety
/// As C's `memcpy`: both ranges are valid and do not overlap.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both ranges; DF is clear by the ABI.
    unsafe {
        asm!(
            "rep movsq", "mov ecx, {rest:e}", "rep movsb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Copies `bytes` bytes in the direction that overlapping ranges need.
///
/// # Safety
/// As C's `memmove`: both ranges are valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: `to` does not start inside `from`, so a forward copy reads each byte before it writes it.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: backwards from the last byte, of which there is one; DF is restored.
    unsafe {
        asm!(
            "std", "rep movsb", "cld",
            inout("rcx") bytes => _,
            inout("rdi") to.add(bytes - 1) => _, inout("rsi") from.add(bytes - 1) => _,
            options(nostack)
        );
    }
    to
}

/// Fills `bytes` bytes with the low byte of `value`.
///
/// # Safety
/// As C's `memset`: the range is valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    let word = u64::from_le_bytes([value.to_le_bytes()[0]; 8]);
    // SAFETY: the caller vouches for the range; DF is clear by the ABI.
    unsafe {
        asm!(
            "rep stosq", "mov ecx, {rest:e}", "rep stosb",
            rest = in(reg) bytes % 8,
            inout("rcx") bytes / 8 => _, inout("rdi") to => _, in("rax") word,
            options(nostack, preserves_flags)
        );
    }
    to
}

/// Compares `bytes` bytes as unsigned numbers.
///
/// # Safety
/// As C's `memcmp`: both ranges are valid.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    let (above, below): (u8, u8);
    // SAFETY: the caller vouches for both ranges, and nothing beyond the difference is read but in its word, which lies in
    // both; DF is clear by the ABI.
    unsafe {
        asm!(
            // Without a step the flags stay those of two equal numbers.
            "cmp eax, eax",
            "repe cmpsq",
            "mov ecx, {rest:e}",
            "je 2f",
            // Back to the word that differs: one of its bytes does.
            "mov ecx, 8",
            "sub rsi, rcx",
            "sub rdi, rcx",
            "2:",
            "cmp eax, eax",
            "repe cmpsb",
            "seta {above}",
            "setb {below}",
            rest = in(reg) bytes % 8,
            above = out(reg_byte) above, below = out(reg_byte) below,
            inout("rcx") bytes / 8 => _, inout("rsi") left => _, inout("rdi") right => _,
            options(nostack, readonly)
        );
    }
    i32::from(above) - i32::from(below)
}

/// Compares `bytes` bytes for equality: 0 if they are equal.
///
/// # Safety
/// As [`memcmp`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: passed on.
    unsafe { memcmp(left, right, bytes) }
}

#[cfg(test)]
mod tests {
    use super::{bcmp, memcmp, memcpy, memmove, memset};
    use core::cmp::Ordering;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn copies_are_those_of_slices(bytes: Vec<u8>) {
            let mut copy = vec![0; bytes.len()];
            // SAFETY: two vectors of that length.
            let returned = unsafe { memcpy(copy.as_mut_ptr(), bytes.as_ptr(), bytes.len()) };
            prop_assert_eq!(returned, copy.as_mut_ptr());
            prop_assert_eq!(copy, bytes);
        }

        #[test]
        fn overlapping_moves_are_those_of_slices(
            bytes in proptest::collection::vec(any::<u8>(), 1..200), from: usize, to: usize, count: usize,
        ) {
            let (from, to) = (from % bytes.len(), to % bytes.len());
            let count = count % (bytes.len() - from.max(to) + 1);
            let (mut ours, mut peer) = (bytes.clone(), bytes);
            peer.copy_within(from..from + count, to);
            let base = ours.as_mut_ptr();
            // SAFETY: both ranges lie in the vector.
            unsafe { memmove(base.add(to), base.add(from), count) };
            prop_assert_eq!(ours, peer);
        }

        #[test]
        fn fills_touch_their_range_only(length in 0_usize..100, from in 0_usize..20, value: i32) {
            let mut ours = vec![0x55; length + 40];
            let mut peer = ours.clone();
            peer[from..from + length].fill(value.to_le_bytes()[0]);
            // SAFETY: the range lies in the vector.
            unsafe { memset(ours.as_mut_ptr().add(from), value, length) };
            prop_assert_eq!(ours, peer);
        }

        #[test]
        fn comparisons_are_those_of_slices(left: [u8; 27], right: [u8; 27], common in 0_usize..=27, length in 0_usize..=27) {
            let mut right = right;
            right[..common].copy_from_slice(&left[..common]);
            // SAFETY: two arrays that are no shorter.
            let (ours, equal) = unsafe {
                (memcmp(left.as_ptr(), right.as_ptr(), length), bcmp(left.as_ptr(), right.as_ptr(), length))
            };
            let peer = left[..length].cmp(&right[..length]);
            prop_assert_eq!(ours.cmp(&0), peer);
            prop_assert_eq!(equal == 0, peer == Ordering::Equal);
        }
    }
}
