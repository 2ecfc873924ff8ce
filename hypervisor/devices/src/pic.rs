//! The pair of 8259A interrupt controllers with its edge/level registers.
//!
//! After Intel's 8259A datasheet (231468) and the ELCR of the PIIX chipsets. A request whose line falls
//! before it is acknowledged is forgotten, as the datasheet wants it ("IR inputs must remain high until after
//! the falling edge of the first INTA").

/// The input of the master that the slave drives.
const CASCADE: u8 = 2;

/// Which control word the data port takes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// One 8259A.
#[derive(Clone, Copy, Debug)]
struct Chip {
    /// Requests, latched.
    irr: u8,
    isr: u8,
    imr: u8,
    /// The inputs as they are now.
    lines: u8,
    /// Inputs that are level-triggered.
    elcr: u8,
    base: u8,
    /// The input with the lowest priority; 7 after initialisation.
    lowest: u8,
    expect: Expect,
    /// ICW1 bits: 0 = ICW4 follows, 1 = single.
    icw1: u8,
    /// ICW4 bits: 1 = automatic EOI, 4 = special fully nested.
    icw4: u8,
    rotates_on_auto_eoi: bool,
    is_special_mask: bool,
    reads_isr: bool,
    polls: bool,
}

impl Chip {
    /// As firmware leaves it: initialised, every input masked.
    const fn new(base: u8, elcr: u8) -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0xff,
            lines: 0,
            elcr,
            base,
            lowest: 7,
            expect: Expect::Mask,
            icw1: 1,
            icw4: 1,
            rotates_on_auto_eoi: false,
            is_special_mask: false,
            reads_isr: false,
            polls: false,
        }
    }

    /// The input of highest priority in a set.
    fn first(&self, set: u8) -> Option<(u8, u8)> {
        let shift = (self.lowest + 1) & 7;
        let rotated = set.rotate_right(u32::from(shift));
        if rotated == 0 {
            return None;
        }
        let rank = (rotated.trailing_zeros() & 7) as u8;
        Some((rank, (rank + shift) & 7))
    }

    /// The request that may interrupt now.
    fn pending(&self) -> Option<u8> {
        let (rank, input) = self.first(self.irr & !self.imr)?;
        let mut in_service = self.isr;
        if self.is_special_mask {
            in_service &= !self.imr;
        }
        if self.icw4 & 0x10 != 0 {
            in_service &= !(1 << CASCADE);
        }
        match self.first(in_service) {
            Some((serviced, _)) if serviced <= rank => None,
            _ => Some(input),
        }
    }

    fn set_line(&mut self, input: u8, is_high: bool) {
        let bit = 1 << input;
        let was_high = self.lines & bit != 0;
        if is_high {
            self.lines |= bit;
            if !was_high || self.elcr & bit != 0 {
                self.irr |= bit;
            }
        } else {
            self.lines &= !bit;
            self.irr &= !bit;
        }
    }

    const fn set_levels(&mut self, elcr: u8) {
        self.elcr = elcr;
        self.irr |= self.lines & elcr;
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if self.icw4 & 2 == 0 {
            self.isr |= bit;
        } else if self.rotates_on_auto_eoi {
            self.lowest = input;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            // ICW1: level mode (bit 3) is ignored, the ELCR rules.
            let fresh = Self::new(self.base, self.elcr);
            *self = Self {
                imr: 0,
                lines: self.lines,
                expect: Expect::Icw2,
                icw1: value,
                icw4: 0,
                ..fresh
            };
            self.irr = self.lines & self.elcr;
        } else if value & 8 != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let named = value & 7;
        let serviced = if self.is_special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        };
        match value >> 5 {
            0 | 4 => self.rotates_on_auto_eoi = value >> 5 == 4,
            1 | 5 => {
                if let Some((_, input)) = self.first(serviced) {
                    self.isr &= !(1 << input);
                    if value >> 5 == 5 {
                        self.lowest = input;
                    }
                }
            }
            3 => self.isr &= !(1 << named),
            6 => self.lowest = named,
            7 => {
                self.isr &= !(1 << named);
                self.lowest = named;
            }
            _ => {}
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        self.polls = value & 4 != 0;
        if value & 2 != 0 {
            self.reads_isr = value & 1 != 0;
        }
        if value & 0x40 != 0 {
            self.is_special_mask = value & 0x20 != 0;
        }
    }

    fn write_data(&mut self, value: u8) {
        let needs_icw4 = if self.icw1 & 1 != 0 {
            Expect::Icw4
        } else {
            Expect::Mask
        };
        match self.expect {
            Expect::Mask => self.imr = value,
            Expect::Icw2 => {
                self.base = value & 0xf8;
                self.expect = if self.icw1 & 2 == 0 {
                    Expect::Icw3
                } else {
                    needs_icw4
                };
            }
            // The wiring is fixed, whatever the guest believes.
            Expect::Icw3 => self.expect = needs_icw4,
            Expect::Icw4 => {
                self.icw4 = value;
                self.expect = Expect::Mask;
            }
        }
    }

    fn read_command(&self) -> u8 {
        if self.reads_isr { self.isr } else { self.irr }
    }
}

/// Both controllers, wired as in a PC.
#[derive(Clone, Debug)]
pub(crate) struct Pic {
    master: Chip,
    slave: Chip,
    /// The vector that the INT output offers, kept up to date so that asking costs nothing.
    offered: Option<u8>,
}

impl Pic {
    /// With these lines (a bit for each) level-triggered, as firmware leaves those that PCI devices share.
    pub(crate) const fn new(levels: u16) -> Self {
        let [master, slave] = levels.to_le_bytes();
        Self {
            master: Chip::new(0x08, master),
            slave: Chip::new(0x70, slave),
            offered: None,
        }
    }

    /// The vector to be delivered, while the INT output is high.
    pub(crate) const fn offered(&self) -> Option<u8> {
        self.offered
    }

    /// Whether a rising edge on this input (0 to 7) could make a difference.
    pub(crate) const fn is_open(&self, irq: u8) -> bool {
        self.master.imr & (1 << (irq & 7)) == 0
    }

    /// Whether a rising edge on this input would lead to an interrupt now.
    pub(crate) fn would_offer(&self, irq: u8) -> bool {
        let mut after = self.clone();
        after.set_line(irq, false);
        after.set_line(irq, true);
        after.offered.is_some()
    }

    /// Recomputes the cascade and the output after a change.
    fn settle(&mut self) {
        let from_slave = self.slave.pending();
        self.master.set_line(CASCADE, from_slave.is_some());
        self.offered = self.master.pending().map(|input| match (input, from_slave) {
            (CASCADE, Some(input)) => self.slave.base | input,
            _ => self.master.base | input,
        });
    }

    /// Drives an interrupt line, 0 to 15. Line 2 is the cascade and cannot be driven.
    pub(crate) fn set_line(&mut self, irq: u8, is_high: bool) {
        let (chip, input) = if irq < 8 {
            (&mut self.master, irq)
        } else {
            (&mut self.slave, irq & 7)
        };
        if (chip.lines & (1 << input) != 0) != is_high {
            chip.set_line(input, is_high);
            self.settle();
        }
    }

    /// The INTA cycle for what [`Pic::offered`] says.
    pub(crate) fn acknowledge(&mut self) {
        if let Some(input) = self.master.pending() {
            self.master.acknowledge(input);
            if let (CASCADE, Some(input)) = (input, self.slave.pending()) {
                self.slave.acknowledge(input);
                // The slave's output falls between two of its interrupts, so that the next is an edge.
                self.master.lines &= !(1 << CASCADE);
            }
            self.settle();
        }
    }

    /// IN from 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1.
    pub(crate) fn read(&mut self, port: u16) -> u8 {
        match port {
            0x4d0 => return self.master.elcr,
            0x4d1 => return self.slave.elcr,
            _ => {}
        }
        let chip = if port < 0xa0 {
            &mut self.master
        } else {
            &mut self.slave
        };
        if chip.polls {
            chip.polls = false;
            let Some(input) = chip.pending() else { return 0 };
            chip.acknowledge(input);
            self.settle();
            return 0x80 | input;
        }
        if port & 1 == 0 {
            chip.read_command()
        } else {
            chip.imr
        }
    }

    /// OUT to one of the same ports.
    pub(crate) fn write(&mut self, port: u16, value: u8) {
        match port {
            // The timer, keyboard, cascade, RTC and FPU lines are always edges.
            0x4d0 => self.master.set_levels(value & 0xf8),
            0x4d1 => self.slave.set_levels(value & 0xde),
            0x20 => self.master.write_command(value),
            0xa0 => self.slave.write_command(value),
            0x21 => self.master.write_data(value),
            _ => self.slave.write_data(value),
        }
        self.settle();
    }
}

#[cfg(test)]
mod tests;
