//! What guests are told, what they say, and what of it goes on record.

use super::view::Seen;
use super::words::Word;
use crate::guest::Guest;
use crate::host::Host;
use arrayvec::ArrayString;
use core::fmt::Write;
use pleat_overcommit::promise::{Asked, Clock, HostView, Level, Notice, Target};
use pleat_types::{Platform, Tsc};

/// The longest message about pressure.
const NOTICE_MAX: usize = 96;
/// A guest that is still asked for memory is told again after so long, in microseconds.
const REMIND_US: u64 = 10_000_000;

impl<P: Platform> Host<P> {
    /// The host as the policy sees it.
    pub(super) fn view(&self) -> HostView {
        let counts = self.frames.counts();
        HostView {
            state: self.state,
            free: counts.free,
            total: counts.total,
            thresholds: self.thresholds,
        }
    }

    /// Tells a guest what it is to know, and its balloon what it is to hold.
    pub(super) fn pursue(&mut self, guest: &mut Guest, target: &Target, now: Tsc) {
        let clock = Clock {
            now_ms: self.millis(now),
            grace_ms: self.config.host.grace_ms,
            state: self.state,
        };
        guest.cooperation.wanted = target.wanted;
        let change = guest
            .cooperation
            .gauge
            .update(clock.now_ms, self.state, target.wanted);
        let level = guest.cooperation.gauge.level();
        let remind_at = guest.cooperation.told_at.after(self.micros(REMIND_US));
        let is_reminder = level > Level::None && target.wanted > 0 && now >= remind_at;
        if change.is_some() || is_reminder {
            self.tell_pressure(guest, level, now);
        }
        let told = guest.cooperation.told.frames;
        let frames = guest.cooperation.grace.released(clock, level, told, target);
        guest.cooperation.spared = target.frames.saturating_sub(frames);
        if frames != told && guest.board.balloon().is_some() {
            let reason = target.reason;
            guest.cooperation.told = Asked { frames, reason };
            guest.board.set_balloon_target(frames);
            self.record_balloon(guest);
        }
        self.serve_for_a_while(guest);
    }

    /// A message to the guest's agent, if there is one.
    fn tell_pressure(&mut self, guest: &mut Guest, level: Level, now: Tsc) {
        guest.cooperation.told_at = now;
        let notice = Notice {
            level,
            free: self.frames.counts().free,
            wanted: guest.cooperation.wanted,
        };
        let record = self.record("pressure").text("guest", guest.config.name);
        record
            .text("level", level.name())
            .number("free", notice.free)
            .number("wanted", notice.wanted)
            .end();
        if !guest.config.devices.has_console {
            return;
        }
        let mut line = ArrayString::<NOTICE_MAX>::new();
        // Three words and two numbers fit.
        let _ = write!(line, "{notice}");
        // Whoever opens the port later is told what holds then.
        let _ = guest.board.tell_pressure(line.as_bytes());
    }

    /// The guest says something on the port for messages about pressure.
    pub(crate) fn hear(&mut self, guest: &mut Guest, bytes: &[u8]) {
        for &byte in bytes {
            match guest.cooperation.words.take(byte) {
                Some(Word::Hello(agent)) => guest.cooperation.agent = agent,
                Some(Word::Collected(kib)) => {
                    let so_far = &mut guest.cooperation;
                    so_far.collected_kib = so_far.collected_kib.saturating_add(kib);
                    so_far.collections += 1;
                }
                None => {}
            }
        }
    }

    /// Puts on record what a guest's balloon holds and is to hold, why, and how the guest follows.
    pub(super) fn record_balloon(&mut self, guest: &Guest) {
        let record = self.record("balloon").text("guest", guest.config.name);
        record
            .number("target", guest.cooperation.told.frames)
            .number("ballooned", guest.memory.counters().ballooned)
            .text("reason", guest.cooperation.told.reason.name())
            .text("balloon", guest.pace_name())
            .end();
    }

    /// Puts on record what has happened to a guest's devices since the last time: however often it did, a record of
    /// each kind for each device.
    pub(super) fn record_devices(&mut self, guest: &mut Guest) {
        let name = guest.config.name;
        let (before, seen) = (guest.cooperation.seen, guest.seen());
        if seen.plugged != before.plugged {
            let requested = guest.board.mem().map_or(0, |mem| mem.requested_bytes());
            let record = self.record("mem").text("guest", name);
            let record = record.number("requested", requested / pleat_types::FRAME_SIZE as u64);
            record.number("plugged", seen.plugged).end();
        }
        if (Seen { plugged: 0, ..seen }) != (Seen { plugged: 0, ..before }) {
            for function in guest.board.virtio_functions() {
                let place = 1 << (function.device & 31);
                if (seen.driven ^ before.driven | seen.broken ^ before.broken) & place != 0 {
                    let record = self.record("device").text("guest", name);
                    let state = match (function.needs_reset, function.is_driven) {
                        (Some(why), _) => why,
                        (None, true) => "driven",
                        (None, false) => "no driver",
                    };
                    record.text("device", function.name).text("state", state).end();
                }
            }
        }
        guest.cooperation.seen = seen;
        if guest.cooperation.collected_kib != guest.cooperation.recorded_kib {
            guest.cooperation.recorded_kib = guest.cooperation.collected_kib;
            let record = self.record("collected").text("guest", name);
            record.number("kib", guest.cooperation.collected_kib).end();
        }
    }

    /// Milliseconds of the host's clock.
    pub(crate) fn millis(&self, now: Tsc) -> u64 {
        let millis = u128::from(now.0) * 1000 / u128::from(self.tsc_hz.max(1));
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}
