//! One counter of the 8254, as a function of time.
//!
//! All times are in clocks of the PIT (1.193182 MHz) since the board was switched on. Intel's datasheet
//! (231164) spends one clock more on loading a count; nobody can tell.

/// Which bytes of the count the data port takes and gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Low,
    High,
    Both,
}

/// One counter.
#[derive(Clone, Debug)]
pub(super) struct Channel {
    /// 0 to 5.
    mode: u8,
    access: Access,
    is_bcd: bool,
    /// The count, 1 to 65,536 (10,000 in BCD); `None` from a control word until a count is written.
    reload: Option<u32>,
    /// When counting began: at the load, or at the gate's edge in the modes that wait for one.
    start: Option<u64>,
    /// When the gate stopped the count.
    stopped: Option<u64>,
    has_gate: bool,
    low_byte: Option<u8>,
    reads_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    pub(super) const fn new(has_gate: bool) -> Self {
        Self {
            mode: 0,
            access: Access::Both,
            is_bcd: false,
            reload: None,
            start: None,
            stopped: None,
            has_gate,
            low_byte: None,
            reads_high: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// A control word for this counter with a read/write field that is not "latch".
    pub(super) fn control(&mut self, value: u8) {
        let fresh = Self::new(self.has_gate);
        *self = Self {
            // Modes 6 and 7 are 2 and 3.
            mode: match (value >> 1) & 7 {
                mode @ 0..=5 => mode,
                mode => mode - 4,
            },
            access: match (value >> 4) & 3 {
                1 => Access::Low,
                2 => Access::High,
                _ => Access::Both,
            },
            is_bcd: value & 1 != 0,
            ..fresh
        };
    }

    const fn is_triggered(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    const fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// OUT to the data port; says whether a count was loaded.
    pub(super) fn write(&mut self, value: u8, now: u64) -> bool {
        let count = match (self.access, self.low_byte) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::Both, None) => {
                self.low_byte = Some(value);
                return false;
            }
            (Access::Both, Some(low)) => u16::from(value) << 8 | u16::from(low),
        };
        self.low_byte = None;
        self.load(count, now);
        true
    }

    fn load(&mut self, count: u16, now: u64) {
        self.reload = Some(match (count, self.is_bcd) {
            (0, false) => 0x1_0000,
            (0, true) => 10_000,
            (count, false) => u32::from(count),
            (count, true) => u32::from(from_bcd(count)).max(1),
        });
        if !self.is_triggered() {
            self.start = Some(now);
            self.stopped = if self.has_gate { None } else { Some(now) };
        }
    }

    /// The GATE input changes (counter 2 by port 0x61; the others are wired high).
    pub(super) fn set_gate(&mut self, is_high: bool, now: u64) {
        if is_high == self.has_gate {
            return;
        }
        self.has_gate = is_high;
        if self.reload.is_none() {
            return;
        }
        match (is_high, self.is_triggered()) {
            (true, true) => self.start = Some(now),
            (true, false) => {
                let stopped = self.stopped.take().unwrap_or(now);
                self.start = match self.start {
                    Some(start) if !self.is_periodic() => {
                        Some(start.saturating_add(now.saturating_sub(stopped)))
                    }
                    _ => Some(now),
                };
            }
            (false, true) => {}
            (false, false) => self.stopped = Some(now),
        }
    }

    /// The count and for how long it has run.
    fn running(&self, now: u64) -> Option<(u64, u64)> {
        let reload = u64::from(self.reload?);
        Some((reload, self.stopped.unwrap_or(now).saturating_sub(self.start?)))
    }

    /// The OUT pin.
    pub(super) fn output(&self, now: u64) -> bool {
        let Some((reload, elapsed)) = self.running(now) else {
            return self.mode != 0;
        };
        match self.mode {
            0 | 1 => elapsed >= reload,
            2 => self.stopped.is_some() || elapsed % reload != reload - 1,
            3 => self.stopped.is_some() || elapsed % reload < reload.div_ceil(2),
            _ => elapsed != reload,
        }
    }

    fn count(&self, now: u64) -> u16 {
        let modulus = if self.is_bcd { 10_000 } else { 0x1_0000 };
        let value = match self.running(now) {
            None => 0,
            Some((reload, elapsed)) => match self.mode {
                2 => reload - elapsed % reload,
                // Square wave: counts by two, twice a period.
                3 => (reload & !1).saturating_sub(elapsed % reload.div_ceil(2) * 2),
                _ => (reload + modulus - elapsed % modulus) % modulus,
            },
        };
        let value = u16::try_from(value % modulus).unwrap_or(0);
        if self.is_bcd { to_bcd(value) } else { value }
    }

    /// Freezes the count for reading, unless one is frozen already.
    pub(super) fn latch_count(&mut self, now: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.count(now));
        }
    }

    /// Freezes the status byte of the read-back command.
    pub(super) fn latch_status(&mut self, now: u64) {
        let access = match self.access {
            Access::Low => 0x10,
            Access::High => 0x20,
            Access::Both => 0x30,
        };
        let null_count = if self.reload.is_none() { 0x40 } else { 0 };
        let output = if self.output(now) { 0x80 } else { 0 };
        self.latched_status = self.latched_status.or(Some(
            output | null_count | access | self.mode << 1 | u8::from(self.is_bcd),
        ));
    }

    /// IN from the data port.
    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self
            .latched_count
            .unwrap_or_else(|| self.count(now))
            .to_le_bytes();
        let (byte, is_last) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::Both => {
                self.reads_high = !self.reads_high;
                if self.reads_high {
                    (low, false)
                } else {
                    (high, true)
                }
            }
        };
        if is_last {
            self.latched_count = None;
        }
        byte
    }

    /// The next rising edge of OUT strictly after `now`, for a counter whose gate is high.
    pub(super) fn next_edge(&self, now: u64) -> Option<u64> {
        let (start, reload) = (self.start?, u64::from(self.reload?));
        match self.mode {
            2 | 3 => {
                let periods = now.saturating_sub(start) / reload + 1;
                Some(start.saturating_add(periods.saturating_mul(reload)))
            }
            // Mode 4 has a low clock in between; the edge ends it.
            0 | 4 => Some(start.saturating_add(reload + u64::from(self.mode == 4))),
            _ => None,
        }
        .filter(|edge| *edge > now)
    }
}

fn from_bcd(value: u16) -> u16 {
    [12u32, 8, 4, 0]
        .into_iter()
        .fold(0, |sum, shift| sum * 10 + ((value >> shift) & 0xf).min(9))
}

fn to_bcd(value: u16) -> u16 {
    [1000u16, 100, 10, 1]
        .into_iter()
        .fold(0, |bcd, unit| (bcd << 4) | ((value / unit) % 10))
}
