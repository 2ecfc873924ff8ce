//! The trace ring: what the processor did last, for the crash record.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const ENTRIES: usize = 64;

/// One thing that happened.
struct Entry {
    tsc: AtomicU64,
    what: AtomicU64,
    detail: AtomicU64,
}

static RING: [Entry; ENTRIES] =
    [const { Entry { tsc: AtomicU64::new(0), what: AtomicU64::new(0), detail: AtomicU64::new(0) } }; ENTRIES];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Records an exit: its basic reason, the guest, and a register that tells more (RAX).
#[inline]
pub fn record_exit(tsc: u64, guest: u16, reason: u16, detail: u64) {
    // A single processor writes; a torn entry would cost a line in a crash record and nothing else.
    let at = NEXT.load(Ordering::Relaxed);
    NEXT.store(at.wrapping_add(1), Ordering::Relaxed);
    let entry = &RING[at % ENTRIES];
    entry.tsc.store(tsc, Ordering::Relaxed);
    entry.what.store(u64::from(guest) << 16 | u64::from(reason), Ordering::Relaxed);
    entry.detail.store(detail, Ordering::Relaxed);
}

/// A recorded exit.
pub struct Recorded {
    /// When it happened.
    pub tsc: u64,
    /// The guest's number.
    pub guest: u64,
    /// The basic exit reason (SDM vol. 3, appendix C).
    pub reason: u64,
    /// RAX at that moment.
    pub detail: u64,
}

/// The last `count` records, oldest first.
pub fn last(count: usize) -> impl Iterator<Item = Recorded> {
    let end = NEXT.load(Ordering::Relaxed);
    let count = count.min(ENTRIES).min(end);
    (end - count..end).map(|at| {
        let entry = &RING[at % ENTRIES];
        let what = entry.what.load(Ordering::Relaxed);
        Recorded {
            tsc: entry.tsc.load(Ordering::Relaxed),
            guest: what >> 16,
            reason: what & 0xffff,
            detail: entry.detail.load(Ordering::Relaxed),
        }
    })
}
