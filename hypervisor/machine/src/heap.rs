//! The heap of the boot, and of nothing else.
//!
//! Pleat has no heap at run time: what it needs is static, in metadata that was claimed at boot, or in
//! frames of the ledger. So no path can fail because a heap is full or take longer because it is scattered.
//! The one exception is a table whose size depends on the machine's memory and whose crate asks the global
//! allocator for its room, once: the index of the pages' contents (`hashbrown::HashTable`). To give it an
//! allocator of its own takes an `unsafe impl`, which the crate that has the table may not say.
//!
//! So this allocator can do that and no more: it cuts allocations off one region of metadata
//! ([`crate::MemoryMap::claim_heap`]) in a row, until it is closed. Nothing is given back. Before it is
//! opened and after it is closed a request gets nothing; one after closing is a bug, counted and logged.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use pleat_types::FRAME_SIZE;

use crate::frames::FrameRange;

#[cfg_attr(not(test), global_allocator)] // a test has the standard library's
static HEAP: Heap = Heap::new();

/// The open heap; made by [`crate::MemoryMap::claim_heap`].
#[must_use = "a heap that is not closed hands out memory at run time"]
pub struct BootHeap(());

impl BootHeap {
    /// Opens the heap on these frames.
    ///
    /// # Safety
    /// They are RAM, mapped at their own address, and no one else's for ever.
    pub(crate) unsafe fn open(frames: FrameRange) -> Self {
        let address = |frame: u64| usize::try_from(frame).expect("64-bit") * FRAME_SIZE;
        HEAP.open(address(frames.first.get()), address(frames.end()));
        Self(())
    }

    /// From now on nothing is allocated. What was allocated stays.
    pub fn close(self) {
        HEAP.close();
    }
}

/// A region that allocations are cut off in a row.
struct Heap {
    next: AtomicUsize,
    /// The address behind the region; 0 before it is opened and after it is closed.
    end: AtomicUsize,
    is_closed: AtomicBool,
    late_requests: AtomicU64,
}

impl Heap {
    const fn new() -> Self {
        Self {
            next: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            late_requests: AtomicU64::new(0),
        }
    }

    fn open(&self, start: usize, end: usize) {
        let last = self.next.swap(start, Ordering::Relaxed);
        assert_eq!(last, 0, "the heap is opened once");
        self.end.store(end, Ordering::Relaxed);
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.end.store(0, Ordering::Relaxed);
    }

    /// The address of a new allocation; `None` where there is no room or no open heap.
    fn allocate(&self, layout: Layout) -> Option<usize> {
        let end = self.end.load(Ordering::Relaxed);
        let cut_off = |next: usize| {
            let start = next.checked_next_multiple_of(layout.align())?;
            start.checked_add(layout.size()).filter(|after| *after <= end)
        };
        let next = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, cut_off)
            .ok();
        if next.is_none() && self.is_closed.load(Ordering::Relaxed) {
            self.note_late(layout);
        }
        next.map(|next| next.next_multiple_of(layout.align()))
    }

    #[cold]
    fn note_late(&self, layout: Layout) {
        let number = self.late_requests.fetch_add(1, Ordering::Relaxed) + 1;
        log::error!(
            "bug: request {number} for memory after the heap was closed, of {} bytes",
            layout.size()
        );
    }
}

// SAFETY: allocations are aligned and lie one behind the other in a region that is nobody else's
// (`BootHeap::open`), and none is handed out again; nothing here unwinds.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.allocate(layout)
            .map_or(null_mut(), |address| address as *mut u8)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).expect("a valid layout")
    }

    #[test]
    fn allocations_are_aligned_and_do_not_overlap() {
        let heap = Heap::new();
        heap.open(0x1008, 0x1100);
        assert_eq!(heap.allocate(layout(1, 1)), Some(0x1008));
        assert_eq!(heap.allocate(layout(32, 16)), Some(0x1010));
        assert_eq!(heap.allocate(layout(8, 64)), Some(0x1040));
        assert_eq!(heap.allocate(layout(8, 8)), Some(0x1048));
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let heap = Heap::new();
        heap.open(0x1000, 0x1100);
        assert_eq!(heap.allocate(layout(0x101, 1)), None);
        assert_eq!(heap.allocate(layout(isize::MAX as usize - 15, 16)), None);
        assert_eq!(heap.allocate(layout(0x100, 16)), Some(0x1000));
        assert_eq!(heap.allocate(layout(1, 1)), None);
        assert_eq!(heap.late_requests.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_allocated_before_opening_or_after_closing() {
        let heap = Heap::new();
        assert_eq!(heap.allocate(layout(8, 8)), None);
        assert_eq!(heap.late_requests.load(Ordering::Relaxed), 0);
        heap.open(0x1000, 0x1100);
        heap.close();
        assert_eq!(heap.allocate(layout(8, 8)), None);
        assert_eq!(heap.allocate(layout(8, 8)), None);
        assert_eq!(heap.late_requests.load(Ordering::Relaxed), 2);
    }
}
