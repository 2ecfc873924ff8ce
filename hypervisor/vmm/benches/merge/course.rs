//! What both sides go through, and what it took them.

/// One thing that happens to the memory, and then it is to settle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Every page is written once.
    Fill,
    /// Nothing is written.
    Nothing,
    /// So many of a thousand pages get a new content.
    Rewrite(usize),
}

/// All of them, in the order in which a course of all has them.
pub const ALL_PHASES: [Phase; 4] = [
    Phase::Fill,
    Phase::Nothing,
    Phase::Rewrite(10),
    Phase::Rewrite(100),
];

/// What one phase took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Processor time spent on merging, for each page of the memory (not: of those written).
    pub ns_per_page: f64,
    /// Pages that need no frame of their own afterwards.
    pub saved: usize,
    /// The same if all equal pages were one, and zero pages none.
    pub savable: usize,
}

impl Pass {
    /// How much of what can be saved is saved.
    pub fn fraction(&self) -> f64 {
        self.saved as f64 / self.savable.max(1) as f64
    }
}

/// What one side needed for one workload.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// One for each phase.
    pub passes: Vec<Pass>,
    /// Records about pages for merging, by pages (the peer) or frames of the host (ours).
    pub metadata_bytes_each: f64,
    /// What else is worth a line.
    pub notes: Vec<String>,
}

/// The middle one of some figures.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => figures[count / 2],
        count => f64::midpoint(figures[count / 2 - 1], figures[count / 2]),
    }
}
