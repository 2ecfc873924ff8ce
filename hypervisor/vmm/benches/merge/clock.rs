//! Processor time of this thread, read often.
//!
//! The scanner looks at the clock after every page. On a real machine that is one instruction, but asking
//! the kernel for a thread's processor time takes as long as hashing a page. So the clock follows the monotonic
//! one as long as it is read in short intervals, and asks the kernel after a long one: then either much was
//! done, or another thread had the processor. What is shorter counts, even if it was somebody else's.

use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::Instant;

pub const TSC_HZ: u64 = 1_000_000_000;
/// The longest interval in which the monotonic clock is believed: less than a turn of another thread takes.
const SHORT_NS: u64 = 20_000;

#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// The monotonic clock when this one was read last.
    last: Cell<u64>,
    /// What was read then.
    ticks: Cell<u64>,
    /// What it has jumped.
    slept: u64,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            last: Cell::new(0),
            ticks: Cell::new(thread_ns()),
            slept: 0,
        }
    }

    /// Nanoseconds of processor time since the thread began, and what was slept. Never goes back.
    pub fn now(&self) -> u64 {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let interval = now - self.last.replace(now);
        let ticks = if interval < SHORT_NS {
            self.ticks.get() + interval
        } else {
            self.ticks.get().max(thread_ns() + self.slept)
        };
        self.ticks.set(ticks);
        ticks
    }

    /// Sleeps, as far as this clock is concerned.
    pub fn sleep_until(&mut self, until: u64) {
        let span = until.saturating_sub(self.now());
        self.slept += span;
        self.ticks.set(self.ticks.get() + span);
    }
}

fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Both are positive, for a thread that runs.
    time.tv_sec.cast_unsigned() * TSC_HZ + time.tv_nsec.cast_unsigned()
}
