//! Guests that wait, and what to do while all of them do.

use crate::boot::Slot;
use crate::guest::{Guest, Life};
use crate::host::Host;
use crate::merge::Progress;
use crate::run::Hypervisor;
use pleat_types::{Platform, Tsc};

/// How often the console is looked at when nothing else happens, in microseconds.
const CONSOLE_POLL_US: u64 = 10_000;
/// What waking costs a guest on top of the time that it runs, in microseconds: the switch to it and back,
/// which would otherwise be charged to nobody. A rate in the rules, not a measurement.
const WAKE_COST_US: u64 = 5;

impl<P: Platform> Hypervisor<P> {
    /// Guests whose interrupt has come, or for which there is memory again, can run.
    pub(crate) fn wake_guests(&mut self, now: Tsc) {
        let cost = self.host.micros(WAKE_COST_US);
        self.merger.is_in_hurry = false;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Slot {
                vcpu: Some(vcpu),
                guest,
            } = slot
            else {
                continue;
            };
            if guest.life == Life::Waiting {
                self.host.serve_sleeper(guest, now, self.slice);
            }
            let is_awake = match guest.life {
                Life::Waiting => guest.is_woken(vcpu, now),
                Life::Parked(shortage) => self.host.frames.is_better_than(shortage),
                Life::Fetching => guest.memory.wanted().is_none(),
                Life::Unstarted | Life::Starting | Life::Running | Life::Ended(_) => false,
            };
            if is_awake {
                self.merger.is_in_hurry = true;
                guest.life = Life::Running;
                if !guest.is_kept() {
                    self.scheduler.wake(index);
                    self.scheduler.charge(index, cost);
                }
            }
        }
    }

    /// No guest can run: sleeps until that changes, or sees to it that it does.
    pub(crate) fn wait_for_something(&mut self, now: Tsc) {
        if self.slots.iter().any(|slot| slot.guest.memory.is_dying()) {
            return;
        }
        if self.merge_in_idle_time() == Progress::Worked || self.reclaim_in_idle_time() == Progress::Worked {
            return;
        }
        let timers = self.slots.iter().map(Slot::wake_up).min();
        let appointment = self.next_appointment().min(self.next_repeat());
        let wake_up = timers.unwrap_or(Tsc::NEVER).min(appointment);
        let is_hopeless = wake_up == Tsc::NEVER && !self.config.is_interactive;
        // Who waits for memory waits for a look, or is stopped.
        if is_hopeless
            && !self.guests().any(|guest| {
                guest.is_kept()
                    || guest.may_go_on()
                    || guest.board.has_device_work()
                    || guest.life == Life::Starting
            })
        {
            self.host.fail(format_args!(
                "every guest waits for an interrupt that nothing will raise"
            ));
            self.has_quit = true;
            return;
        }
        let poll = now.after(self.host.micros(CONSOLE_POLL_US));
        let work = self.next_look(now).min(self.next_reclaim());
        let wake_up = wake_up.min(self.end_of_patience()).min(work);
        self.host.platform.idle(wake_up.min(poll));
    }
}

impl<P: Platform> Host<P> {
    /// The guest waits for its devices, and these for memory, if they have found too little: there may be more now, and what
    /// waits in another queue may bring some. Who sleeps and lacks nothing has ended its wait.
    fn serve_sleeper(&mut self, guest: &mut Guest, now: Tsc, slice: Tsc) {
        if guest.board.has_device_work() {
            self.serve_for_a_while(guest);
        }
        if guest.waits_for_memory() {
            guest.note_shortage(now, slice);
        } else {
            guest.short = None;
        }
    }
}
