//! The tables that commands show.

use crate::audit::Depth;
use crate::guest::Guest;
use crate::memory::FAULT_NAMES;
use crate::run::Hypervisor;
use core::fmt;
use pleat_types::{Exit, FRAME_SIZE, LARGE_FRAMES, PageSize, Platform};

/// A number of frames, as a size for people.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.0.saturating_mul(FRAME_SIZE as u64 / 1024);
        if kib < 10_000 {
            write!(f, "{kib:>6} KiB")
        } else {
            // Tenths, without floating point.
            write!(f, "{:>4}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
        }
    }
}

/// A part in percent of a whole.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100) / whole.max(1)
}

impl<P: Platform> Hypervisor<P> {
    pub(super) fn show_guests(&mut self) {
        self.host.say(format_args!(
            "{:<16} {:<9} {:>10} {:>10} {:>10} {:>8} {:>9} {:>6}  reason or events",
            "guest", "state", "promised", "backed", "tables", "faults", "exits", "weight"
        ));
        let (mut promised, mut backed) = (0, 0);
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let counters = guest.memory.counters();
            promised += guest.frames();
            backed += counters.owned_frames();
            self.host.say(format_args!(
                "{:<16} {:<9} {} {} {} {:>8} {:>9} {:>6}  {}",
                guest.config.name,
                guest.activity(),
                Size(guest.frames()),
                Size(counters.owned_frames()),
                Size(counters.table_frames()),
                guest.memory.faults().iter().sum::<u64>(),
                guest.exits.iter().sum::<u64>(),
                guest.config.weight,
                Remark(guest),
            ));
        }
        self.host.say(format_args!(
            "{:<16} {:<9} {} {}",
            "all",
            "",
            Size(promised),
            Size(backed)
        ));
    }

    pub(super) fn show_stats(&mut self) {
        let counts = *self.host.frames.counts();
        let alive = self.guests().filter(|guest| guest.is_up());
        let promised: u64 = alive.map(|guest| guest.frames()).sum();
        self.host.say(format_args!(
            "host memory: {} in {} frames, state {}",
            Size(counts.total),
            counts.total,
            self.host.state.name()
        ));
        let rows = [
            ("free", counts.free),
            ("guests", counts.guests),
            ("shared", counts.shared),
            ("tables", counts.tables),
            ("processors", counts.vcpus),
            ("boot bundle", counts.bundle),
            ("swap store", counts.swap),
            ("hypervisor", counts.image),
            ("metadata", counts.metadata + counts.lists + counts.zero),
        ];
        for (name, frames) in rows {
            let share = percent(frames, counts.total);
            self.host.say(format_args!(
                "  {name:<12} {} {frames:>8} frames {share:>3} %",
                Size(frames)
            ));
        }
        self.host.say(format_args!(
            "promised to guests: {}; used in all: {}",
            Size(promised),
            Size(counts.total - counts.free.min(counts.total))
        ));
        let audit = self.audit(Depth::Records);
        let outcome = self.outcome();
        self.send_statistics(outcome, &audit);
    }

    pub(super) fn show_audit(&mut self) {
        let counts = *self.host.frames.counts();
        self.host.say(format_args!(
            "frames: free {} + guests {} + shared {} + tables {} + processors {} + bundle {} + hypervisor {} + metadata {} + lists {} + zero {} + swap {} = {} of {}",
            counts.free, counts.guests, counts.shared, counts.tables, counts.vcpus, counts.bundle, counts.image,
            counts.metadata, counts.lists, counts.zero, counts.swap, counts.sum(), counts.total
        ));
        let audit = self.audit(Depth::Lists);
        self.host.say(format_args!("audit: {}", audit.text()));
    }

    pub(super) fn show_ept(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let guest = &slot.guest;
        let counters = guest.memory.counters();
        let promised = guest.frames();
        self.host.say(format_args!(
            "guest `{}`: {} promised, {} backed",
            guest.config.name,
            Size(promised),
            Size(counters.owned_frames())
        ));
        let rows = [
            ("unique 4 KiB", counters.unique, counters.unique),
            ("large 2 MiB", counters.large, counters.large * LARGE_FRAMES),
            (
                "huge 1 GiB",
                counters.huge,
                counters.huge * PageSize::Huge.frames(),
            ),
            ("shared", counters.shared, counters.shared),
            ("zero", counters.zero, counters.zero),
            ("swapped", counters.swapped, counters.swapped),
            ("untouched", counters.untouched, counters.untouched),
            ("ballooned", counters.ballooned, counters.ballooned),
        ];
        for (name, mappings, frames) in rows {
            let share = percent(frames, promised);
            self.host.say(format_args!(
                "  {name:<13} {mappings:>8} {} {share:>3} %",
                Size(frames)
            ));
        }
        let [pages, directories, pointers, root] = counters.tables;
        self.host.say(format_args!(
            "  tables: {} = {root} level 4, {pointers} level 3, {directories} level 2, {pages} level 1",
            counters.table_frames()
        ));
        let (unknown, lost) = (guest.board.unknown_ports(), guest.board.lost_output());
        self.host.say(format_args!(
            "  devices: {unknown} port accesses that nothing answered, {lost} bytes of output lost"
        ));
        self.show_counts(index, "faults", &FAULT_NAMES, |guest| guest.memory.faults());
        self.show_counts(index, "exits", &Exit::NAMES, |guest| &guest.exits);
    }

    /// Counters that are not zero, a few in a line.
    fn show_counts<const N: usize>(
        &mut self,
        index: usize,
        title: &str,
        names: &[&str; N],
        counts: impl Fn(&Guest) -> &[u64; N],
    ) {
        let Some(slot) = self.slots.get(index) else { return };
        let counts = *counts(&slot.guest);
        self.host
            .say(format_args!("  {title}: {}", counts.iter().sum::<u64>()));
        for (name, count) in names.iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.host.say(format_args!("    {name:<22} {count:>10}"));
        }
    }
}

/// Why a guest ended, or the last event that it reported.
struct Remark<'g>(&'g Guest);

impl fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.has_ended() {
            return f.write_str(&self.0.reason);
        }
        for (index, event) in self.0.events.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { ", " }, event.name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn sizes_are_aligned_and_never_overflow() {
        assert_eq!(Size(0).to_string(), "     0 KiB");
        assert_eq!(Size(2499).to_string(), "  9996 KiB");
        assert_eq!(Size(2500).to_string(), "   9.7 MiB");
        assert_eq!(Size(81_920).to_string(), " 320.0 MiB");
        assert!(Size(u64::MAX).to_string().ends_with("MiB"));
        assert_eq!(percent(1, 0), 100);
    }
}
