//! The 8254 interval timer, ports 0x40 to 0x43, and the speaker port 0x61 that drives its counter 2.
//!
//! Counter 0 drives IRQ 0, counter 2 is what old calibration loops watch, counter 1 (DRAM refresh) counts
//! for nobody. Nothing ticks: counts are computed from the board's time when they are read.

mod channel;

use channel::Channel;

use crate::GuestTime;
use crate::apic::NEVER;

/// A third of the colour burst of American television, rounded as all software does.
const PIT_HZ: u64 = 1_193_182;
/// A refresh request, which port 0x61 shows as a toggling bit, comes every 15 microseconds or so.
const REFRESH_CLOCKS: u64 = 18;

/// The timer.
#[derive(Clone, Debug)]
pub(crate) struct Pit {
    channels: [Channel; 3],
    /// Bits 1:0 of port 0x61: counter 2's gate, and the speaker that nobody hears.
    speaker: u8,
    tsc_hz: u64,
    /// Shortest distance of two interrupts in ticks, as for the local APIC's timer.
    floor: u64,
    /// The board tick of counter 0's next rising edge.
    deadline: u64,
}

fn scale(value: u64, to: u64, from: u64) -> u64 {
    let wide = u128::from(value) * u128::from(to) / u128::from(from.max(1));
    u64::try_from(wide).unwrap_or(NEVER)
}

impl Pit {
    pub(crate) const fn new(tsc_hz: u64, floor: u64) -> Self {
        Self {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            speaker: 0,
            tsc_hz,
            floor,
            deadline: NEVER,
        }
    }

    /// When counter 0 next raises IRQ 0, in ticks since the board was switched on.
    pub(crate) const fn deadline(&self) -> u64 {
        self.deadline
    }

    fn clock(&self, time: GuestTime) -> u64 {
        scale(time.ticks, PIT_HZ, self.tsc_hz)
    }

    /// Finds counter 0's next edge.
    fn schedule(&mut self, clock: u64, earliest: u64) {
        // One tick more, so that the clock has surely reached the edge when the deadline has come.
        self.deadline = match self.channels[0].next_edge(clock) {
            Some(edge) => scale(edge, self.tsc_hz, PIT_HZ).saturating_add(1).max(earliest),
            None => NEVER,
        };
    }

    /// Whether an edge of counter 0 has come since the last call.
    #[inline]
    pub(crate) fn advance(&mut self, time: GuestTime) -> bool {
        if self.deadline == NEVER || time.ticks < self.deadline {
            return false;
        }
        let earliest = time.ticks.saturating_add(self.floor);
        self.schedule(self.clock(time), earliest);
        true
    }

    /// The level of counter 0's output, which is IRQ 0.
    pub(crate) fn output(&self, time: GuestTime) -> bool {
        self.channels[0].output(self.clock(time))
    }

    /// IN from 0x40 to 0x43 or 0x61.
    pub(crate) fn read(&mut self, port: u16, time: GuestTime) -> u8 {
        let clock = self.clock(time);
        match port {
            0x40..=0x42 => self.channels[usize::from(port & 3)].read(clock),
            0x61 => {
                let refresh = if clock / REFRESH_CLOCKS % 2 == 1 { 0x10 } else { 0 };
                let output = if self.channels[2].output(clock) { 0x20 } else { 0 };
                self.speaker | refresh | output
            }
            // The control register cannot be read.
            _ => 0xff,
        }
    }

    /// OUT to one of the same ports; says whether counter 0 was set anew.
    pub(crate) fn write(&mut self, port: u16, value: u8, time: GuestTime) -> bool {
        let clock = self.clock(time);
        let is_changed = match port {
            0x40..=0x42 => self.channels[usize::from(port & 3)].write(value, clock) && port == 0x40,
            0x61 => {
                self.speaker = value & 3;
                self.channels[2].set_gate(value & 1 != 0, clock);
                false
            }
            _ => self.control(value, clock),
        };
        if is_changed {
            self.schedule(clock, 0);
        }
        is_changed
    }

    fn control(&mut self, value: u8, clock: u64) -> bool {
        let Some(channel) = self.channels.get_mut(usize::from(value >> 6)) else {
            self.read_back(value, clock);
            return false;
        };
        if value & 0x30 == 0 {
            channel.latch_count(clock);
            return false;
        }
        channel.control(value);
        value >> 6 == 0
    }

    /// The 8254's read-back command: bits 3:1 name counters; clear bits 5 and 4 latch count and status.
    fn read_back(&mut self, value: u8, clock: u64) {
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if value & (2 << index) != 0 {
                if value & 0x20 == 0 {
                    channel.latch_count(clock);
                }
                if value & 0x10 == 0 {
                    channel.latch_status(clock);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
