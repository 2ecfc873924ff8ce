//! What is looked at ten times a second while memory is short: whose turn it is to be left alone, who waits while the
//! host is low, who goes on that was suspended, and what of all that goes on record.

use crate::boot::Slot;
use crate::guest::{Guest, Life};
use crate::run::Hypervisor;
use arrayvec::ArrayVec;
use pleat_bundle::config::MAX_GUESTS;
use pleat_overcommit::promise::{HostState, Terms, entitled};
use pleat_overcommit::reclaim::{Doing, Handover, Standing, Suspended, may_resume};
use pleat_types::{Platform, Tsc};

/// What a guest has, and its part of all that there is.
struct Part {
    guest: usize,
    held: u64,
    entitled: u64,
}

/// A period, in microseconds.
const PERIOD_US: u64 = 100_000;

impl<P: Platform> Hypervisor<P> {
    /// Sees to guests that are kept from running or from losing pages.
    pub(crate) fn watch(&mut self, now: Tsc) {
        if now < self.reclaimer.watch_at {
            return;
        }
        self.reclaimer.watch_at = now.after(self.host.micros(PERIOD_US));
        self.pass_token();
        self.hold_back();
        self.resume_suspended(now);
        self.record_reclaim(now);
    }

    fn pass_token(&mut self) {
        let forced = self.reclaimer.work.forced;
        let is_forced = forced != self.reclaimer.forced_before;
        self.reclaimer.forced_before = forced;
        let parts = self.parts();
        let is_anybody_above = parts.iter().any(|part| part.held > part.entitled);
        let able = parts.iter().map(|part| (part, &self.slots[part.guest].guest));
        let doings = able
            .filter(|(_, guest)| !guest.is_kept())
            .map(|(part, guest)| Doing {
                guest: part.guest,
                came_back: guest.memory.swapped_in(),
                ran: guest.ran.0,
                is_waiting: guest.may_go_on(),
                is_below_part: is_anybody_above && part.held < part.entitled,
            });
        if let Some(handover) = self.reclaimer.token.end_period(is_forced, doings) {
            self.hand_over(handover);
        }
    }

    fn hand_over(&mut self, Handover { from, to, why }: Handover) {
        let name = |index: Option<usize>| {
            let slot = index.and_then(|index| self.slots.get(index));
            slot.map_or("", |slot| slot.guest.config.name)
        };
        let (before, after) = (name(from), name(to));
        let record = self.host.record("token").text("guest", after);
        record.text("from", before).text("reason", why.name()).end();
        if let Some(slot) = to.and_then(|index| self.slots.get_mut(index)) {
            slot.guest.hardship.turns += 1;
        }
    }

    /// While the host is low, guests that have more than their part wait.
    fn hold_back(&mut self) {
        if self.host.state == HostState::Low {
            let standings = self.standings();
            self.reclaimer.holds.end_period(HostState::Low, &standings);
            self.apply_holds();
        }
    }

    /// The host is not low any more.
    pub(crate) fn release_held(&mut self) {
        self.reclaimer.holds.release_all();
        self.apply_holds();
    }

    /// What guests have, and their parts of all that guests have and could have.
    fn parts(&self) -> ArrayVec<Part, MAX_GUESTS> {
        let entitled_ones = self.guests().enumerate().filter_map(|(index, guest)| {
            let terms = guest.cooperation.terms.filter(|_| !guest.has_ended())?;
            Some((index, guest, terms.resized(guest.frames()).unwrap_or(terms)))
        });
        let terms: ArrayVec<Terms, MAX_GUESTS> = entitled_ones.clone().map(|(_, _, terms)| terms).collect();
        let held = |guest: &Guest| guest.memory.counters().owned_frames();
        let in_use: u64 = entitled_ones.clone().map(|(_, guest, _)| held(guest)).sum();
        let parts = entitled(in_use + self.host.frames.counts().free, &terms);
        entitled_ones
            .zip(parts)
            .map(|((guest, known, _), entitled)| Part {
                guest,
                held: held(known),
                entitled,
            })
            .collect()
    }

    /// Those of guests that would run.
    fn standings(&self) -> ArrayVec<Standing, MAX_GUESTS> {
        let holder = self.reclaimer.token.holder();
        // Whose balloon gives has to run for that.
        let would_wait =
            |guest: &Guest| guest.life == Life::Running && !guest.is_kept() && !guest.is_giving();
        self.parts()
            .into_iter()
            .filter(|part| would_wait(&self.slots[part.guest].guest))
            .map(|part| Standing {
                guest: part.guest,
                held: part.held,
                entitled: part.entitled,
                has_token: holder == Some(part.guest),
            })
            .collect()
    }

    /// Nobody can run but guests that are held back: one of them does.
    pub(crate) fn pick_held(&mut self) -> Option<usize> {
        self.reclaimer.holds.release_least()?;
        self.apply_holds();
        self.scheduler.pick()
    }

    fn apply_holds(&mut self) {
        for (index, Slot { guest, .. }) in self.slots.iter_mut().enumerate() {
            let is_held = self.reclaimer.holds.is_held(index);
            if is_held == guest.hardship.is_held {
                continue;
            }
            guest.hardship.is_held = is_held;
            guest.hardship.holds += u64::from(is_held);
            self.scheduler.hold(index, is_held);
            let record = self.host.record("hold").text("guest", guest.config.name);
            record
                .text("state", if is_held { "held" } else { "released" })
                .end();
        }
    }

    /// Lets the suspended guest with the highest priority go on, if there is room for it.
    fn resume_suspended(&mut self, now: Tsc) {
        let suspended = self.guests().enumerate();
        let suspended = suspended.filter(|(_, guest)| guest.hardship.suspended.is_some());
        let first = suspended.max_by_key(|(index, guest)| {
            let terms = &guest.config.terms;
            (terms.priority, guest.config.weight, usize::MAX - index)
        });
        let Some((index, guest)) = first else { return };
        let Some(suspension) = guest.hardship.suspended else {
            return;
        };
        let counts = self.host.frames.counts();
        let can_run = |other: &Guest| !other.has_ended() && !other.is_kept();
        let around = Suspended {
            for_ms: self.host.millis(now.since(suspension.since)),
            held: suspension.held,
            is_waited_for: self.guests().any(Guest::waits_for_memory),
            is_alone: !self.guests().any(can_run),
            free: counts.free,
            total: counts.total,
            thresholds: self.host.thresholds,
        };
        if let Some(why) = may_resume(&around) {
            self.end_suspension(index, why.text());
        }
    }
}
