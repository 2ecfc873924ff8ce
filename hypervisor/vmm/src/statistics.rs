//! The statistics record, written guest by guest: no buffer holds all of it.

use crate::audit::Audit;
use crate::devices::Disk;
use crate::guest::{EVENTS_MAX, Guest};
use crate::memory::{Broken, FAULT_NAMES};
use crate::run::{Hypervisor, Outcome};
use crate::stream::Record;
use arrayvec::ArrayVec;
use pleat_bundle::config::MAX_GUESTS;
use pleat_overcommit::ledger;
use pleat_overcommit::promise::HostState;
use pleat_types::stats::{Counters, GuestStats, HostStats, MergeStats, SCHEMA, SwapStats};
use pleat_types::{Exit, FRAME_SIZE, Platform};

impl<P: Platform> Hypervisor<P> {
    /// Sends the record to the stream.
    pub(crate) fn send_statistics(&mut self, outcome: Outcome, audit: &Audit) {
        let instructions = self.host.platform.now().since(self.reset).0;
        let counts = *self.host.frames.counts();
        let host = host_stats(&counts, self.host.state, self.book.reserved(), audit);
        let merge = self.merge_stats();
        let swap = self.swap_stats();
        let on_disk: ArrayVec<u64, MAX_GUESTS> = self
            .slots
            .iter()
            .map(|slot| self.host.pages_on_disk(&slot.guest.memory))
            .collect();
        let holder = self.reclaimer.token.holder();
        let failures = &self.host.failures;
        let record = Record::begin(&mut self.host.platform, "stats").open("record", b'{');
        let record = record
            .number("schema", u64::from(SCHEMA))
            .number("instructions", instructions);
        let record = record.text("outcome", outcome.name());
        let record = record.list("failures", failures.iter().map(|failure| failure.as_str()));
        let record = record.value("host", &host);
        let record = record.value("merge", &merge).value("swap", &swap);
        let mut record = record.open("guests", b'[');
        for (index, slot) in self.slots.iter().enumerate() {
            let standing = Standing {
                on_disk: on_disk.get(index).copied().unwrap_or(0),
                has_token: holder == Some(index),
            };
            record = guest_element(record, &slot.guest, standing, index);
        }
        record.close(b']').close(b'}').end();
    }
}

impl<P: Platform> Hypervisor<P> {
    /// What merging has done, and what is merged now.
    pub(crate) fn merge_stats(&self) -> MergeStats {
        let sum = |count: fn(&Guest) -> u64| self.guests().map(count).sum::<u64>();
        let shared = self.host.frames.counts().shared;
        let broken = |kind| self.guests().map(|guest| guest.memory.broken(kind)).sum::<u64>();
        let (copied, in_place) = (broken(Broken::Copied), broken(Broken::InPlace));
        let work = &self.merger.work;
        MergeStats {
            shared,
            sharing: sum(|guest| guest.memory.counters().shared).saturating_sub(shared),
            zero: sum(|guest| guest.memory.counters().zero),
            volatile: sum(|guest| guest.memory.look().volatile),
            hashed: work.hashed,
            compared: work.compared,
            merged: work.merged,
            broken: copied + in_place,
            instructions: work.ticks,
            merged_zero: work.merged_zero,
            broken_in_place: in_place,
            collisions: work.collisions,
            indexed: self.host.frames.indexed(),
            index_full: work.index_full,
            epochs: work.epochs,
            swept: work.swept,
            sampled: work.sampled,
            split: work.split,
            collapsed: work.collapsed,
            pace: self.merger.pace.rate(),
            metadata_bytes: self.host.frames.merge_metadata_bytes(),
        }
    }
}

impl<P: Platform> Hypervisor<P> {
    /// What the swap store has and has done.
    fn swap_stats(&self) -> SwapStats {
        let store = &self.host.swap.store;
        let (slots, work, ticks) = (store.slots(), store.work(), self.host.swap.ticks);
        SwapStats {
            compressed: slots.filled + slots.packed,
            disk: slots.disk + slots.staged,
            stores: work.kept,
            loads: work.had,
            disk_loads: store.disk_work().reads,
            disk_stores: store.disk_work().writes,
            store_ticks: ticks.keep,
            disk_store_ticks: ticks.disk_write,
            disk_load_ticks: ticks.disk_read,
            checksum_errors: work.damaged,
        }
    }
}

fn host_stats<'a>(
    counts: &ledger::Counts,
    state: HostState,
    frames_reserved: u64,
    audit: &'a Audit,
) -> HostStats<'a> {
    HostStats {
        state: state.name(),
        frames_total: counts.total,
        frames_free: counts.free,
        frames_image: counts.image,
        // The zero frame belongs to nobody's memory; the lists of sharers are records.
        frames_metadata: counts.metadata + counts.lists + counts.zero,
        frames_tables: counts.tables,
        // A frame that several guests share is in use once.
        frames_guests: counts.guests + counts.shared,
        frames_compressed_pool: counts.swap,
        frames_bundle: counts.bundle,
        frames_reserved,
        frames_vcpus: counts.vcpus,
        audit: audit.text(),
    }
}

/// What others know of a guest.
#[derive(Clone, Copy)]
struct Standing {
    on_disk: u64,
    has_token: bool,
}

fn guest_element<'p, P: Platform>(
    record: Record<'p, P>,
    guest: &Guest,
    standing: Standing,
    index: usize,
) -> Record<'p, P> {
    let counters = guest.memory.counters();
    let events: ArrayVec<&str, EVENTS_MAX> = guest.events.iter().map(|event| event.name.as_str()).collect();
    let ticks: ArrayVec<u64, EVENTS_MAX> = guest.events.iter().map(|event| event.ticks.0).collect();
    let (balloon, said) = (guest.board.balloon(), guest.statistics());
    let terms = guest.cooperation.terms;
    let claim = |bytes: Option<u64>| bytes.map(|bytes| bytes / FRAME_SIZE as u64);
    let stats = GuestStats {
        name: guest.config.name,
        state: guest.state_name(),
        reason: &guest.reason,
        domain: guest.config.domain,
        frames_promised: guest.frames(),
        unique: counters.unique,
        shared: counters.shared,
        zero: counters.zero,
        untouched: counters.untouched,
        compressed: counters.swapped.saturating_sub(standing.on_disk),
        disk: standing.on_disk,
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
        balloon: guest.pace_name(),
        balloon_target: guest.cooperation.told.frames,
        inflated: balloon.map_or(0, |balloon| balloon.inflated()),
        deflated: balloon.map_or(0, |balloon| balloon.deflated()),
        reported: balloon.map_or(0, |balloon| balloon.reported()),
        plugged: guest.plugged_frames(),
        pressure: guest.cooperation.gauge.level().name(),
        reservation: terms.map_or(0, |terms| terms.reservation()),
        limit: terms.map_or(0, |terms| terms.limit()),
        shares: guest.config.terms.shares,
        priority: guest.config.terms.priority,
        overlay: guest.disk.as_ref().map_or(0, Disk::overlaid),
        guest_free: claim(said.and_then(|said| said.free)),
        guest_available: claim(said.and_then(|said| said.available)),
        guest_cache: claim(said.and_then(|said| said.disk_caches)),
        guest_total: claim(said.and_then(|said| said.total)),
        guest_swap_in: claim(said.and_then(|said| said.swap_in)),
        guest_swap_out: claim(said.and_then(|said| said.swap_out)),
        guest_major_faults: said.and_then(|said| said.major_faults),
        has_token: standing.has_token,
        token_turns: guest.hardship.turns,
        is_suspended: guest.hardship.suspended.is_some(),
        suspensions: guest.hardship.suspensions,
        holds: guest.hardship.holds,
        volatile: guest.memory.look().volatile,
        instructions: guest.ran.0,
        event_ticks: &ticks,
        events: &events,
    };
    record.element(&stats, index)
}
