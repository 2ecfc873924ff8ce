//! What happens when the host has no frame for a fault.
//!
//! The guest waits (see [`crate::memory`]). Others can end and so free frames, so it waits for as long as
//! one of them can go on; but not without limit, for a neighbour that merely spins frees nothing.

use crate::boot::Slot;
use crate::guest::{Guest, Life};
use crate::run::Hypervisor;
use crate::stop::Stop;
use pleat_types::{Platform, Tsc};

/// How long guests wait for a frame before one of them is stopped, in microseconds. Long enough for a
/// neighbour to finish and be taken down, short enough that nobody takes the waiting guests for hung.
pub(crate) const PATIENCE_US: u64 = 10_000_000;

impl<P: Platform> Hypervisor<P> {
    /// Keeps note of how long guests have waited for memory. When that has to end: who is stopped, and why.
    pub(crate) fn relieve_shortage(&mut self, now: Tsc) -> Option<(usize, Stop)> {
        let Some(victim) = self.victim() else {
            self.short_since = None;
            return None;
        };
        let waited = now.since(*self.short_since.get_or_insert(now));
        if self.slots.iter().any(|slot| slot.guest.memory.is_dying()) {
            return None;
        }
        if waited >= self.host.micros(PATIENCE_US) {
            let ticks = u128::from(waited.0) * 1000 / u128::from(self.host.tsc_hz.max(1));
            let millis = u64::try_from(ticks).unwrap_or(u64::MAX);
            return Some((victim, Stop::HostShort(millis)));
        }
        // Who runs, or will be woken by its timer, may end and free its memory.
        let is_running = |guest: &Guest| guest.life == Life::Running && !guest.is_paused;
        let can_go_on = |slot: &Slot<P::Vcpu>| is_running(&slot.guest) || slot.wake_up() != Tsc::NEVER;
        (!self.slots.iter().any(can_go_on)).then_some((victim, Stop::HostStuck))
    }

    /// When somebody is stopped for want of memory, if nothing else happens.
    pub(crate) fn end_of_patience(&self) -> Tsc {
        let patience = self.host.micros(PATIENCE_US);
        self.short_since.map_or(Tsc::NEVER, |since| since.after(patience))
    }

    /// Of the guests that wait for memory, the one with the lowest weight, the last among equals.
    fn victim(&self) -> Option<usize> {
        self.guests()
            .enumerate()
            .filter(|(_, guest)| guest.waits_for_memory())
            .min_by_key(|(index, guest)| (guest.config.weight, usize::MAX - index))
            .map(|(index, _)| index)
    }
}

impl Guest {
    /// It would run if there were memory. Who is paused waits for a person, not for memory.
    pub(crate) const fn waits_for_memory(&self) -> bool {
        matches!(self.life, Life::Parked(_)) && !self.is_paused
    }
}
