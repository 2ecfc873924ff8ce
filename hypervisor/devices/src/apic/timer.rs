//! The local APIC timer (SDM 10.5.4): one-shot, periodic, TSC deadline.
//!
//! Nothing ticks here. A running count is the time at which it was loaded, and its end is a deadline. All
//! times are *board ticks* (see [`crate::board`]), except the value of the deadline MSR, which the guest
//! gives in ticks of its own TSC.

/// A deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// How the timer runs: LVT bits 18:17.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    TscDeadline,
    /// The encoding that the SDM reserves: never fires.
    Reserved,
}

impl Mode {
    pub(super) const fn of_lvt(lvt: u32) -> Self {
        match (lvt >> 17) & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// The timer's registers; its LVT entry is kept with the others.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    mode: Mode,
    initial: u32,
    divide: u32,
    /// When the count was (or, after a change of the divisor, would have been) loaded.
    start: u64,
    /// The next end of the count, or the armed TSC deadline.
    deadline: u64,
    /// What the deadline MSR reads.
    tsc_deadline: u64,
    tsc_per_crystal: u32,
    /// Shortest distance of two periodic interrupts in ticks. A guest that asks for less would do nothing
    /// but exit; KVM's `min_timer_period_us` is there for the same reason.
    floor: u64,
}

impl Timer {
    pub(super) const fn new(tsc_per_crystal: u32, floor: u64) -> Self {
        Self {
            mode: Mode::OneShot,
            initial: 0,
            divide: 0,
            start: 0,
            deadline: NEVER,
            tsc_deadline: 0,
            tsc_per_crystal,
            floor,
        }
    }

    pub(super) const fn deadline(&self) -> u64 {
        self.deadline
    }

    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    pub(super) const fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// TSC ticks for one count: the crystal's, times the divisor (SDM figure 10-10: 0b111 divides by 1).
    const fn unit(&self) -> u64 {
        let code = (self.divide & 3) | ((self.divide >> 1) & 4);
        (self.tsc_per_crystal as u64) << ((code + 1) & 7)
    }

    /// The current-count register.
    pub(super) fn current(&self, now: u64) -> u32 {
        let period = u64::from(self.initial) * self.unit();
        if period == 0 || self.deadline == NEVER || !self.mode.counts() {
            return 0;
        }
        let elapsed = now.wrapping_sub(self.start);
        let left = match self.mode {
            Mode::Periodic => period - elapsed % period,
            _ => period.saturating_sub(elapsed),
        };
        u32::try_from(left.div_ceil(self.unit())).unwrap_or(u32::MAX)
    }

    /// A write of the initial count starts the timer, 0 stops it; it is ignored in deadline mode.
    pub(super) fn load(&mut self, count: u32, now: u64) {
        if !self.mode.counts() {
            return;
        }
        self.initial = count;
        self.start = now;
        self.deadline = if count == 0 {
            NEVER
        } else {
            now.saturating_add(self.period())
        };
    }

    fn period(&self) -> u64 {
        let period = u64::from(self.initial) * self.unit();
        if self.mode == Mode::Periodic {
            period.max(self.floor)
        } else {
            period
        }
    }

    /// A new divisor: what is left of the count runs at the new rate.
    pub(super) fn set_divide(&mut self, divide: u32, now: u64) {
        let left = self.current(now);
        self.divide = divide;
        if self.mode.counts() && self.deadline != NEVER {
            let rest = u64::from(left) * self.unit();
            self.start = now.wrapping_sub(u64::from(self.initial - left) * self.unit());
            self.deadline = now.saturating_add(rest);
        }
    }

    /// A write to the timer's LVT entry. Going to or from deadline mode disarms (SDM 10.5.4.1).
    pub(super) fn set_mode(&mut self, mode: Mode) {
        if mode.counts() != self.mode.counts() || mode == Mode::Reserved {
            self.deadline = NEVER;
            self.tsc_deadline = 0;
            self.initial = 0;
        }
        self.mode = mode;
    }

    /// A write of the deadline MSR: `tsc` is the guest's TSC now. 0 disarms; ignored in other modes.
    pub(super) fn arm(&mut self, deadline: u64, tsc: u64, now: u64) {
        if self.mode != Mode::TscDeadline {
            return;
        }
        self.tsc_deadline = deadline;
        self.deadline = if deadline == 0 {
            NEVER
        } else {
            now.saturating_add(deadline.saturating_sub(tsc))
        };
    }

    /// The deadline was reached: what comes next.
    pub(super) fn expire(&mut self, now: u64) {
        match self.mode {
            Mode::Periodic => {
                let period = self.period().max(1);
                let behind = now.saturating_sub(self.deadline) % period;
                self.deadline = now.saturating_add(period - behind);
            }
            _ => {
                self.deadline = NEVER;
                self.tsc_deadline = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four ticks of the TSC to one of the crystal, divided by 1.
    fn timer(mode: Mode) -> Timer {
        let mut timer = Timer::new(4, 1);
        timer.set_mode(mode);
        timer.set_divide(0b1011, 0);
        timer
    }

    #[test]
    fn one_shot_counts_down_once() {
        let mut timer = timer(Mode::OneShot);
        timer.load(100, 1000);
        assert_eq!(timer.deadline(), 1400);
        assert_eq!(
            [1000, 1004, 1399, 1400, 9999].map(|now| timer.current(now)),
            [100, 99, 1, 0, 0]
        );
        timer.expire(1400);
        assert_eq!(
            (timer.deadline(), timer.current(1401), timer.initial()),
            (NEVER, 0, 100)
        );
    }

    #[test]
    fn periodic_keeps_its_phase_and_skips_what_was_missed() {
        let mut timer = timer(Mode::Periodic);
        timer.load(100, 1000);
        timer.expire(1410);
        assert_eq!(timer.deadline(), 1800);
        timer.expire(1000 + 400 * 7 + 1);
        assert_eq!(timer.deadline(), 1000 + 400 * 8);
        assert_eq!(timer.current(1000 + 400 * 7 + 4), 99);
    }

    #[test]
    fn divisors_follow_the_figure() {
        let units = [0b0000, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010, 0b1011].map(|divide| {
            let mut timer = timer(Mode::OneShot);
            timer.set_divide(divide, 0);
            timer.unit() / 4
        });
        assert_eq!(units, [2, 4, 8, 16, 32, 64, 128, 1]);
    }

    #[test]
    fn a_new_divisor_applies_to_what_is_left() {
        let mut timer = timer(Mode::OneShot);
        timer.load(100, 0);
        timer.set_divide(0b0000, 200);
        assert_eq!((timer.current(200), timer.deadline()), (50, 200 + 50 * 8));
    }

    #[test]
    fn a_floor_bounds_the_rate_of_a_periodic_timer() {
        let mut timer = Timer::new(4, 1000);
        timer.set_mode(Mode::Periodic);
        timer.load(1, 0);
        assert_eq!(timer.deadline(), 1000);
        timer.expire(1000);
        assert_eq!(timer.deadline(), 2000);
    }

    #[test]
    fn deadline_mode_arms_disarms_and_reads_zero_after_it_fired() {
        let mut timer = timer(Mode::TscDeadline);
        timer.load(5, 0);
        assert_eq!(timer.deadline(), NEVER);
        timer.arm(5000, 4000, 100);
        assert_eq!((timer.deadline(), timer.tsc_deadline()), (1100, 5000));
        timer.expire(1100);
        assert_eq!((timer.deadline(), timer.tsc_deadline()), (NEVER, 0));
        timer.arm(3000, 4000, 100);
        assert_eq!(timer.deadline(), 100);
        timer.arm(0, 4000, 100);
        assert_eq!(timer.deadline(), NEVER);
        timer.arm(u64::MAX, 0, 5);
        assert_eq!(timer.deadline(), NEVER);
        timer.set_mode(Mode::OneShot);
        assert_eq!(timer.tsc_deadline(), 0);
    }
}
