//! A guest as the policy sees it.

use super::Cooperation;
use crate::guest::Guest;
use pleat_devices::virtio::{BalloonStatistics, FunctionView, Observation, Pace};
use pleat_overcommit::promise::{Claims, GuestView, Health, OutOfMemory};
use pleat_types::{FRAME_SIZE, Tsc};

/// The balloon's feature that its driver gives back when the guest runs out of memory (virtio 1.3, 5.5.3).
const DEFLATE_ON_OOM: u64 = 1 << 2;

/// What changes in a guest's devices are told from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Seen {
    /// Frames that were plugged.
    pub(super) plugged: u64,
    /// Devices with a driver, by place, as bits.
    pub(super) driven: u32,
    /// Devices that need a reset.
    pub(super) broken: u32,
}

impl Guest {
    /// Frames of memory that it sees: what it began with, and what was plugged.
    pub(crate) fn frames(&self) -> u64 {
        self.space.ram.frames() + self.plugged_frames()
    }

    /// Frames that were plugged beyond what it began with.
    pub(crate) fn plugged_frames(&self) -> u64 {
        let bytes = self.board.mem().map_or(0, |mem| mem.plugged_bytes());
        bytes / FRAME_SIZE as u64
    }

    /// What it said of itself last.
    pub(crate) fn statistics(&self) -> Option<&BalloonStatistics> {
        self.board.balloon().and_then(|balloon| balloon.statistics())
    }

    /// How often its statistics are asked for, in milliseconds; 0: never.
    pub(super) fn statistics_ms(&self) -> u64 {
        let balloon = self.config.devices.balloon;
        balloon.map_or(0, |balloon| u64::from(balloon.statistics_ms))
    }

    /// Frames that are kept for it: what it is still to get of its reservation. What is in its balloon it has given up.
    pub(crate) fn pledged_frames(&self) -> u64 {
        let wanted = self.frames().saturating_sub(self.memory.counters().ballooned);
        let held = self.memory.counters().owned_frames();
        self.memory.pledged().min(wanted.saturating_sub(held))
    }

    /// Notes when statistics came, and how much was in the balloon by then: to be called as soon as they may have come,
    /// since what they say of free memory holds for just that size of the balloon.
    pub(crate) fn note_statistics(&mut self, now: Tsc) {
        let Some(serial) = self.statistics().map(|said| said.serial) else {
            return;
        };
        if self.cooperation.heard.is_none_or(|(known, ..)| known != serial) {
            let ballooned = self.memory.counters().ballooned;
            self.cooperation.heard = Some((serial, now, ballooned));
        }
    }

    /// What it said of itself, if that is no older than `fresh`.
    fn claims(&self, now: Tsc, fresh: Tsc) -> Claims {
        let (Some(said), Some((_, at, ballooned))) = (self.statistics(), self.cooperation.heard) else {
            return Claims::default();
        };
        if now.since(at) > fresh {
            return Claims::default();
        }
        let frames = |bytes: Option<u64>| bytes.map(|bytes| bytes / FRAME_SIZE as u64);
        Claims {
            total: frames(said.total),
            free: frames(said.free),
            available: frames(said.available),
            disk_caches: frames(said.disk_caches),
            ballooned,
        }
    }

    /// Looks how it follows its balloon's target; says whether that is another answer than before.
    pub(super) fn observe_balloon(&mut self, now: Tsc, tsc_hz: u64) -> bool {
        let before = self.pace_name();
        let has_driver = self.balloon_function().is_some_and(|function| function.is_driven);
        let Cooperation { progress, told, .. } = &mut self.cooperation;
        let pace = progress.observe(&Observation {
            now: now.0,
            tsc_hz,
            target: told.frames,
            in_balloon: self.memory.counters().ballooned,
            has_driver,
        });
        self.cooperation.pace = pace;
        self.pace_name() != before
    }

    fn balloon_function(&self) -> Option<FunctionView> {
        self.board
            .virtio_functions()
            .find(|function| function.name == "balloon")
    }

    /// What it does when it runs out of memory, as its balloon's driver has agreed.
    fn out_of_memory(&self) -> OutOfMemory {
        match self.balloon_function() {
            Some(balloon) if balloon.features & DEFLATE_ON_OOM != 0 => OutOfMemory::Deflates,
            _ => OutOfMemory::Kills,
        }
    }

    /// What there is to see of its devices.
    pub(super) fn seen(&self) -> Seen {
        let mut seen = Seen {
            plugged: self.plugged_frames(),
            ..Seen::default()
        };
        for function in self.board.virtio_functions() {
            let place = 1 << (function.device & 31);
            seen.driven |= if function.is_driven { place } else { 0 };
            seen.broken |= if function.needs_reset.is_some() { place } else { 0 };
        }
        seen
    }

    /// The policy's view of it; `None` if it was not admitted.
    pub(super) fn view(&self, now: Tsc, fresh: Tsc) -> Option<GuestView> {
        let terms = self.cooperation.terms?;
        let counters = self.memory.counters();
        let disk = self.disk.as_ref();
        let (overlaid, zeroed) = disk.map_or((0, 0), |disk| (disk.overlaid(), disk.zeroed()));
        Some(GuestView {
            terms: terms.resized(self.frames()).unwrap_or(terms),
            // What it has written to its disk is no memory that it could give.
            held: counters
                .owned_frames()
                .saturating_sub(overlaid.saturating_sub(zeroed))
                .min(self.frames()),
            untouched: counters.untouched.saturating_sub(zeroed),
            ballooned: counters.ballooned,
            health: match self.cooperation.pace {
                Pace::Absent => Health::Absent,
                Pace::Stuck { .. } => Health::Stuck,
                Pace::Moving | Pace::Settled => Health::Moving,
            },
            told: self.cooperation.told,
            out_of_memory: self.out_of_memory(),
            left: self.cooperation.left,
            claims: self.claims(now, fresh),
        })
    }
}
