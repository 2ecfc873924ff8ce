//! A 16550A serial port without a wire: what is written is out at once, and nothing is ever lost on input
//! as long as the backlog holds it. After National's PC16550D datasheet.

const IER_RECEIVE: u8 = 1;
const IER_TRANSMIT: u8 = 2;
const IER_MODEM: u8 = 8;
const LCR_DLAB: u8 = 0x80;
const MCR_OUT2: u8 = 8;
const MCR_LOOP: u8 = 0x10;
const LSR_DATA: u8 = 1;
/// Transmitter holding register and shift register empty: always.
const LSR_IDLE: u8 = 0x60;
/// DCD, DSR and CTS: somebody listens.
const MSR_CONNECTED: u8 = 0xb0;
const FIFO_DEPTH: usize = 16;

const BACKLOG: usize = 256;
const OUTPUT: usize = 512;
/// From here on the owner is asked to drain even without a line end.
const OUTPUT_HIGH: usize = OUTPUT - 64;

/// What a write leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Written {
    /// Something inside.
    Register,
    /// A byte went out.
    Byte,
    /// A byte went out, and the output should be drained.
    Drain,
}

/// The serial port.
#[derive(Clone, Debug)]
pub(crate) struct Uart {
    divisor: [u8; 2],
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    /// Changes of the modem lines since MSR was read.
    msr_delta: u8,
    /// The transmitter ran empty and nobody has been told.
    is_transmit_due: bool,
    backlog: [u8; BACKLOG],
    backlog_first: usize,
    backlog_len: usize,
    output: [u8; OUTPUT],
    output_len: usize,
    lost: u64,
}

impl Uart {
    pub(crate) const fn new() -> Self {
        Self {
            // 9,600 baud.
            divisor: [12, 0],
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            msr_delta: 0,
            is_transmit_due: false,
            backlog: [0; BACKLOG],
            backlog_first: 0,
            backlog_len: 0,
            output: [0; OUTPUT],
            output_len: 0,
            lost: 0,
        }
    }

    /// Takes a typed byte, unless the backlog is full.
    pub(crate) fn receive(&mut self, byte: u8) -> bool {
        let has_room = self.backlog_len < BACKLOG;
        if has_room {
            self.backlog[(self.backlog_first + self.backlog_len) % BACKLOG] = byte;
            self.backlog_len += 1;
        }
        has_room
    }

    /// What was written and not cleared.
    pub(crate) fn output(&self) -> &[u8] {
        self.output.get(..self.output_len).unwrap_or(&[])
    }

    pub(crate) const fn clear_output(&mut self) {
        self.output_len = 0;
    }

    /// Bytes that found the output buffer full.
    pub(crate) const fn lost(&self) -> u64 {
        self.lost
    }

    /// The interrupt line. On a PC it is gated by OUT2, which loop-back mode turns off.
    pub(crate) const fn has_interrupt(&self) -> bool {
        self.mcr & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2 && self.cause() != 1
    }

    /// Bits 3:0 of IIR: the cause of highest priority. Line errors cannot happen.
    const fn cause(&self) -> u8 {
        if self.ier & IER_RECEIVE != 0 && self.backlog_len > 0 {
            // Below the trigger level the time-out interrupt comes, at once: there is no line to wait for.
            if self.backlog_len >= self.trigger() {
                0x4
            } else {
                0xc
            }
        } else if self.ier & IER_TRANSMIT != 0 && self.is_transmit_due {
            0x2
        } else if self.ier & IER_MODEM != 0 && self.msr_delta != 0 {
            0
        } else {
            1
        }
    }

    const fn has_fifo(&self) -> bool {
        self.fcr & 1 != 0
    }

    const fn trigger(&self) -> usize {
        match (self.has_fifo(), self.fcr >> 6) {
            (true, 1) => 4,
            (true, 2) => 8,
            (true, 3) => 14,
            _ => 1,
        }
    }

    /// Modem lines, bits 7:4 of MSR. Loop-back connects the outputs of MCR to them.
    const fn modem_lines(&self) -> u8 {
        if self.mcr & MCR_LOOP == 0 {
            return MSR_CONNECTED;
        }
        (self.mcr & 2) << 3 | (self.mcr & 1) << 5 | (self.mcr & 4) << 4 | (self.mcr & 8) << 4
    }

    /// IN from register `offset`, 0 to 7.
    pub(crate) fn read(&mut self, offset: u16) -> u8 {
        let has_divisor = self.lcr & LCR_DLAB != 0;
        match offset {
            0 if has_divisor => self.divisor[0],
            0 => self.take_byte(),
            1 if has_divisor => self.divisor[1],
            1 => self.ier,
            2 => {
                let cause = self.cause();
                if cause == 2 {
                    self.is_transmit_due = false;
                }
                if self.has_fifo() { cause | 0xc0 } else { cause }
            }
            3 => self.lcr,
            4 => self.mcr,
            5 if self.backlog_len > 0 => LSR_IDLE | LSR_DATA,
            5 => LSR_IDLE,
            6 => self.modem_lines() | core::mem::take(&mut self.msr_delta),
            _ => self.scratch,
        }
    }

    fn take_byte(&mut self) -> u8 {
        if self.backlog_len == 0 {
            return 0;
        }
        let byte = self.backlog[self.backlog_first];
        self.drop_input(1);
        byte
    }

    const fn drop_input(&mut self, count: usize) {
        self.backlog_first = (self.backlog_first + count) % BACKLOG;
        self.backlog_len -= count;
    }

    /// OUT to register `offset`, 0 to 7.
    pub(crate) fn write(&mut self, offset: u16, value: u8) -> Written {
        let has_divisor = self.lcr & LCR_DLAB != 0;
        match offset {
            0 if has_divisor => self.divisor[0] = value,
            0 => return self.transmit(value),
            1 if has_divisor => self.divisor[1] = value,
            1 => {
                // Enabling the interrupt while the transmitter is empty raises it.
                if value & !self.ier & IER_TRANSMIT != 0 {
                    self.is_transmit_due = true;
                }
                self.ier = value & 0xf;
            }
            2 => self.write_fcr(value),
            3 => self.lcr = value,
            4 => self.write_mcr(value & 0x1f),
            7 => self.scratch = value,
            // LSR and MSR: writes are for factory tests.
            _ => {}
        }
        Written::Register
    }

    #[inline]
    fn transmit(&mut self, byte: u8) -> Written {
        self.is_transmit_due = true;
        if self.mcr & MCR_LOOP != 0 {
            if !self.receive(byte) {
                self.lost += 1;
            }
            return Written::Register;
        }
        let Some(slot) = self.output.get_mut(self.output_len) else {
            self.lost += 1;
            return Written::Drain;
        };
        *slot = byte;
        self.output_len += 1;
        if byte == b'\n' || self.output_len >= OUTPUT_HIGH {
            Written::Drain
        } else {
            Written::Byte
        }
    }

    /// The FIFO is the front of the backlog; clearing or switching it drops that much and no more.
    fn write_fcr(&mut self, value: u8) {
        if (value ^ self.fcr) & 1 != 0 || value & 3 == 3 {
            let depth = if self.has_fifo() || value & 1 != 0 {
                FIFO_DEPTH
            } else {
                1
            };
            self.drop_input(self.backlog_len.min(depth));
        }
        self.fcr = if value & 1 != 0 { value & 0xc9 } else { 0 };
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.modem_lines();
        self.mcr = value;
        let after = self.modem_lines();
        // The ring indicator (bit 6) counts only when it goes away.
        let changed = (before ^ after) & !(after & 0x40);
        self.msr_delta |= changed >> 4;
    }
}

#[cfg(test)]
mod tests;
