//! Where things lie in a guest's physical memory.
//!
//! ```text
//!   0        9_8000   9_9000  9_e000   a_0000    10_0000         3 GiB    4 GiB
//!   | RAM    | params | text  | ACPI   | (RAM, not in the map) | RAM .. | hole  | rest of RAM ..
//! ```
//!
//! All of the first MiB is backed on touch, because kernels read it without asking the memory map
//! (DMI, $PIR and option-ROM scans). Nothing is backed in the hole: there are no devices in it either.

use arrayvec::ArrayVec;
use pleat_types::{FRAME_SIZE, Gfn, Gpa};

/// Where RAM below the hole ends at the latest.
pub(crate) const HOLE_START: u64 = 3 << 30;
/// Where RAM continues when there is more of it.
pub(crate) const HOLE_END: u64 = 4 << 30;
/// The boot parameters of either protocol: one page.
pub(crate) const PARAMETERS: Gpa = Gpa::new(0x9_8000);
/// The command line.
pub(crate) const COMMAND_LINE: Gpa = Gpa::new(0x9_9000);
/// The longest command line, without its final zero.
pub(crate) const COMMAND_LINE_MAX: usize = FRAME_SIZE - 1;
/// The ACPI tables, RSDP first.
pub(crate) const ACPI: Gpa = Gpa::new(0x9_e000);
/// Where the ACPI range ends and conventional memory is over.
const LOW_END: u64 = 0xa_0000;
/// Where kernels are loaded.
pub(crate) const HIGH_START: u64 = 0x10_0000;

/// Type of a range in the memory map (ACPI 6.5, table 15.14; the same numbers in PVH and e820).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum RangeKind {
    Ram = 1,
    AcpiReclaimable = 3,
}

/// A range of the memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) kind: RangeKind,
}

/// The RAM of one guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ram {
    /// Where RAM below the hole ends.
    low_end: u64,
    /// Where RAM above the hole ends; [`HOLE_END`] when there is none.
    high_end: u64,
}

impl Ram {
    /// RAM of this size (whole frames count).
    pub(crate) const fn new(memory_bytes: u64) -> Self {
        let bytes = memory_bytes - memory_bytes % FRAME_SIZE as u64;
        if bytes <= HOLE_START {
            Self {
                low_end: bytes,
                high_end: HOLE_END,
            }
        } else {
            Self {
                low_end: HOLE_START,
                high_end: HOLE_END.saturating_add(bytes - HOLE_START),
            }
        }
    }

    /// Where RAM below the hole ends: what a 32-bit loader may use.
    pub(crate) const fn low_end(&self) -> u64 {
        self.low_end
    }

    /// The page after the last one.
    pub(crate) const fn end(&self) -> Gfn {
        let end = if self.high_end > HOLE_END {
            self.high_end
        } else {
            self.low_end
        };
        Gpa::new(end).gfn()
    }

    /// Frames in all.
    pub(crate) const fn frames(&self) -> u64 {
        (self.low_end + (self.high_end - HOLE_END)) / FRAME_SIZE as u64
    }

    /// The ranges of frames, each as first frame and count.
    pub(crate) fn frame_ranges(&self) -> impl Iterator<Item = (Gfn, u64)> {
        let low = (Gpa::new(0).gfn(), self.low_end / FRAME_SIZE as u64);
        let high = (
            Gpa::new(HOLE_END).gfn(),
            (self.high_end - HOLE_END) / FRAME_SIZE as u64,
        );
        [low, high].into_iter().filter(|(_, count)| *count > 0)
    }

    /// Whether all these bytes are RAM.
    pub(crate) fn contains(&self, start: Gpa, bytes: u64) -> bool {
        let start = start.get();
        let Some(end) = start.checked_add(bytes) else {
            return false;
        };
        end <= self.low_end || (start >= HOLE_END && end <= self.high_end)
    }

    /// Whether any of these bytes lie where boot data go, or between there and the first MiB's end.
    pub(crate) const fn meets_boot_data(start: u64, end: u64) -> bool {
        start < end && start < HIGH_START && PARAMETERS.get() < end
    }

    /// The memory map for the guest.
    pub(crate) fn map(&self) -> ArrayVec<Range, 4> {
        let range = |start: u64, end: u64, kind| Range {
            start,
            bytes: end.saturating_sub(start),
            kind,
        };
        let all = [
            range(0, ACPI.get(), RangeKind::Ram),
            range(ACPI.get(), LOW_END, RangeKind::AcpiReclaimable),
            range(HIGH_START, self.low_end, RangeKind::Ram),
            range(HOLE_END, self.high_end, RangeKind::Ram),
        ];
        all.into_iter().filter(|range| range.bytes > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_guests_lie_below_the_hole() {
        let ram = Ram::new(128 << 20);
        assert_eq!(ram.frames(), 32768);
        assert_eq!(ram.frame_ranges().count(), 1);
        assert!(ram.contains(Gpa::new((128 << 20) - 1), 1));
        assert!(!ram.contains(Gpa::new((128 << 20) - 1), 2));
        assert!(!ram.contains(Gpa::new(u64::MAX), 2));
        assert_eq!(ram.map().len(), 3);
    }

    #[test]
    fn boot_data_reach_from_the_parameters_to_the_first_mib() {
        assert!(!Ram::meets_boot_data(0, 0x9_8000));
        assert!(Ram::meets_boot_data(0, 0x9_8001));
        assert!(Ram::meets_boot_data(0x9_c000, 0x9_d000));
        assert!(Ram::meets_boot_data(0xf_ffff, 0x20_0000));
        assert!(!Ram::meets_boot_data(0x10_0000, 0x20_0000));
        assert!(!Ram::meets_boot_data(0x9_9000, 0x9_9000));
    }

    #[test]
    fn large_guests_continue_at_four_gib() {
        let ram = Ram::new(5 << 30);
        assert_eq!(ram.frames(), 5 << 18);
        assert!(!ram.contains(Gpa::new(HOLE_START), 1));
        assert!(!ram.contains(Gpa::new(HOLE_START - 1), 1 << 30));
        assert!(ram.contains(Gpa::new(HOLE_END), 2 << 30));
        assert!(!ram.contains(Gpa::new(HOLE_END), (2 << 30) + 1));
        let map = ram.map();
        assert_eq!(
            map.last(),
            Some(&Range {
                start: HOLE_END,
                bytes: 2 << 30,
                kind: RangeKind::Ram
            })
        );
        let total: u64 = map.iter().map(|range| range.bytes).sum();
        assert_eq!(total, (5 << 30) - (HIGH_START - LOW_END));
    }
}
