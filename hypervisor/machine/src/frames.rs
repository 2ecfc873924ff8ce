//! Bytes of host frames: the only door through which the other crates reach memory.
//!
//! Every access is checked against the ranges that were handed out at boot, so that a bug in a policy can
//! damage a guest, but neither Pleat itself nor a device.

use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, Hpa, LINE};

use crate::cpu;

/// The most separate ranges of memory.
pub const MAX_RANGES: usize = 32;

/// 64-bit words of a frame.
const WORDS: usize = FRAME_SIZE / size_of::<u64>();

/// A run of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRange {
    /// The first frame.
    pub first: Hfn,
    /// How many.
    pub count: u64,
}

impl FrameRange {
    /// The number of the frame behind it.
    pub(crate) const fn end(&self) -> u64 {
        self.first.get() + self.count
    }

    #[inline]
    fn contains(&self, frame: u64) -> bool {
        frame.wrapping_sub(self.first.get()) < self.count
    }
}

/// Ranges that the short way of a check knows.
const QUICK: usize = 3;

/// All frames that may hold guest memory, page tables, virtual processors or boot images.
pub struct Frames {
    /// The largest ranges, the largest first: nearly every frame is in that, and on most boards every other one is
    /// below 1 MiB, or between that and Pleat.
    largest: [FrameRange; QUICK],
    /// All ranges.
    ranges: ArrayVec<FrameRange, MAX_RANGES>,
}

impl Frames {
    /// Access to these ranges and nothing else.
    ///
    /// # Safety
    /// The ranges are RAM, mapped at their own address, and nothing else refers to them.
    pub unsafe fn new(mut ranges: ArrayVec<FrameRange, MAX_RANGES>) -> Self {
        ranges.sort_unstable_by_key(|range| core::cmp::Reverse(range.count)); // most hits first
        let nothing = FrameRange {
            first: Hfn::new(0),
            count: 0,
        };
        let mut largest = [nothing; QUICK];
        for (quick, range) in largest.iter_mut().zip(&ranges) {
            *quick = *range;
        }
        Self { largest, ranges }
    }

    /// The address of `bytes` bytes at `address`.
    fn pointer(&self, address: u64, bytes: usize) -> *mut u8 {
        let last = address.wrapping_add((bytes as u64).saturating_sub(1));
        let is_managed = self.ranges.iter().any(|range| {
            range.contains(address / FRAME_SIZE as u64) && range.contains(last / FRAME_SIZE as u64)
        });
        assert!(is_managed, "HPA:{address:#x} is not memory that was handed out");
        address as *mut u8
    }

    /// These are frames that were handed out, each another one: anything else is a bug of the caller.
    pub fn assert_managed(&self, frames: &[Hfn]) {
        for (index, frame) in frames.iter().enumerate() {
            self.frame(*frame);
            assert!(!frames[..index].contains(frame), "{frame} was given twice");
        }
    }

    /// The address of a whole frame: the way of every page-table access, so it checks no more than it must.
    #[inline]
    fn frame(&self, frame: Hfn) -> *mut u8 {
        if !self.largest.iter().any(|range| range.contains(frame.get())) {
            self.assert_elsewhere(frame);
        }
        frame.base().get() as *mut u8
    }

    /// Apart from `frame`, so that that is a few instructions where it is used.
    #[cold]
    #[inline(never)]
    fn assert_elsewhere(&self, frame: Hfn) {
        let is_managed = self.ranges.iter().any(|range| range.contains(frame.get()));
        assert!(is_managed, "{frame} is not memory that was handed out");
    }

    /// The address of `bytes` bytes in a frame, from `offset` on: for a device or a string instruction.
    pub(crate) fn part(&self, frame: Hfn, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset + bytes <= FRAME_SIZE, "a part lies in its frame");
        self.frame(frame).wrapping_add(offset)
    }

    #[inline]
    fn entry(&self, table: Hfn, index: usize) -> &AtomicU64 {
        assert!(index < WORDS, "a table has 512 entries");
        let entry = self.frame(table).cast::<AtomicU64>();
        // SAFETY: within a frame that was checked; 64-bit accesses to it are atomic, as the processor's
        // page walks need.
        unsafe { &*entry.add(index) }
    }
}

impl FrameMemory for Frames {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]) {
        // SAFETY: the frame was checked and `out` is its own memory.
        unsafe { core::ptr::copy_nonoverlapping(self.frame(frame), out.as_mut_ptr(), FRAME_SIZE) }
    }

    #[inline]
    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE] {
        // SAFETY: the frame was checked, and as long as the value lives nobody writes to it.
        unsafe { &*self.frame(frame.frame()).cast::<[u8; FRAME_SIZE]>() }
    }

    fn zero_frame(&mut self, frame: Hfn) {
        // SAFETY: the frame was checked.
        unsafe { cpu::zero_words(self.frame(frame).cast(), WORDS) }
    }

    #[inline]
    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        // SAFETY: both frames were checked; they may be the same.
        unsafe { cpu::copy_words(self.frame(from).cast(), self.frame(to).cast(), WORDS) }
    }

    fn read(&self, from: Hpa, out: &mut [u8]) {
        let source = self.pointer(from.get(), out.len());
        // SAFETY: the range was checked and `out` is its own memory.
        unsafe { core::ptr::copy_nonoverlapping(source, out.as_mut_ptr(), out.len()) }
    }

    fn write(&mut self, to: Hpa, bytes: &[u8]) {
        let target = self.pointer(to.get(), bytes.len());
        // SAFETY: the range was checked and `bytes` is its own memory.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    #[inline]
    fn load_entry(&self, table: Hfn, index: usize) -> u64 {
        self.entry(table, index).load(Ordering::Relaxed)
    }

    #[inline]
    fn load_line(&self, table: Hfn, index: usize) -> [u64; LINE] {
        assert!(index <= WORDS - LINE, "a table has 512 entries");
        let first = self.frame(table).cast::<AtomicU64>();
        core::array::from_fn(|n| {
            // SAFETY: within a frame that was checked, as in `entry`.
            unsafe { &*first.add(index + n) }.load(Ordering::Relaxed)
        })
    }

    #[inline]
    fn store_entry(&mut self, table: Hfn, index: usize, value: u64) {
        self.entry(table, index).store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C, align(4096))]
    struct Block([[u8; FRAME_SIZE]; 8]);

    /// Frames 0, 1 and 4 to 6 of a block are handed out.
    fn with_frames(check: impl FnOnce(&mut Frames, [Hfn; 8])) {
        let mut block = Box::new(Block(core::array::from_fn(|index| {
            [index.to_le_bytes()[0]; FRAME_SIZE]
        })));
        let first = Hpa::new(block.0.as_mut_ptr() as u64).hfn().get();
        let numbers = core::array::from_fn(|index| Hfn::new(first + index as u64));
        let range = |index: usize, count| FrameRange {
            first: numbers[index],
            count,
        };
        // SAFETY: frames of the block, which nobody uses otherwise while they are in use.
        let mut frames = unsafe { Frames::new([range(0, 2), range(4, 3)].into_iter().collect()) };
        check(&mut frames, numbers);
    }

    /// Whether a frame is reachable, told without touching it.
    fn reaches(frames: &Frames, frame: Hfn) -> bool {
        frames.ranges.iter().any(|range| range.contains(frame.get()))
    }

    #[test]
    fn what_was_handed_out_is_reached_and_nothing_else() {
        with_frames(|frames, numbers| {
            let reached = numbers.map(|number| reaches(frames, number));
            assert_eq!(reached, [true, true, false, false, true, true, true, false]);
            assert_eq!(frames.largest[0].first, numbers[4]);
        });
    }

    #[test]
    fn copies_and_zeros_fill_their_frame_alone() {
        with_frames(|frames, numbers| {
            let content = |frames: &Frames, index: usize| {
                let mut bytes = [0; FRAME_SIZE];
                frames.read_frame(numbers[index], &mut bytes);
                assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                bytes[0]
            };
            frames.copy_frame(numbers[1], numbers[5]);
            frames.zero_frame(numbers[0]);
            frames.copy_frame(numbers[4], numbers[4]);
            assert_eq!(
                [0, 1, 4, 5, 6].map(|index| content(frames, index)),
                [0, 1, 4, 1, 6]
            );
        });
    }

    #[test]
    fn entries_are_words_of_their_frame() {
        with_frames(|frames, numbers| {
            frames.store_entry(numbers[6], 511, 0x1122_3344_5566_7788);
            frames.store_entry(numbers[0], 3, 7);
            assert_eq!(frames.load_entry(numbers[6], 511), 0x1122_3344_5566_7788);
            assert_eq!(frames.load_entry(numbers[6], 510), 0x0606_0606_0606_0606);
            assert_eq!(frames.load_entry(numbers[0], 3), 7);
            assert_eq!(frames.load_entry(numbers[1], 3), 0x0101_0101_0101_0101);
        });
    }

    #[test]
    #[should_panic(expected = "is not memory that was handed out")]
    fn a_frame_between_the_ranges_is_refused() {
        with_frames(|frames, numbers| frames.zero_frame(numbers[2]));
    }

    #[test]
    #[should_panic(expected = "a table has 512 entries")]
    fn an_entry_behind_the_table_is_refused() {
        with_frames(|frames, numbers| frames.store_entry(numbers[0], 512, 0));
    }
}
