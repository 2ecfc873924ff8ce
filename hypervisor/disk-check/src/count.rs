//! What requests of one direction took.

/// Sums over requests; ticks are those of the time-stamp counter.
#[derive(Default)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Blocks in all of them.
    pub blocks: u64,
    /// From the start of each request to the poll that saw its end.
    pub ticks: u64,
    /// Of these, inside the driver: what a guest does not get.
    pub busy: u64,
    /// Times that the processor was awake to look.
    pub wakes: u64,
    /// The shortest and the longest request of one block.
    pub single: Span,
    /// The shortest and the longest request of 32 blocks.
    pub full: Span,
}

/// The least and the most.
pub struct Span {
    least: u64,
    most: u64,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            least: u64::MAX,
            most: 0,
        }
    }
}

impl Span {
    fn add(&mut self, value: u64) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }
}

impl Count {
    /// Adds a request of so many blocks.
    pub fn add(&mut self, blocks: usize, ticks: u64) {
        self.requests += 1;
        self.blocks += blocks as u64;
        self.ticks += ticks;
        match blocks {
            1 => self.single.add(ticks),
            pleat_types::DISK_RUN => self.full.add(ticks),
            _ => {}
        }
    }

    /// Says it all.
    pub fn report(&self, what: &str) {
        let blocks = self.blocks.max(1);
        log::info!(
            "disk-check: {what}: {} requests, {} blocks; {} ticks a block, {} of them in the driver; {} wakes",
            self.requests,
            self.blocks,
            self.ticks / blocks,
            self.busy / blocks,
            self.wakes
        );
        for (blocks, span) in [(1, &self.single), (32, &self.full)] {
            log::info!(
                "disk-check: {what}: a request of {blocks}: {} to {} ticks",
                span.least.min(span.most),
                span.most
            );
        }
    }
}
