//! The relation between the TSC and the local APIC timer's clock.

/// The crystal that CPUID leaf 0x15 reports is at most this fast, as on real processors.
const CRYSTAL_MAX_HZ: u64 = 25_000_000;
/// … and, where there is a choice, at least this fast: a slow timer clock is an inexact one.
const CRYSTAL_MIN_HZ: u64 = 1_000_000;
/// Keeps products with a count and a divisor within 64 bits, for frequencies that no machine has.
const RATIO_MAX: u64 = 1 << 20;
/// Bounds the search for a divisor.
const CANDIDATES: u64 = 1000;

/// The TSC runs `tsc_per_crystal` times as fast as the crystal: CPUID leaf 0x15 with EAX = 1.
///
/// The local APIC timer of every guest ticks once in exactly `tsc_per_crystal` TSC ticks, so a count never
/// needs a division. What can be inexact is only the crystal's frequency that the guest is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TscRatio {
    /// EBX of leaf 0x15.
    pub(crate) tsc_per_crystal: u32,
    /// ECX of leaf 0x15, in Hz.
    pub(crate) crystal_hz: u32,
}

impl TscRatio {
    /// The ratio for a TSC of this frequency.
    ///
    /// First choice: a divisor that leaves a whole number of kHz, since Linux computes in kHz
    /// (`native_calibrate_tsc`: `ecx / 1000 * ebx / eax`) and is then exact. Second: any exact divisor. If the
    /// frequency has none in range, the crystal is rounded down and the guest's idea of its TSC is low by
    /// less than `tsc_per_crystal` Hz: below 0.05 parts per million at 3 GHz.
    pub(crate) fn new(tsc_hz: u64) -> Self {
        let first = tsc_hz.div_ceil(CRYSTAL_MAX_HZ).max(1);
        let in_range = |n: &u64| *n == first || tsc_hz / n >= CRYSTAL_MIN_HZ;
        let mut candidates = (first..first.saturating_add(CANDIDATES)).take_while(in_range);
        let mut exact = candidates.clone().filter(|n| tsc_hz.is_multiple_of(*n));
        let divisor = candidates
            .find(|n| tsc_hz.is_multiple_of(n * 1000))
            .or_else(|| exact.next())
            .unwrap_or(first);
        Self {
            tsc_per_crystal: u32::try_from(divisor.min(RATIO_MAX)).unwrap_or(1),
            crystal_hz: u32::try_from(tsc_hz / divisor).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(tsc_hz: u64) -> u64 {
        let ratio = TscRatio::new(tsc_hz);
        u64::from(ratio.tsc_per_crystal) * u64::from(ratio.crystal_hz)
    }

    #[test]
    fn round_frequencies_are_exact_in_hz_and_for_linux_in_khz() {
        for tsc_hz in [
            200_000_000,
            1_000_000_000,
            2_100_000_000,
            2_899_886_000,
            3_333_000_000,
        ] {
            let ratio = TscRatio::new(tsc_hz);
            assert_eq!(product(tsc_hz), tsc_hz);
            assert_eq!(ratio.crystal_hz % 1000, 0, "{tsc_hz}");
            assert!(ratio.crystal_hz <= 25_000_000);
        }
    }

    #[test]
    fn a_whole_number_of_khz_is_worth_a_larger_divisor() {
        // 1000 * 127 * 24481: 125 divides it too, but leaves 24,872,696 Hz.
        let ratio = TscRatio::new(3_109_087_000);
        assert_eq!((ratio.tsc_per_crystal, ratio.crystal_hz), (127, 24_481_000));
    }

    #[test]
    fn measured_frequencies_are_exact_or_just_below() {
        for tsc_hz in [
            2_899_886_001u64,
            1_999_999_973,
            2_147_483_647,
            999_999_937,
            3_000_000_019,
        ] {
            let ratio = TscRatio::new(tsc_hz);
            let short = tsc_hz - product(tsc_hz);
            assert!(short < u64::from(ratio.tsc_per_crystal), "{tsc_hz} {ratio:?}");
        }
    }

    #[test]
    fn absurd_frequencies_do_not_hang_or_divide_by_zero() {
        for tsc_hz in [0, 1, 999, 25_000_000, u64::MAX] {
            assert!(TscRatio::new(tsc_hz).tsc_per_crystal >= 1);
        }
    }
}
