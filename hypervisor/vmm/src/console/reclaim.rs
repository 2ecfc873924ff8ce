//! The commands about reclaim and the swap store.

use super::views::{Size, percent};
use crate::guest::{Guest, Life};
use crate::memory::Cause;
use crate::run::Hypervisor;
use pleat_overcommit::reclaim::{Need, idle, older};
use pleat_overcommit::swap::DiskState;
use pleat_types::{FRAME_SIZE, Platform};

/// The ages that `age` tells apart, in generations: each row goes to the next one's first.
const ROWS: [usize; 7] = [0, 1, 2, 4, 8, 16, 31];
/// Characters of the longest bar.
const BAR: &str = "########################################";

impl<P: Platform> Hypervisor<P> {
    pub(super) fn show_age(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (name, ages) = (slot.guest.config.name, slot.guest.memory.ages());
        let (last, generations) = (ages.last, ages.generations);
        let counters = slot.guest.memory.counters();
        let seconds = self.tenths_of_a_second(self.reclaimer.generation().0);
        let all = older(&last, 0).max(1);
        self.host.say(format_args!(
            "guest `{name}`: {generations} generations of {}.{} s or more have ended",
            seconds / 10,
            seconds % 10
        ));
        for (row, from) in ROWS.into_iter().enumerate() {
            let pages = older(&last, from) - ROWS.get(row + 1).map_or(0, |next| older(&last, *next));
            let bar = &BAR[..bar_length(pages, all)];
            self.host.say(format_args!(
                "  unused for {from:>2} or more {pages:>9} pages {} {:>3} % {bar}",
                Size(pages),
                percent(pages, all)
            ));
        }
        self.host.say(format_args!(
            "  in the swap store  {:>9} pages {}",
            counters.swapped,
            Size(counters.swapped)
        ));
    }

    pub(super) fn show_swap(&mut self) {
        let store = &self.host.swap.store;
        let (slots, pool, work) = (*store.slots(), *store.pool(), *store.work());
        let most = store.pool_frames_max();
        let frames = self.host.frames.counts().swap;
        let packed_bytes = pool.bytes.max(1);
        let ratio = pool.objects * FRAME_SIZE as u64 * 100 / packed_bytes;
        let rows = [
            (
                "pages",
                slots.references,
                "pages of guests whose content is in the store",
            ),
            ("contents", slots.slots(), "different contents they have"),
            (
                "one word",
                slots.filled,
                "of these, all of whose words are equal: they take no memory",
            ),
            ("packed", slots.packed, "of these, compressed in memory"),
            (
                "on disk",
                slots.disk + slots.staged,
                "of these, on the disk or on the way there",
            ),
            ("pool", pool.frames, "frames with packed contents"),
            ("most", most, "frames that the pool may have"),
            (
                "frames",
                frames,
                "frames of the store in all, with the table of slots",
            ),
            ("stored", work.kept, "contents that were kept since the start"),
            ("loaded", work.had, "contents that were given out"),
            (
                "refused",
                work.incompressible,
                "contents that would hardly have become smaller",
            ),
            (
                "damaged",
                work.damaged,
                "contents that were not what they had been: not delivered",
            ),
        ];
        for (name, value, text) in rows {
            self.host.say(format_args!("  {name:<10} {value:>12} {text}"));
        }
        self.host.say(format_args!(
            "  {:<10} {:>9}.{:02} bytes of a page for each byte that it takes packed",
            "ratio",
            ratio / 100,
            ratio % 100
        ));
        self.show_swap_disk();
        self.show_swap_guests();
    }

    /// Where the contents of each guest's pages are.
    fn show_swap_guests(&mut self) {
        self.host.say(format_args!(
            "{:<16} {:>10} {:>10}",
            "guest", "in memory", "on disk"
        ));
        for slot in self.slots.iter().filter(|slot| !slot.guest.has_ended()) {
            let swapped = slot.guest.memory.counters().swapped;
            let on_disk = self.host.pages_on_disk(&slot.guest.memory);
            self.host.say(format_args!(
                "{:<16} {} {}",
                slot.guest.config.name,
                Size(swapped.saturating_sub(on_disk)),
                Size(on_disk)
            ));
        }
    }

    fn show_swap_disk(&mut self) {
        let store = &self.host.swap.store;
        let (state, blocks, work) = (store.disk_state(), store.blocks(), *store.disk_work());
        let state = match state {
            DiskState::None => return self.host.say(format_args!("there is no disk behind it")),
            DiskState::Open if blocks.free + blocks.cached == 0 => "full",
            DiskState::Open => "open",
            DiskState::ReadOnly => "read only: it failed too often",
            DiskState::Gone => "gone, with what was on it",
        };
        self.host.say(format_args!("the disk behind it is {state}"));
        let failures = work.bad_sectors + work.transfer_errors + work.time_outs;
        let rows = [
            ("blocks", blocks.total, "4 KiB each"),
            ("used", blocks.used, "by contents"),
            (
                "cached",
                blocks.cached,
                "by copies of what is in memory again, until others need them",
            ),
            ("bad", blocks.bad, "could not be written, and are left alone"),
            ("written", work.writes, "blocks, since the start"),
            ("read", work.reads, "blocks"),
            (
                "clean",
                work.clean_hits,
                "contents that were there still when they were to be written",
            ),
            (
                "failures",
                failures,
                "requests that failed, by the medium, on their way, or in silence",
            ),
            (
                "again",
                work.read_again,
                "read once more, because what came was not what went",
            ),
            ("lost", work.lost, "times that a content could not be had"),
        ];
        for (name, value, text) in rows {
            self.host.say(format_args!("  {name:<10} {value:>12} {text}"));
        }
    }

    pub(super) fn reclaim(&mut self, switch: Option<bool>) {
        if let Some(is_on) = switch {
            self.reclaimer.is_on = is_on;
        }
        let is_on = if self.reclaimer.is_on { "on" } else { "off" };
        let cold = self.reclaimer.cold();
        let need = self.need();
        self.host
            .say(format_args!("reclaim is {is_on}, {}", need_name(need)));
        if let Some(age) = cold {
            self.host.say(format_args!(
                "  pages that were not used for {age} generations are taken whatever there is"
            ));
        }
        self.show_token();
        let work = self.reclaimer.work;
        let per_page = work.take_ticks / work.taken.max(1);
        let rows = [
            ("taken", work.taken, "frames that were freed"),
            ("zeros", work.zero, "of these, that held nothing but zeros"),
            (
                "shared",
                work.shared,
                "of these, that several pages had in common",
            ),
            (
                "passed",
                work.passed,
                "pages that were in use after all, or did not pay",
            ),
            ("split", work.split, "2 MiB mappings that were cold as a whole"),
            (
                "cost",
                per_page,
                "instructions for each frame freed, looking for it included",
            ),
            (
                "ageing",
                work.age_ticks,
                "instructions spent on finding out what is used",
            ),
        ];
        for (name, value, text) in rows {
            self.host.say(format_args!("  {name:<10} {value:>12} {text}"));
        }
        self.show_taken();
    }

    /// Who is shielded, if anybody is.
    fn show_token(&mut self) {
        let holder = self.reclaimer.token.holder();
        if let Some(slot) = holder.and_then(|holder| self.slots.get(holder)) {
            self.host.say(format_args!(
                "  guests thrash: it is the turn of `{}` to be left alone",
                slot.guest.config.name
            ));
        }
    }

    /// From whom how much was taken, and why.
    fn show_taken(&mut self) {
        self.host.say(format_args!(
            "{:<16} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>11}",
            "guest", "has", "idle", "swapped", "cold", "ahead", "now", "came back"
        ));
        for slot in self.slots.iter() {
            let guest = &slot.guest;
            let (ages, counters) = (guest.memory.ages(), guest.memory.counters());
            let [cold, ahead, now] = ages.taken;
            self.host.say(format_args!(
                "{:<16} {} {} {} {cold:>9} {ahead:>9} {now:>9} {:>11}",
                guest.config.name,
                Size(counters.owned_frames()),
                Size(idle(&ages.last)),
                Size(counters.swapped),
                guest.memory.swapped_in(),
            ));
        }
    }

    pub(super) fn show_why_taken(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let guest = &slot.guest;
        let name = guest.config.name;
        let ages = guest.memory.ages();
        let (taken, last) = (ages.taken, ages.taken_last);
        let waits = wait_of(guest);
        let now = self.host.platform.now();
        let held = guest.memory.counters().owned_frames();
        let reserved = guest.cooperation.terms.map_or(0, |terms| terms.reservation());
        self.host.say(format_args!("guest `{name}` {waits}"));
        for (cause, frames) in Cause::ALL.into_iter().zip(taken) {
            if frames > 0 {
                self.host.say(format_args!(
                    "  {frames:>9} pages were taken from it {}",
                    explanation(cause)
                ));
            }
        }
        match last {
            None => self
                .host
                .say(format_args!("  nothing was taken from it by force")),
            Some((at, cause)) => {
                let tenths = self.tenths_of_a_second(now.since(at).0);
                self.host.say(format_args!(
                    "  the last one {}.{} s ago ({})",
                    tenths / 10,
                    tenths % 10,
                    cause.name()
                ));
            }
        }
        self.host.say(format_args!(
            "  it has {}, {} are reserved for it",
            Size(held),
            Size(reserved)
        ));
        self.show_why_kept(index);
    }

    /// Where its pages are, and how it was treated beside that.
    fn show_why_kept(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (guest, token) = (&slot.guest, &self.reclaimer.token);
        let (has_token, thrashes) = (token.holder() == Some(index), token.thrashes(index));
        let swapped = guest.memory.counters().swapped;
        let on_disk = self.host.pages_on_disk(&guest.memory);
        self.host.say(format_args!(
            "  of its pages {} are in the pool, {} on the disk",
            swapped.saturating_sub(on_disk),
            on_disk
        ));
        let hardship = guest.hardship;
        let turn = match (has_token, thrashes) {
            (true, _) => "it has the token: its pages are left alone",
            (false, true) => "it thrashes, and waits for the token",
            (false, false) => "it does not thrash",
        };
        self.host.say(format_args!(
            "  {turn}; it has had the token {} times",
            hardship.turns
        ));
        self.host.say(format_args!(
            "  it was suspended {} times for others, and made to wait {} times while memory was low",
            hardship.suspensions, hardship.holds
        ));
    }

    fn tenths_of_a_second(&self, ticks: u64) -> u64 {
        let tenths = u128::from(ticks) * 10 / u128::from(self.host.tsc_hz.max(1));
        u64::try_from(tenths).unwrap_or(u64::MAX)
    }
}

#[allow(clippy::cast_possible_truncation)] // no longer than the bar
const fn bar_length(part: u64, whole: u64) -> usize {
    (part.saturating_mul(BAR.len() as u64) / whole) as usize
}

fn need_name(need: Need) -> &'static str {
    match need {
        Need::None => "and there is memory enough",
        Need::Ahead(_) => "and makes room before anybody has to wait",
        Need::Now(_) => "and guests wait for memory",
    }
}

const fn explanation(cause: Cause) -> &'static str {
    match cause {
        Cause::Cold => "because they had not been used for long",
        Cause::Ahead => "because memory was getting short, and it pays least for what it has",
        Cause::Now => "because a guest waited for memory",
    }
}

fn wait_of(guest: &Guest) -> &'static str {
    match guest.life {
        Life::Ended(_) => "has ended",
        Life::Unstarted => "has not been started",
        Life::Starting => "waits for room for its images to start",
        _ if guest.is_paused => "is paused by a person",
        _ if guest.hardship.suspended.is_some() => {
            "is suspended until there is memory for it: others waited, and it is the last"
        }
        Life::Running if guest.hardship.is_held => "waits while memory is low: it has more than its part",
        Life::Running => "runs, or waits for its turn",
        Life::Waiting if guest.waits_for_memory() => "is idle, and a device waits for a free host frame",
        Life::Waiting => "is idle: it waits for an interrupt",
        Life::Parked(_) => "waits for a free host frame",
        Life::Fetching => "waits for a page of its own to come back from the swap store",
    }
}
