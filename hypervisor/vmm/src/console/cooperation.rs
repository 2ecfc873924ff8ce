//! The commands about what guests are promised, asked for and told.

use super::views::Size;
use crate::guest::Guest;
use crate::host::Host;
use crate::run::Hypervisor;
use core::fmt;
use pleat_devices::virtio::Pace;
use pleat_overcommit::promise::{Level, survival};
use pleat_types::{FRAME_SIZE, Platform};

const FRAMES_PER_MIB: u64 = (1 << 20) / FRAME_SIZE as u64;
/// What virtio-mem plugs at once, in MiB.
const BLOCK_MIB: u64 = 2;

/// The most that a guest is believed to say of itself, in tenths of a MiB: what fits the table.
const CLAIM_MAX: u128 = 999_999;

/// Bytes that a guest says of itself, in MiB, or that it says nothing.
struct Claim(Option<u64>);

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => {
                let tenths = (u128::from(bytes) * 10) >> 20;
                let tenths = tenths.min(CLAIM_MAX);
                write!(f, "{:>5}.{}", tenths / 10, tenths % 10)
            }
            None => f.write_str("      -"),
        }
    }
}

impl Guest {
    /// How it follows its balloon's target, for people.
    pub(crate) fn pace_name(&self) -> &'static str {
        match self.cooperation.pace {
            _ if self.board.balloon().is_none() => "no balloon",
            Pace::Absent => "no driver",
            Pace::Settled => "settled",
            Pace::Moving => "moving",
            Pace::Stuck { .. } => "stuck",
        }
    }
}

impl<P: Platform> Host<P> {
    /// What is not in the target yet, or why it is what it is.
    fn say_wishes(&mut self, guest: &Guest) {
        let asks = &guest.cooperation;
        if let Some(left) = asks.left {
            let wish = guest.frames().saturating_sub(left);
            self.say(format_args!(
                "  you leave it {}, and want {} in its balloon",
                Size(left),
                Size(wish)
            ));
        }
        if asks.spared > 0 {
            self.say(format_args!(
                "  {} more wait for the end of its grace",
                Size(asks.spared)
            ));
        }
    }

    /// What it says that its memory costs it.
    fn say_paging(&mut self, guest: &Guest) {
        let Some(said) = guest.statistics() else {
            return;
        };
        if let (None, None, None) = (said.swap_in, said.swap_out, said.major_faults) {
            return;
        }
        let faults = said.major_faults.unwrap_or(0);
        self.say(format_args!(
            "  swapped in {}, out {}; {faults} faults that had to read",
            Claim(said.swap_in),
            Claim(said.swap_out)
        ));
    }
}

impl<P: Platform> Hypervisor<P> {
    pub(super) fn show_balloons(&mut self) {
        self.host.say(format_args!(
            "{:<16} {:>10} {:>10} {:>10} {:<12} {:<10} {:>7} {:>7} {:>7}",
            "guest", "memory", "balloon", "target", "why", "driver", "free", "avail", "cache"
        ));
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let said = guest.statistics().copied();
            let claim = |bytes: Option<Option<u64>>| Claim(bytes.flatten());
            self.host.say(format_args!(
                "{:<16} {} {} {} {:<12} {:<10} {} {} {}",
                guest.config.name,
                Size(guest.frames()),
                Size(guest.memory.counters().ballooned),
                Size(guest.cooperation.told.frames),
                guest.cooperation.told.reason.name(),
                guest.pace_name(),
                claim(said.map(|said| said.free)),
                claim(said.map(|said| said.available)),
                claim(said.map(|said| said.disk_caches)),
            ));
            self.host.say_wishes(guest);
            self.host.say_paging(guest);
        }
        self.host.say(format_args!(
            "free, available, cache and what is below them are what guests say of themselves, sizes in MiB"
        ));
    }

    /// Leaves a guest so many MiB of its memory.
    pub(super) fn set_balloon(&mut self, index: usize, mib: u64) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let guest = &mut slot.guest;
        let name = guest.config.name;
        if guest.board.balloon().is_none() {
            self.host.say(format_args!("guest `{name}` has no balloon"));
            return;
        }
        let frames = mib.saturating_mul(FRAMES_PER_MIB);
        let reservation = guest.cooperation.terms.map_or(0, |terms| terms.reservation());
        if frames > guest.frames() || frames < reservation {
            self.host.say(format_args!(
                "guest `{name}` can be left from {} MiB (its reservation) to {} MiB (its memory)",
                reservation.div_ceil(FRAMES_PER_MIB),
                guest.frames() / FRAMES_PER_MIB
            ));
            return;
        }
        let wanted = guest.frames() - frames;
        // All of it is no wish: what it grows to later is its own too.
        guest.cooperation.left = (wanted > 0).then_some(frames);
        self.host.say(format_args!(
            "guest `{name}` is to do with {mib} MiB: {} in its balloon",
            Size(wanted)
        ));
        let (survival, driver) = (survival(guest.frames()), guest.pace_name());
        if frames < survival {
            self.host.say(format_args!(
                "  a Linux guest of its size needs about {} MiB to live",
                survival.div_ceil(FRAMES_PER_MIB)
            ));
        }
        if driver == "no driver" {
            self.host.say(format_args!(
                "  nothing happens until it loads a driver for its balloon"
            ));
        }
        self.reconsider();
    }

    pub(super) fn show_memory(&mut self) {
        self.host.say(format_args!(
            "{:<16} {:>10} {:>10} {:>10} {:>10} {:>9}",
            "guest", "began with", "plugged", "asked for", "at most", "requests"
        ));
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let frames = |bytes: u64| Size(bytes / FRAME_SIZE as u64);
            let mem = guest.board.mem();
            self.host.say(format_args!(
                "{:<16} {} {} {} {} {:>9}",
                guest.config.name,
                Size(guest.space.ram.frames()),
                Size(guest.plugged_frames()),
                frames(mem.map_or(0, |mem| mem.requested_bytes())),
                Size(guest.space.ram.frames() + guest.space.pluggable.count),
                mem.map_or(0, |mem| mem.requests()),
            ));
        }
    }

    /// Asks a guest to grow or shrink to so many MiB.
    pub(super) fn set_memory(&mut self, index: usize, mib: u64) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let guest = &mut slot.guest;
        let name = guest.config.name;
        let (least, room) = (guest.space.ram.frames(), guest.space.pluggable.count);
        if room == 0 {
            self.host.say(format_args!(
                "guest `{name}` cannot grow: give it a `max_memory` in the guests file"
            ));
            return;
        }
        let frames = mib.saturating_mul(FRAMES_PER_MIB);
        let beyond = frames.checked_sub(least).filter(|beyond| *beyond <= room);
        let Some(beyond) = beyond.filter(|beyond| beyond.is_multiple_of(BLOCK_MIB * FRAMES_PER_MIB)) else {
            self.host.say(format_args!(
                "guest `{name}` can have from {} to {} MiB, in steps of {BLOCK_MIB} MiB",
                least / FRAMES_PER_MIB,
                (least + room) / FRAMES_PER_MIB
            ));
            return;
        };
        guest.cooperation.requested_bytes = beyond * FRAME_SIZE as u64;
        guest.board.set_requested_memory(beyond * FRAME_SIZE as u64);
        self.host.serve_for_a_while(guest);
        let record = self.host.record("mem").text("guest", name);
        record.number("requested", beyond).end();
        self.host
            .say(format_args!("guest `{name}` is asked to have {mib} MiB"));
        self.reconsider();
    }

    pub(super) fn show_promises(&mut self) {
        self.host.say(format_args!(
            "{:<16} {:>10} {:>10} {:>10} {:>10} {:>6} {:>8} {:>5} {:>6} {:>6}",
            "guest", "memory", "reserved", "limit", "has", "shares", "priority", "tax", "soft", "strict"
        ));
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let Some(terms) = guest.cooperation.terms else {
                continue;
            };
            let terms = terms.resized(guest.frames()).unwrap_or(terms);
            let configured = &guest.config.terms;
            self.host.say(format_args!(
                "{:<16} {} {} {} {} {:>6} {:>8} {:>3} % {:>4} % {:>4} %",
                guest.config.name,
                Size(guest.frames()),
                Size(terms.reservation()),
                Size(terms.limit()),
                Size(guest.memory.counters().owned_frames()),
                terms.shares(),
                terms.priority(),
                terms.idle_tax_percent(),
                configured.cache_soft_percent,
                configured.cache_strict_percent,
            ));
        }
        self.show_disk_bounds();
        let (reserved, all) = (self.book.reserved(), self.book.for_guests());
        self.host.say(format_args!(
            "reserved: {} of {} for guests, what reservations cost included",
            Size(reserved),
            Size(all)
        ));
        self.host.say(format_args!(
            "soft and strict are limits of what page cache may hold"
        ));
    }

    /// What guests may write to their disks, where that is less than the disk.
    fn show_disk_bounds(&mut self) {
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let bounded = guest
                .disk
                .as_ref()
                .filter(|disk| disk.most() < guest.space.disk.count);
            if let Some(disk) = bounded {
                self.host.say(format_args!(
                    "{:<16} has written {} to its disk, and may {}",
                    guest.config.name,
                    Size(disk.overlaid()),
                    Size(disk.most())
                ));
            }
        }
    }

    pub(super) fn show_pressure(&mut self) {
        let counts = *self.host.frames.counts();
        let thresholds = self.host.thresholds;
        self.host.say(format_args!(
            "host: {} of {} free, state {} (soft below {} %, hard {} %, low {} %)",
            Size(counts.free),
            Size(counts.total),
            self.host.state.name(),
            thresholds.soft_below_percent,
            thresholds.hard_below_percent,
            thresholds.low_below_percent
        ));
        self.host.say(format_args!(
            "{:<16} {:<5} {:>10} {:<6} {:>6} {:>10}  agent",
            "guest", "level", "asked for", "port", "gave", "says"
        ));
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let asks = &guest.cooperation;
            let port = match guest.board.console() {
                None => "none",
                Some(console) if console.listens() => "open",
                Some(_) => "closed",
            };
            let by = if asks.gauge.forced().is_some() {
                " (set by you)"
            } else {
                ""
            };
            self.host.say(format_args!(
                "{:<16} {:<5} {} {:<6} {:>6} {}  {:.27}{by}",
                guest.config.name,
                asks.gauge.level().name(),
                Size(asks.wanted),
                port,
                asks.collections,
                Size(asks.collected_kib / (FRAME_SIZE as u64 / 1024)),
                core::str::from_utf8(&asks.agent).unwrap_or(""),
            ));
        }
    }

    /// Tells a guest of so much pressure, whatever there is; or of what there is again.
    pub(super) fn set_pressure(&mut self, index: usize, level: Option<Level>) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.guest.cooperation.gauge.force(level);
        let name = slot.guest.config.name;
        match level {
            Some(level) => self.host.say(format_args!(
                "guest `{name}` is told of pressure {}, whatever there is",
                level.name()
            )),
            None => self.host.say(format_args!(
                "guest `{name}` is told of the pressure that there is"
            )),
        }
        self.reconsider();
    }
}
