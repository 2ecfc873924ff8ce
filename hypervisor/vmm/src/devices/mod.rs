//! The virtio devices of a guest at work: when they are served, and what they find outside of themselves.
//!
//! A guest notifies a device by an OUT. The device then works at once, in the guest's own time, one bounded step after
//! the other; between two steps the instruction is tried again, so that time slices end where they should. If the host
//! has no frame for a step the guest waits, and the same instruction goes on later. What happens to a guest without its
//! doing (a new balloon target, typed bytes, a message) is served from the run loop.

mod disk;
mod hands;
mod random;

pub(crate) use disk::Disk;
pub(crate) use random::Random;

use crate::guest::Guest;
use crate::host::Host;
use crate::space::Space;
use crate::stop::Stop;
use arrayvec::ArrayVec;
use hands::GuestHands;
use pleat_bundle::config::GuestConfig;

use pleat_devices::virtio::{BalloonSetup, DeviceSet, MemSetup, Served};
use pleat_overcommit::ledger::Purpose;
use pleat_types::{Platform, SwapSlot};

/// Bytes that a guest can print in one step of its console.
const PRINTED_MAX: usize = 4096;
/// Bytes of a guest's words about pressure in one step.
const HEARD_MAX: usize = 4096;
/// Steps of devices between two time slices, for one guest: what is beyond goes on later.
const STEPS_AT_ONCE: usize = 8;
/// No step begins after so many microseconds of them.
const STEPS_US: u64 = 200;
/// Bytes of a sector.
const SECTOR: u64 = 512;

/// What came of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Work {
    /// There is nothing more to do.
    Done,
    /// There is.
    More,
    /// There is, but no host frame is free for this.
    HostShort(Purpose),
    /// There is, but a page is away.
    Away,
    /// The content of a page is lost.
    Lost(SwapSlot),
    /// A mistake of ours: where.
    Bug(&'static str),
}

/// The devices that a configuration asks for.
pub(crate) fn devices_of(config: &GuestConfig<'_>, space: &Space) -> DeviceSet {
    let devices = &config.devices;
    DeviceSet {
        balloon: devices.balloon.map(|balloon| BalloonSetup {
            deflates_on_oom: balloon.deflates_on_oom,
            has_reporting: balloon.has_reporting,
        }),
        mem: (space.pluggable.count > 0).then_some(MemSetup {
            first: space.pluggable.first,
            frames: space.pluggable.count,
        }),
        has_console: devices.has_console,
        disk_sectors: devices.disk.map(|disk| disk.bytes / SECTOR),
        has_random: devices.has_random,
    }
}

impl<P: Platform> Host<P> {
    /// One step of what a guest's devices have to do.
    pub(crate) fn serve_once(&mut self, guest: &mut Guest) -> Work {
        let (mut printed, mut heard) = (ArrayVec::new(), ArrayVec::new());
        let Guest {
            board,
            memory,
            disk,
            space,
            ..
        } = guest;
        let mut hands = GuestHands::new(self, memory, disk, space, &mut printed, &mut heard);
        let served = board.serve(&mut hands);
        let (bug, damaged, purpose) = (hands.bug, hands.damaged, hands.purpose);
        let (is_unfinished, is_away) = (hands.is_unfinished, hands.is_away);
        guest.has_news = true;
        guest.note_statistics(self.platform.now());
        self.print(guest, &printed);
        self.hear(guest, &heard);
        match (bug, served) {
            (Some(place), _) => Work::Bug(place),
            (None, _) if damaged.is_some() => damaged.map_or(Work::Done, Work::Lost),
            (None, Served::Idle) => Work::Done,
            (None, Served::More) => Work::More,
            (None, Served::Stalled) if is_unfinished => Work::More,
            (None, Served::Stalled) if is_away => Work::Away,
            (None, Served::Stalled) => Work::HostShort(purpose),
        }
    }

    /// Serves a guest's devices for a while, from outside of its time. Apart, as the path of exits leads here only at HLT.
    #[inline(never)]
    pub(crate) fn serve_for_a_while(&mut self, guest: &mut Guest) {
        let end = self.platform.now().after(self.micros(STEPS_US));
        guest.devices_short = None;
        for _ in 0..STEPS_AT_ONCE {
            // Who has ended has no memory that a device could write to; who is paused or suspended does nothing.
            let is_resting = !guest.is_up() || guest.is_kept() || guest.is_beyond_help();
            if is_resting || !guest.board.has_device_work() || self.platform.now() >= end {
                return;
            }
            match self.serve_once(guest) {
                Work::More => {}
                Work::Done | Work::Away => return,
                Work::HostShort(purpose) => {
                    let purpose = guest.memory.purpose_of(purpose);
                    guest.devices_short = Some(self.frames.shortage(purpose));
                    return;
                }
                // The run loop ends it.
                Work::Bug(place) => guest.bug = Some(place),
                Work::Lost(slot) => guest.lost = Some(Stop::Lost(slot)),
            }
        }
    }
}
