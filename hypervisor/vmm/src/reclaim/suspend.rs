//! Guests that are suspended: kept from running, so that what they have can be taken for others.

use super::hardship::Suspension;
use crate::guest::{Guest, Life};
use crate::run::Hypervisor;
use pleat_overcommit::reclaim::{Rank, SUSPEND_AFTER_MS, whom_to_suspend};
use pleat_types::{Platform, Tsc};

impl<P: Platform> Hypervisor<P> {
    /// Guests have waited for memory for long: suspends one for them, if there is one for which that makes sense. Their
    /// waits begin anew then.
    pub(crate) fn suspend_someone(&mut self, now: Tsc) -> bool {
        let since = self.guests().filter_map(Guest::short_since).min();
        let waited = now.since(since.unwrap_or(now));
        let is_freeing = self.guests().any(|guest| guest.memory.is_dying());
        if is_freeing || waited < self.host.micros(SUSPEND_AFTER_MS * 1000) {
            return false;
        }
        let Some(index) = whom_to_suspend(self.ranks()) else {
            return false;
        };
        self.suspend(index, now);
        self.renew_patience(now);
        true
    }

    /// Guests in the order in which they are suspended.
    fn ranks(&self) -> impl Iterator<Item = Rank> + Clone {
        let can_keep = self.reclaimer.is_on && !self.is_store_full();
        let can_reclaim = self.can_reclaim();
        let able = self.guests().enumerate();
        let able = able.filter(|(_, guest)| guest.can_be_taken_from() && !guest.is_kept());
        able.map(move |(index, guest)| Rank {
            guest: index,
            priority: guest.config.terms.priority,
            weight: guest.config.weight,
            waits: guest.waits_for_memory(),
            has_more: guest.has_more_than_reserved(),
            // What does not run has been asked for all that it has. Who runs has what it was never asked for.
            can_give: can_keep && (can_reclaim || guest.life == Life::Running),
        })
    }

    fn suspend(&mut self, index: usize, now: Tsc) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let guest = &mut slot.guest;
        guest.hardship.suspended = Some(Suspension {
            since: now,
            held: guest.memory.counters().owned_frames(),
        });
        guest.hardship.suspensions += 1;
        self.scheduler.wait(index);
        self.reclaimer.hope_again();
        self.say_suspended(
            index,
            "suspended",
            "others wait for memory, and its priority is the lowest",
        );
    }

    /// A suspended guest may run again.
    pub(crate) fn end_suspension(&mut self, index: usize, why: &str) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let guest = &mut slot.guest;
        if guest.hardship.suspended.take().is_none() {
            return;
        }
        if guest.life == Life::Running && !guest.is_paused {
            self.scheduler.wake(index);
        }
        self.say_suspended(index, "resumed", why);
    }

    fn say_suspended(&mut self, index: usize, state: &str, why: &str) {
        let name = self.slots[index].guest.config.name;
        let record = self.host.record("suspend").text("guest", name);
        record.text("state", state).text("reason", why).end();
        self.host.say(format_args!("guest `{name}` is {state}: {why}"));
    }
}

impl Guest {
    /// It may not run, whatever it does: a person has paused it, or it is suspended for others.
    pub(crate) const fn is_kept(&self) -> bool {
        self.is_paused || self.hardship.suspended.is_some()
    }
}
