//! The trace ring: what a processor did last, for the crash record.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const ENTRIES: usize = 64;

/// One exit, in words that are written one by one: its own processor writes, and a crash record that
/// reads a half-written entry loses one line.
struct Entry {
    tsc: AtomicU64,
    /// The guest's number above 16 bits of basic exit reason.
    what: AtomicU64,
    rax: AtomicU64,
}

impl Entry {
    const fn empty() -> Self {
        Self {
            tsc: AtomicU64::new(0),
            what: AtomicU64::new(0),
            rax: AtomicU64::new(0),
        }
    }
}

/// The last exits of one processor.
pub struct Ring {
    entries: [Entry; ENTRIES],
    next: AtomicUsize,
}

/// A recorded exit.
pub struct Recorded {
    /// When it happened.
    pub tsc: u64,
    /// The guest's number.
    pub guest: u64,
    /// The basic exit reason (SDM vol. 3, appendix C).
    pub reason: u64,
    /// The guest's RAX.
    pub rax: u64,
}

impl Ring {
    /// An empty ring.
    pub const fn new() -> Self {
        Self {
            entries: [const { Entry::empty() }; ENTRIES],
            next: AtomicUsize::new(0),
        }
    }

    /// Records an exit.
    #[inline]
    pub fn record(&self, tsc: u64, guest: u16, reason: u16, rax: u64) {
        let at = self.next.load(Ordering::Relaxed);
        self.next.store(at.wrapping_add(1), Ordering::Relaxed);
        let entry = &self.entries[at % ENTRIES];
        entry.tsc.store(tsc, Ordering::Relaxed);
        entry
            .what
            .store(u64::from(guest) << 16 | u64::from(reason), Ordering::Relaxed);
        entry.rax.store(rax, Ordering::Relaxed);
    }

    /// The last `count` exits, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = Recorded> {
        let end = self.next.load(Ordering::Relaxed);
        let count = count.min(ENTRIES).min(end);
        (end - count..end).map(|at| {
            let entry = &self.entries[at % ENTRIES];
            let what = entry.what.load(Ordering::Relaxed);
            Recorded {
                tsc: entry.tsc.load(Ordering::Relaxed),
                guest: what >> 16,
                reason: what & 0xffff,
                rax: entry.rax.load(Ordering::Relaxed),
            }
        })
    }
}
