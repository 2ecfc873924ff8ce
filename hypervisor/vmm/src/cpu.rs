//! Running a guest: enter, look at the exit, apply its outcome, enter again.
//!
//! This is the path that every exit takes, so it does only what the exit asks for. Whatever may have
//! changed an interrupt, a timer or a condition of the run sets [`Guest::has_news`]; only then the
//! devices are asked and the time of the next entry is worked out anew.

use crate::guest::{Guest, Life};
use crate::host::Host;
use crate::stop::Stop;
use pleat_devices::Pending;
use pleat_overcommit::ledger::Purpose;
use pleat_types::{Event, Injection, Platform, Tsc, Vcpu};

/// What an exit leads to. [`Cpu::run`] applies it; handlers do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Resume {
    /// The instruction is done: go on behind it.
    Next,
    /// The same instruction again, or nothing was interrupted.
    Retry,
    /// The instruction raises this.
    Inject(Event),
    /// The same instruction again once host memory is free for this.
    Park(Purpose),
    /// The same instruction again once a page is back that it needs.
    Fetch,
    /// The instruction is done; others may run first.
    Yield,
    /// HLT with interrupts on: the instruction is done, the next interrupt goes on behind it.
    Halt,
    /// The host has something to look at; then the same instruction again.
    Leave,
    /// The guest resets its machine.
    Reboot,
    /// The guest ends.
    Stop(Stop),
}

/// Why a guest left the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Pause {
    /// Its time slice is over, or the host wants to look at something.
    Over,
    /// It gave the rest of its slice away.
    Yielded,
    /// It waits for an interrupt.
    Waiting,
    /// It waits for host memory for this.
    Parked(Purpose),
    /// It waits for a page of its own.
    Fetching,
    /// It wants a reset.
    Reboot,
    /// It ended.
    Ended(Stop),
}

/// A guest on the processor: what the exit handlers work on.
pub(crate) struct Cpu<'a, P: Platform> {
    pub(crate) vcpu: &'a mut P::Vcpu,
    pub(crate) guest: &'a mut Guest,
    pub(crate) host: &'a mut Host<P>,
}

impl<P: Platform> Cpu<'_, P> {
    /// Runs the guest until it leaves the processor, at the latest at `slice_end`.
    pub(crate) fn run(&mut self, slice_end: Tsc) -> Pause {
        let mut until = self.take_news(slice_end);
        loop {
            let exit = self.host.platform.enter(self.vcpu, until);
            self.guest.count_exit(exit.index());
            match self.handle(exit) {
                Resume::Next => self.vcpu.advance(),
                Resume::Retry => {}
                Resume::Inject(event) => self.inject_fault(event),
                other => {
                    if let Some(pause) = self.leave(other) {
                        return pause;
                    }
                }
            }
            if self.guest.has_news {
                until = self.take_news(slice_end);
                if self.host.wants_attention {
                    return Pause::Over;
                }
            }
        }
    }

    /// Applies an outcome that takes the guest off the processor; `None` if it goes on after all.
    fn leave(&mut self, resume: Resume) -> Option<Pause> {
        match resume {
            Resume::Next | Resume::Retry | Resume::Inject(_) => None,
            Resume::Park(purpose) => Some(Pause::Parked(purpose)),
            Resume::Fetch => Some(Pause::Fetching),
            Resume::Yield => {
                self.vcpu.advance();
                Some(Pause::Yielded)
            }
            Resume::Halt => {
                self.vcpu.advance();
                self.guest.has_news = true;
                // A message that the guest has let through since, or work that waited for memory.
                self.host.serve_for_a_while(self.guest);
                if self.guest.is_beyond_help() {
                    return Some(Pause::Over);
                }
                let is_woken = matches!(
                    self.guest.board.pending_interrupt(self.vcpu.tpr()),
                    Pending::Vector(_)
                );
                (!is_woken).then_some(Pause::Waiting)
            }
            Resume::Leave => Some(Pause::Over),
            Resume::Reboot => Some(Pause::Reboot),
            Resume::Stop(stop) => Some(Pause::Ended(stop)),
        }
    }

    /// A fault of the instruction that exited. While another event is on its way the instruction is
    /// simply tried again: it exits again.
    fn inject_fault(&mut self, event: Event) {
        match self.vcpu.inject(event) {
            Injection::Queued | Injection::Busy => {}
        }
    }

    /// Looks at the devices: puts an interrupt on its way, and says until when the guest may run.
    fn take_news(&mut self, slice_end: Tsc) -> Tsc {
        self.guest.has_news = false;
        let wants_window = self.offer_interrupt();
        if wants_window != self.guest.is_window_open {
            self.guest.is_window_open = wants_window;
            self.vcpu.set_interrupt_window(wants_window);
        }
        slice_end.min(self.guest.deadline())
    }

    /// Delivers the interrupt that is due, if there is one and the guest can take it. Says whether the
    /// guest should exit as soon as it can take one.
    fn offer_interrupt(&mut self) -> bool {
        let pending = self.guest.board.pending_interrupt(self.vcpu.tpr());
        let threshold = match pending {
            Pending::MaskedByTpr(vector) => Some(vector),
            Pending::None | Pending::Vector(_) => None,
        };
        if threshold != self.guest.tpr_threshold {
            self.guest.tpr_threshold = threshold;
            self.vcpu.set_tpr_threshold(threshold);
        }
        let Pending::Vector(vector) = pending else {
            return false;
        };
        if !self.vcpu.can_take_interrupt() || self.vcpu.inject(Event::Interrupt(vector)) == Injection::Busy {
            return true;
        }
        self.guest.board.acknowledge(vector);
        matches!(
            self.guest.board.pending_interrupt(self.vcpu.tpr()),
            Pending::Vector(_)
        )
    }
}

impl Guest {
    /// Whether a waiting guest has something to run for now: an interrupt, or a timer that is due.
    pub(crate) fn is_woken<V: Vcpu>(&mut self, vcpu: &V, now: Tsc) -> bool {
        if self.life != Life::Waiting {
            return false;
        }
        if self.deadline() <= now {
            let time = self.guest_time(now);
            self.board.advance(time);
            self.has_news = true;
        }
        matches!(self.board.pending_interrupt(vcpu.tpr()), Pending::Vector(_))
    }
}
