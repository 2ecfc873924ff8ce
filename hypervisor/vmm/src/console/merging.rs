//! The commands about merging.

use super::command::MergeCommand;
use super::views::percent;
use crate::host::Host;
use crate::run::Hypervisor;
use arrayvec::ArrayString;
use core::fmt::Write;
use pleat_bundle::config::Merge;
use pleat_overcommit::merge::content;
use pleat_stage2::{Level, Page};
use pleat_types::{FrameMemory, Gfn, Hfn, LARGE_FRAMES, Platform};

/// Pages in one record.
const PAGES_IN_A_RECORD: usize = 64;
/// A hash in hexadecimal digits.
const DIGITS: usize = 16;

/// Why pages that own a frame are not merged, for one guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Reasons {
    /// Written, and not calm for long enough.
    volatile: u64,
    /// Hashed, and nobody has the same.
    unlike: u64,
    /// Not in the index, though calm: nobody can find them.
    unknown: u64,
}

impl<P: Platform> Hypervisor<P> {
    pub(super) fn merge(&mut self, what: MergeCommand<'_>) {
        match what {
            MergeCommand::Show => self.show_merge(),
            MergeCommand::On => {
                self.merger.is_on = true;
                self.host.say(format_args!("merging is on"));
            }
            MergeCommand::Off => {
                self.merger.is_on = false;
                self.host.say(format_args!(
                    "merging is off; what is merged stays merged until it is written"
                ));
            }
            MergeCommand::Pace(rate) => {
                self.merger.pace.set(rate);
                self.show_pace();
            }
            MergeCommand::Why(name) => self.with_guest(name, Self::show_why),
        }
    }

    fn show_pace(&mut self) {
        let (rate, by) = (self.merger.pace.rate(), self.merger.pace.is_fixed());
        let by = if by { "as set" } else { "by pressure and yield" };
        self.host.say(format_args!(
            "  pace       {rate:>12} instructions in a second, {by}"
        ));
    }

    fn show_merge(&mut self) {
        let stats = self.merge_stats();
        let is_on = if self.merger.is_on { "on" } else { "off" };
        let mappings = stats.shared + stats.sharing;
        let ratio = mappings * 100 / stats.shared.max(1);
        let cost = stats.instructions / stats.merged.max(1);
        self.host.say(format_args!("merging is {is_on}"));
        self.show_pace();
        let now = [
            ("shared", stats.shared, "frames that several pages have in common"),
            (
                "sharing",
                stats.sharing,
                "pages that need no frame of their own for that: frames saved",
            ),
            ("zero", stats.zero, "pages that map the zero frame"),
            (
                "volatile",
                stats.volatile,
                "pages that were written again before they were calm",
            ),
            (
                "indexed",
                stats.indexed,
                "frames that can be found by their content",
            ),
        ];
        let since_start = [
            ("merged", stats.merged, "pages merged, zeros among them"),
            ("broken", stats.broken, "shares ended by a write"),
            ("hashed", stats.hashed, "pages hashed"),
            ("compared", stats.compared, "pairs of pages compared byte by byte"),
            (
                "collisions",
                stats.collisions,
                "of these, equal hashes over different pages",
            ),
            ("split", stats.split, "2 MiB mappings split for their duplicates"),
            ("collapsed", stats.collapsed, "2 MiB mappings put together again"),
            ("epochs", stats.epochs, "looks at guests"),
        ];
        for (name, count, text) in now.into_iter().chain(since_start) {
            self.host.say(format_args!("  {name:<10} {count:>12} {text}"));
        }
        self.host.say(format_args!(
            "  ratio      {:>9}.{:02} pages for each shared frame",
            ratio / 100,
            ratio % 100
        ));
        self.host.say(format_args!(
            "  cost       {cost:>12} instructions for each page merged"
        ));
    }

    fn show_why(&mut self, index: usize) {
        let guest = &self.slots[index].guest;
        let (name, domain) = (guest.config.name, guest.config.domain);
        let counters = guest.memory.counters();
        let others = self.merger.guests_in_domain_of(guest.id) - 1;
        let is_off = guest.config.merge == Merge::Off;
        let is_on = self.merger.is_on;
        self.host.say(format_args!(
            "guest `{name}`: {} pages share a frame, {} are zero",
            counters.shared, counters.zero
        ));
        if is_off {
            self.host.say(format_args!(
                "  nothing is merged: its merge = \"off\" in the guests file"
            ));
            return;
        }
        if !is_on {
            self.host.say(format_args!("  the scanner is off (`merge on`)"));
        }
        self.host.say(format_args!(
            "  domain     `{domain}`, with {others} other guests; pages are merged within a domain only"
        ));
        let reasons = self.reasons(index);
        let rows = [
            (
                "volatile",
                reasons.volatile,
                "pages were written and are not calm yet",
            ),
            (
                "unlike",
                reasons.unlike,
                "calm pages are unlike all others of the domain",
            ),
            (
                "unknown",
                reasons.unknown,
                "pages were not looked at yet, or found no room in the index",
            ),
            (
                "large",
                counters.large * LARGE_FRAMES,
                "pages lie in 2 MiB mappings whose samples show too few duplicates",
            ),
        ];
        let all = counters.owned_frames();
        for (word, count, text) in rows {
            let share = percent(count, all);
            self.host
                .say(format_args!("  {word:<10} {count:>8} {share:>3} %  {text}"));
        }
    }

    /// Sorts a guest's small pages that own their frame.
    fn reasons(&mut self, index: usize) -> Reasons {
        let mut reasons = Reasons::default();
        let memory = &self.slots[index].guest.memory;
        let (mut at, end) = (Gfn::new(0), memory.look().due.end());
        while at < end {
            let Ok(mapping) = self.host.lookup(memory, at) else {
                break;
            };
            if let (Page::Unique(frame), Level::One) = (mapping.page, mapping.level) {
                match () {
                    () if mapping.dirty || mapping.calm_owed > 0 => reasons.volatile += 1,
                    () if self.host.frames.key(frame).is_some() => reasons.unlike += 1,
                    () => reasons.unknown += 1,
                }
            }
            at = mapping.end();
        }
        reasons
    }

    /// Sends a hash of every page of every guest, for whoever wants to compute what merging could reach at best.
    pub(super) fn send_pages(&mut self) {
        for index in 0..self.slots.len() {
            let end = self.slots[index].guest.memory.look().due.end();
            let mut at = Gfn::new(0);
            while at < end && self.slots[index].guest.memory.stage2().is_some() {
                at = self.send_some_pages(index, at, end);
            }
        }
        self.host
            .say(format_args!("the hashes of all pages are on the stream"));
    }

    /// Sends up to [`PAGES_IN_A_RECORD`] pages from `first` on; says where to go on.
    fn send_some_pages(&mut self, index: usize, first: Gfn, end: Gfn) -> Gfn {
        let mut text = ArrayString::<{ PAGES_IN_A_RECORD * DIGITS }>::new();
        let memory = &self.slots[index].guest.memory;
        let mut at = first;
        while at < end && text.remaining_capacity() >= DIGITS {
            let hash = match self.host.lookup(memory, at).map(|mapping| mapping.page) {
                Err(_) | Ok(Page::Hole | Page::Device) => break,
                Ok(Page::Unique(frame) | Page::Shared(frame) | Page::Frozen(frame)) => {
                    self.host.hash_of(frame)
                }
                // What is on a disk counts as zeros here.
                Ok(Page::Swapped(slot)) => self.host.content(slot).map_or(0, content::hash),
                Ok(Page::Zero | Page::Untouched | Page::Ballooned) => 0,
            };
            // There is room.
            let _ = write!(text, "{hash:016x}");
            at = Gfn::new(at.get() + 1);
        }
        if text.is_empty() {
            let hole = self.host.lookup(memory, at).map_or(end, |mapping| mapping.end());
            return hole;
        }
        let record = self
            .host
            .record("pages")
            .text("guest", self.slots[index].guest.config.name);
        record.number("first", first.get()).text("hashes", &text).end();
        at
    }
}

impl<P: Platform> Host<P> {
    /// A page's hash; 0 for zeros. No guest runs while a command does.
    fn hash_of(&mut self, frame: Hfn) -> u64 {
        let mut page = [0; pleat_types::FRAME_SIZE];
        self.platform.memory().read_frame(frame, &mut page);
        content::hash(&page)
    }
}
