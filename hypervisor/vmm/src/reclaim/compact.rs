//! Making the pool of packed contents denser: what comes back from it leaves gaps.

use crate::merge::Progress;
use crate::run::Hypervisor;
use pleat_types::{FRAME_SIZE, Platform};

/// A pool that has no more than so many percent more frames than its bytes would fill is dense enough.
const SLACK_PERCENT: u64 = 20;
/// Frames more than that are not worth a walk.
const SLACK_FRAMES: u64 = 8;

impl<P: Platform> Hypervisor<P> {
    /// One step, if that may free a frame.
    pub(super) fn compact_some(&mut self) -> Progress {
        let pool = *self.host.swap.store.pool();
        let filled = pool.bytes.div_ceil(FRAME_SIZE as u64);
        let enough = filled + filled * SLACK_PERCENT / 100 + SLACK_FRAMES;
        if pool.frames <= enough || self.reclaimer.dense_at == Some(pool.objects) {
            return Progress::Idle;
        }
        if self.host.compact_pool() {
            return Progress::Worked;
        }
        // Not again before something has come or gone.
        self.reclaimer.dense_at = Some(pool.objects);
        Progress::Idle
    }
}
