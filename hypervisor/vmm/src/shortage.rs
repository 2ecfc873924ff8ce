//! What happens when the host has no frame for a fault.
//!
//! The guest waits (see [`crate::memory`]). Others can end and so free frames, and merging can find equal pages, for
//! which it does not ask for its budget then. So the guest waits for as long as one of the others can go on or there
//! are pages to merge; but not without limit, for a neighbour that merely spins frees nothing.

use crate::boot::Slot;
use crate::guest::{Guest, Life};
use crate::run::Hypervisor;
use crate::stop::Stop;
use pleat_devices::virtio::Pace;
use pleat_types::{Platform, Tsc};

/// How long guests wait for a frame before one of them is stopped, in microseconds. Long enough for a
/// neighbour to finish and be taken down, short enough that nobody takes the waiting guests for hung.
pub(crate) const PATIENCE_US: u64 = 10_000_000;

impl<P: Platform> Hypervisor<P> {
    /// Whether guests have waited for memory for long enough: then who is stopped, and why.
    pub(crate) fn relieve_shortage(&mut self, now: Tsc) -> Option<(usize, Stop)> {
        let victim = self.victim()?;
        if self.slots.iter().any(|slot| slot.guest.memory.is_dying()) {
            return None;
        }
        let since = self.guests().filter_map(Guest::short_since).min();
        let waited = now.since(since.unwrap_or(now));
        if waited >= self.host.micros(PATIENCE_US) {
            let ticks = u128::from(waited.0) * 1000 / u128::from(self.host.tsc_hz.max(1));
            let millis = u64::try_from(ticks).unwrap_or(u64::MAX);
            let guest = &self.slots[victim].guest;
            let stop = if guest.hardship.suspended.is_some() {
                Stop::Suspended(millis)
            } else if guest.waits_for_memory() {
                Stop::HostShort(millis)
            } else {
                Stop::Reserved(millis)
            };
            return Some((victim, stop));
        }
        // Who runs, or will be woken by its timer, may end and free its memory; and equal pages that have not been
        // merged yet may free some.
        let is_running =
            |guest: &Guest| matches!(guest.life, Life::Running | Life::Fetching) && !guest.is_kept();
        let can_go_on = |slot: &Slot<P::Vcpu>| is_running(&slot.guest) || slot.wake_up() != Tsc::NEVER;
        // Devices that have work and lack nothing may be taking in a balloon's pages.
        let is_served = |guest: &Guest| {
            let is_able = guest.is_up() && !guest.is_kept() && guest.devices_short.is_none();
            is_able && guest.board.has_device_work()
        };
        let can_go_on = self.slots.iter().any(can_go_on)
            || self.guests().any(is_served)
            || self.has_pages_to_merge()
            || self.can_reclaim()
            || self.guests().any(Guest::can_give)
            // It would run if it were not for others: until their patience is over it is not given up.
            || self.guests().any(|guest| guest.hardship.suspended.is_some());
        (!can_go_on).then_some((victim, Stop::HostStuck))
    }

    /// One guest was stopped for the others: these begin to wait anew.
    pub(crate) fn renew_patience(&mut self, now: Tsc) {
        for slot in self.slots.iter_mut() {
            slot.guest.renew_patience(now);
        }
    }

    /// When somebody is stopped for want of memory, if nothing else happens.
    pub(crate) fn end_of_patience(&self) -> Tsc {
        let patience = self.host.micros(PATIENCE_US);
        let since = self.guests().filter_map(Guest::short_since).min();
        since.map_or(Tsc::NEVER, |since| since.after(patience))
    }

    /// Who is stopped when nothing else helps: of those that wait for memory, or are suspended until there is some, and
    /// have more than their reservation, or of the others that have more, or of those that wait: the one with the lowest
    /// priority, among equals with the lowest weight, the last. There is none while nobody waits.
    fn victim(&self) -> Option<usize> {
        if !self.guests().any(Guest::waits_for_memory) {
            return None;
        }
        let waits = |guest: &Guest| guest.waits_for_memory() || guest.hardship.suspended.is_some();
        let rank = |guest: &Guest| match (waits(guest), guest.has_more_than_reserved()) {
            (true, true) => Some(0),
            (false, true) => Some(1),
            (true, false) => Some(2),
            (false, false) => None,
        };
        let live = self.guests().enumerate().filter(|(_, guest)| !guest.has_ended());
        live.filter_map(|(index, guest)| rank(guest).map(|rank| (index, guest, rank)))
            .min_by_key(|(index, guest, rank)| {
                let terms = &guest.config.terms;
                (*rank, terms.priority, guest.config.weight, usize::MAX - index)
            })
            .map(|(index, ..)| index)
    }
}

impl Guest {
    /// It has frames that it was not promised for certain.
    pub(crate) fn has_more_than_reserved(&self) -> bool {
        let reserved = self.cooperation.terms.map_or(0, |terms| terms.reservation());
        self.memory.counters().owned_frames() > reserved
    }

    /// Its balloon has a driver that does what it is told, and it can do that: it may be asked for memory, or has been.
    fn can_give(&self) -> bool {
        let is_able = !self.is_kept() && self.is_up() && !self.is_parked();
        is_able && matches!(self.cooperation.pace, Pace::Moving | Pace::Settled)
    }

    /// It waits for something that Pleat itself brings: memory, or a page of its own.
    pub(crate) const fn may_go_on(&self) -> bool {
        self.waits_for_memory() || matches!(self.life, Life::Fetching)
    }

    /// It would run if there were memory: it could go on itself, or a device that it sleeps for. Who is paused waits for a
    /// person, and who is suspended for others.
    pub(crate) const fn waits_for_memory(&self) -> bool {
        let is_short = match self.life {
            Life::Parked(_) => true,
            Life::Waiting => self.devices_short.is_some(),
            Life::Unstarted | Life::Starting | Life::Running | Life::Fetching | Life::Ended(_) => false,
        };
        is_short && !self.is_kept()
    }

    /// It does nothing, whatever interrupts come, until there is memory.
    pub(crate) const fn is_parked(&self) -> bool {
        matches!(self.life, Life::Parked(_))
    }
}
