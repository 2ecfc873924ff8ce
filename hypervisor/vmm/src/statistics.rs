//! The statistics record, written guest by guest: no buffer holds all of it.

use crate::audit::Audit;
use crate::guest::{EVENTS_MAX, Guest};
use crate::memory::FAULT_NAMES;
use crate::run::{Hypervisor, Outcome};
use crate::stream::Record;
use arrayvec::ArrayVec;
use pleat_overcommit::ledger;
use pleat_types::stats::{Counters, GuestStats, HostStats, MergeStats, SCHEMA, SwapStats};
use pleat_types::{Exit, Platform};

/// The state of the host by its free memory: at least 6, 4, 2 percent, or less.
pub(crate) fn host_state(counts: &ledger::Counts) -> &'static str {
    let at_least = |percent: u64| counts.free * 100 >= counts.total * percent;
    match () {
        () if at_least(6) => "high",
        () if at_least(4) => "soft",
        () if at_least(2) => "hard",
        () => "low",
    }
}

impl<P: Platform> Hypervisor<P> {
    /// Sends the record to the stream.
    pub(crate) fn send_statistics(&mut self, outcome: Outcome, audit: &Audit) {
        let instructions = self.host.platform.now().since(self.reset).0;
        let counts = *self.host.frames.counts();
        let host = host_stats(&counts, audit);
        let failures = &self.host.failures;
        let record = Record::begin(&mut self.host.platform, "stats").open("record", b'{');
        let record = record
            .number("schema", u64::from(SCHEMA))
            .number("instructions", instructions);
        let record = record.text("outcome", outcome.name());
        let record = record.list("failures", failures.iter().map(|failure| failure.as_str()));
        let record = record.value("host", &host);
        let record = record
            .value("merge", &MergeStats::default())
            .value("swap", &SwapStats::default());
        let mut record = record.open("guests", b'[');
        for (index, slot) in self.slots.iter().enumerate() {
            record = guest_element(record, &slot.guest, index);
        }
        record.close(b']').close(b'}').end();
    }
}

fn host_stats<'a>(counts: &ledger::Counts, audit: &'a Audit) -> HostStats<'a> {
    HostStats {
        state: host_state(counts),
        frames_total: counts.total,
        frames_free: counts.free,
        frames_image: counts.image,
        // The zero frame belongs to nobody's memory.
        frames_metadata: counts.metadata + counts.zero,
        frames_tables: counts.tables,
        frames_guests: counts.guests,
        frames_compressed_pool: 0,
        frames_bundle: counts.bundle,
        frames_vcpus: counts.vcpus,
        audit: audit.text(),
    }
}

fn guest_element<'p, P: Platform>(record: Record<'p, P>, guest: &Guest, index: usize) -> Record<'p, P> {
    let counters = guest.memory.counters();
    let events: ArrayVec<&str, EVENTS_MAX> = guest.events.iter().map(|event| event.name.as_str()).collect();
    let ticks: ArrayVec<u64, EVENTS_MAX> = guest.events.iter().map(|event| event.ticks.0).collect();
    let stats = GuestStats {
        name: guest.config.name,
        state: guest.state_name(),
        reason: &guest.reason,
        domain: guest.config.domain,
        frames_promised: guest.ram.frames(),
        unique: counters.unique,
        shared: 0,
        zero: counters.zero,
        untouched: counters.untouched,
        compressed: 0,
        disk: 0,
        ballooned: counters.ballooned,
        large: counters.large,
        huge: counters.huge,
        faults: Counters {
            names: &FAULT_NAMES,
            counts: guest.memory.faults(),
        },
        exits: Counters {
            names: &Exit::NAMES,
            counts: &guest.exits,
        },
        volatile: 0,
        instructions: guest.ran.0,
        event_ticks: &ticks,
        events: &events,
    };
    record.element(&stats, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_host_follows_its_free_memory() {
        let state = |free| {
            host_state(&ledger::Counts {
                total: 1000,
                free,
                ..ledger::Counts::default()
            })
        };
        let states = [1000, 60, 59, 40, 39, 20, 19, 0].map(state);
        assert_eq!(
            states,
            ["high", "high", "soft", "soft", "hard", "hard", "low", "low"]
        );
    }
}
