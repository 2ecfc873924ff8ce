//! PCI configuration space by mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2), bus 0 only.
//!
//! Only the disk's driver looks here: it finds its function, and where no firmware has given that a place among ports
//! and addresses (our ROM does not), it does.

use crate::cpu::{inl, outl};

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// Devices of a bus, and functions of a device.
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// Offsets in the header of a function (PCI 3.0, 6.1).
const IDENTITY: u8 = 0x00;
const COMMAND: u8 = 0x04;
const CLASS: u8 = 0x08;
const HEADER_TYPE: u8 = 0x0c;
const BAR: u8 = 0x10;
/// Base address registers of a function.
const BARS: u8 = 6;

/// Bits of the command register (PCI 3.0, 6.2.2).
pub const ANSWERS_PORTS: u32 = 1 << 0;
/// Answers memory accesses.
pub const ANSWERS_MEMORY: u32 = 1 << 1;
/// May access memory by itself.
pub const IS_MASTER: u32 = 1 << 2;

/// One function of a device on bus 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// The device, 0 to 31.
    pub device: u8,
    /// The function, 0 to 7.
    pub function: u8,
}

impl Function {
    /// All functions that answer, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..DEVICES).flat_map(|device| {
            let first = Self { device, function: 0 };
            let functions = if !first.is_there() {
                0
            } else if first.has_more() {
                FUNCTIONS
            } else {
                1
            };
            (0..functions)
                .map(move |function| Self { device, function })
                .filter(|function| function.is_there())
        })
    }

    /// What nobody answers reads as ones.
    fn is_there(self) -> bool {
        self.read(IDENTITY) != u32::MAX
    }

    /// Its device has functions beside the first (header type, bit 7).
    fn has_more(self) -> bool {
        self.read(HEADER_TYPE) & 1 << 23 != 0
    }

    /// Vendor in the low half, device in the high one.
    pub fn identity(self) -> u32 {
        self.read(IDENTITY)
    }

    /// Class, subclass and programming interface, as one number of 24 bits.
    pub fn class(self) -> u32 {
        self.read(CLASS) >> 8
    }

    /// Reads the 32 bits at a multiple of four.
    pub fn read(self, offset: u8) -> u32 {
        outl(ADDRESS, self.address(offset));
        inl(DATA)
    }

    /// Writes the 32 bits at a multiple of four.
    pub fn write(self, offset: u8, value: u32) {
        outl(ADDRESS, self.address(offset));
        outl(DATA, value);
    }

    /// Gives registers in memory a place where no firmware has: behind all RAM that a PC can have below 4 GiB, and in
    /// front of its interrupt controllers.
    pub fn place_memory(self) {
        const WINDOW: u32 = 0xe000_0000;
        let mut next = WINDOW;
        let mut index = 0;
        while index < BARS {
            let bar = Bar::of(self.bar(index));
            if let Bar::Memory { address: 0, .. } = bar {
                self.set_bar(index, u32::MAX);
                let size = size_of_bar(self.bar(index));
                next = next.next_multiple_of(size.max(1));
                self.set_bar(index, if size == 0 { 0 } else { next });
                next += size;
            }
            index += if bar.is_wide() { 2 } else { 1 };
        }
    }

    /// A base address register as it stands.
    pub fn bar(self, index: u8) -> u32 {
        self.read(BAR + 4 * index)
    }

    /// Gives a base address register a place.
    pub fn set_bar(self, index: u8, value: u32) {
        self.write(BAR + 4 * index, value);
    }

    /// Sets bits of the command register. The status register in the high half is cleared by ones, so it gets zeros.
    pub fn allow(self, bits: u32) {
        self.write(COMMAND, (self.read(COMMAND) & 0xffff) | bits);
    }

    const fn address(self, offset: u8) -> u32 {
        const ENABLE: u32 = 1 << 31;
        let [device, function, offset] = [self.device as u32, self.function as u32, offset as u32];
        ENABLE | device << 11 | function << 8 | (offset & !3)
    }
}

/// What a base address register says (PCI 3.0, 6.2.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bar {
    /// Ports.
    Ports,
    /// Memory, or nothing.
    Memory {
        /// The low half of its address.
        address: u32,
        /// The next register has the high half.
        is_wide: bool,
    },
}

impl Bar {
    const fn of(value: u32) -> Self {
        if value & 1 != 0 {
            return Self::Ports;
        }
        Self::Memory {
            address: value & !0xf,
            is_wide: value & 0b110 == 0b100,
        }
    }

    const fn is_wide(self) -> bool {
        matches!(self, Self::Memory { is_wide: true, .. })
    }
}

/// How much memory a register is for that ones were written to; 0 for a register that is not there.
const fn size_of_bar(answer: u32) -> u32 {
    (!(answer & !0xf)).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_addresses_say_what_they_are_for() {
        assert_eq!(Bar::of(0xc001), Bar::Ports);
        let memory = |address, is_wide| Bar::Memory { address, is_wide };
        assert_eq!(Bar::of(0), memory(0, false));
        assert_eq!(Bar::of(0xe000_000c), memory(0xe000_0000, true));
        assert_eq!([size_of_bar(0xffff_c00c), size_of_bar(0)], [0x4000, 0]);
    }

    #[test]
    fn addresses_are_those_of_mechanism_1() {
        let function = Function {
            device: 1,
            function: 1,
        };
        assert_eq!(function.address(0x20), 0x8000_0920);
        assert_eq!(function.address(0x23), 0x8000_0920);
    }
}
