//! What goes on record of reclaim: of each guest at most once a second, of the store when it changes.

use crate::memory::Cause;
use crate::run::Hypervisor;
use pleat_overcommit::swap::DiskState;
use pleat_types::{Platform, SwapSlot, Tsc};

/// The time between two records of the same guest, in microseconds.
const INTERVAL_US: u64 = 1_000_000;

/// What is told of the swap store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Condition {
    is_full: bool,
    disk: &'static str,
}

impl Condition {
    /// As it should be at the start: nothing to tell.
    fn is_well(self) -> bool {
        !self.is_full && matches!(self.disk, "none" | "open")
    }
}

/// What the disk behind the store is good for, for people and in records.
const fn disk_name(state: DiskState, has_room: bool) -> &'static str {
    match state {
        DiskState::None => "none",
        DiskState::Open if has_room => "open",
        DiskState::Open => "full",
        DiskState::ReadOnly => "read-only",
        DiskState::Gone => "gone",
    }
}

impl<P: Platform> Hypervisor<P> {
    pub(super) fn record_reclaim(&mut self, now: Tsc) {
        self.record_store(now);
        for index in 0..self.slots.len() {
            self.record_taken(index, now);
        }
    }

    /// How much was taken from a guest since the last record, and why.
    fn record_taken(&mut self, index: usize, now: Tsc) {
        let guest = &mut self.slots[index].guest;
        let (taken, before) = (guest.memory.ages().taken, guest.hardship.recorded);
        let is_due = now.since(guest.hardship.recorded_at) >= self.host.micros(INTERVAL_US);
        if taken == before || !is_due {
            return;
        }
        guest.hardship.recorded = taken;
        guest.hardship.recorded_at = now;
        let (held, came_back) = (guest.memory.counters().owned_frames(), guest.memory.swapped_in());
        let mut record = self.host.record("taken").text("guest", guest.config.name);
        for cause in Cause::ALL {
            let frames = taken[cause as usize].saturating_sub(before[cause as usize]);
            record = record.number(cause.name(), frames);
        }
        record.number("held", held).number("came_back", came_back).end();
    }

    /// Whether the store can keep more, and what its disk does; that it fails, no more than once a second.
    fn record_store(&mut self, now: Tsc) {
        let store = &self.host.swap.store;
        let has_room = store.blocks().free + store.blocks().cached > 0;
        let condition = Condition {
            is_full: self.is_store_full(),
            disk: disk_name(store.disk_state(), has_room),
        };
        let work = *store.disk_work();
        let failures = work.bad_sectors + work.transfer_errors + work.time_outs;
        let has_failed = failures != self.reclaimer.failures_recorded
            && now.since(self.reclaimer.store_recorded_at) >= self.host.micros(INTERVAL_US);
        let before = self.reclaimer.condition.replace(condition);
        let is_as_before = before.map_or(condition.is_well(), |before| before == condition);
        if is_as_before && !has_failed {
            return;
        }
        self.reclaimer.failures_recorded = failures;
        self.reclaimer.store_recorded_at = now;
        let (pool, blocks) = (store.pool().frames, store.blocks().used);
        let record = self.host.record("store");
        record
            .text("state", if condition.is_full { "full" } else { "open" })
            .text("disk", condition.disk)
            .number("pool", pool)
            .number("blocks", blocks)
            .number("failures", failures)
            .end();
    }

    /// A content that a guest needs cannot be had.
    pub(crate) fn record_lost(&mut self, index: usize, slot: SwapSlot) {
        let name = self.slots[index].guest.config.name;
        let record = self.host.record("lost").text("guest", name);
        record.number("slot", u64::from(slot.get())).end();
    }
}
