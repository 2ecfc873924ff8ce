//! A number that no guest can know: the seed of secrets.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

use crate::cpu::rdtsc;

/// Reads of the random number generator before it counts as broken (SDM vol. 1, 7.3.17.1).
const TRIES: u32 = 10;
/// Reads of the time-stamp counter where there is no generator. Their low bits vary with what caches, memory
/// and other processors do; in an emulator they do not.
const COUNTER_READS: u32 = 64;

/// From the random number generator, where the processor has one that works, and always from the time-stamp
/// counter too. Emulated machines repeat both.
pub fn draw() -> u64 {
    let first = mix(rdtsc());
    match random() {
        Some(random) => mix(first ^ random),
        None => (0..COUNTER_READS).fold(first, |state, _| mix(state ^ rdtsc())),
    }
}

/// RDRAND (CPUID.1:ECX.30).
fn random() -> Option<u64> {
    let has_generator = __cpuid_count(1, 0).ecx & 1 << 30 != 0;
    has_generator.then(|| (0..TRIES).find_map(|_| rdrand())).flatten()
}

/// One read of the random number generator; `None` where it had nothing ready.
fn rdrand() -> Option<u64> {
    let (value, is_valid): (u64, u8);
    // SAFETY: the processor has the instruction; it writes one register and flags.
    unsafe {
        asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) is_valid, options(nomem, nostack));
    }
    (is_valid != 0).then_some(value)
}

/// One step of SplitMix64: an odd constant added, and a bijection after which each bit of the state moves
/// about half of all bits (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014,
/// figure 16; its constants are variant 13 of David Stafford's).
const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_splitmix64() {
        // The first three numbers that the generator makes of seed 0.
        let golden = 0x9e37_79b9_7f4a_7c15_u64;
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(golden), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(mix(golden.wrapping_mul(2)), 0x06c4_5d18_8009_454f);
    }

    #[test]
    fn numbers_differ_from_draw_to_draw() {
        let mut numbers: Vec<u64> = (0..1000).map(|_| draw()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000);
        let bits = numbers
            .iter()
            .map(|number| u64::from(number.count_ones()))
            .sum::<u64>();
        // 64,000 fair bits: 32,000, and less than ten standard deviations of 126 away.
        assert!(bits.abs_diff(32_000) < 1_260, "{bits} of 64,000 bits are set");
    }
}
