//! Bytes of host frames: the only door through which the other crates reach memory.
//!
//! Every access is checked against the ranges that were handed out at boot, so that a bug in a policy can
//! damage a guest, but neither Pleat itself nor a device.

use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, Hpa};

/// The most separate ranges of memory.
pub const MAX_RANGES: usize = 32;

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

    fn contains(&self, frame: u64) -> bool {
        frame.wrapping_sub(self.first.get()) < self.count
    }
}

/// All frames that may hold guest memory, page tables, virtual processors or boot images.
pub struct Frames {
    ranges: ArrayVec<FrameRange, MAX_RANGES>,
}

impl Frames {
    /// Access to these ranges and nothing else.
    ///
    /// # Safety
    /// The ranges are RAM, mapped at their own address, and nothing else refers to them.
    pub unsafe fn new(mut ranges: ArrayVec<FrameRange, MAX_RANGES>) -> Self {
        ranges.sort_unstable_by_key(|range| core::cmp::Reverse(range.count)); // most hits first
        Self { ranges }
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
        let is_managed = self.ranges.iter().any(|range| range.contains(frame.get()));
        assert!(is_managed, "{frame} is not memory that was handed out");
        frame.base().get() as *mut u8
    }

    fn entry(&self, table: Hfn, index: usize) -> &AtomicU64 {
        assert!(index < 512, "a table has 512 entries");
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

    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE] {
        // SAFETY: the frame was checked, and as long as the value lives nobody writes to it.
        unsafe { &*self.frame(frame.frame()).cast::<[u8; FRAME_SIZE]>() }
    }

    fn zero_frame(&mut self, frame: Hfn) {
        // SAFETY: the frame was checked.
        unsafe { core::ptr::write_bytes(self.frame(frame), 0, FRAME_SIZE) }
    }

    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        // SAFETY: both frames were checked; `copy` allows them to be the same.
        unsafe { core::ptr::copy(self.frame(from), self.frame(to), FRAME_SIZE) }
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

    fn load_entry(&self, table: Hfn, index: usize) -> u64 {
        self.entry(table, index).load(Ordering::Relaxed)
    }

    fn store_entry(&mut self, table: Hfn, index: usize, value: u64) {
        self.entry(table, index).store(value, Ordering::Relaxed);
    }
}
