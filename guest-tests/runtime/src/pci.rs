//! PCI configuration space by mechanism 1 (PCI 3.0, 3.2.2.3.2): the functions of bus 0, their base addresses and
//! capabilities.

use crate::cpu;
use crate::window::Window;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
/// Devices of a bus.
pub const DEVICES: u8 = 32;
/// The command register.
pub const COMMAND: u8 = 0x04;
/// Command: answers at its ports.
pub const COMMAND_IO: u16 = 1;
/// Command: answers at its memory.
pub const COMMAND_MEMORY: u16 = 2;
/// Command: may read and write memory by itself.
pub const COMMAND_MASTER: u16 = 4;
/// Command: does not raise its interrupt line.
pub const COMMAND_NO_LINE: u16 = 1 << 10;
const BASES: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;
const INTERRUPT_LINE: u8 = 0x3c;
const NO_VENDOR: u16 = 0xffff;
/// More capabilities do not fit into the configuration space: a longer list has a loop.
const CAPABILITIES_MAX: usize = 48;

/// Function 0 of a device on bus 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    device: u8,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $port_in:ident, $port_out:ident, $size:literal) => {
        #[doc = concat!("A ", $size, " of its configuration space.")]
        #[must_use]
        pub fn $read(self, register: u8) -> $type {
            self.select(register);
            cpu::$port_in(DATA + u16::from(register & 3))
        }

        #[doc = concat!("Writes a ", $size, " of its configuration space.")]
        pub fn $write(self, register: u8, value: $type) {
            self.select(register);
            cpu::$port_out(DATA + u16::from(register & 3), value);
        }
    };
}

impl Function {
    access!(read_u8, write_u8, u8, port_in_u8, port_out_u8, "byte");
    access!(read_u16, write_u16, u16, port_in_u16, port_out_u16, "word");
    access!(read_u32, write_u32, u32, port_in_u32, port_out_u32, "doubleword");

    /// The function of this device, whether it is there or not.
    #[must_use]
    pub const fn at(device: u8) -> Self {
        Self {
            device: device % DEVICES,
        }
    }

    /// The first function with this identity.
    #[must_use]
    pub fn find(vendor: u16, id: u16) -> Option<Self> {
        (0..DEVICES)
            .map(Self::at)
            .find(|function| function.read_u16(0) == vendor && function.read_u16(2) == id)
    }

    /// There is a device.
    #[must_use]
    pub fn exists(self) -> bool {
        self.read_u16(0) != NO_VENDOR
    }

    fn select(self, register: u8) {
        let address = ENABLE | u32::from(self.device) << 11 | u32::from(register & !3);
        cpu::port_out_u32(ADDRESS, address);
    }

    /// Lets it answer, and read and write memory.
    pub fn switch_on(self) {
        let command = self.read_u16(COMMAND);
        self.write_u16(COMMAND, command | COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
    }

    /// Where a base address register points to (6.2.5.1).
    #[must_use]
    pub fn base(self, index: u8) -> Window {
        let register = BASES + 4 * index;
        let low = self.read_u32(register);
        if low & 1 != 0 {
            #[expect(clippy::cast_possible_truncation, reason = "ports have 16 bits")]
            let port = low as u16 & !3;
            return Window::Ports(port);
        }
        let is_64_bit = low >> 1 & 3 == 2;
        let high = if is_64_bit { self.read_u32(register + 4) } else { 0 };
        Window::Memory(u64::from(high) << 32 | u64::from(low & !0xf))
    }

    /// Its capabilities: which, and where.
    pub fn capabilities(self) -> impl Iterator<Item = (u8, u8)> {
        let mut next = self.read_u8(CAPABILITIES) & !3;
        core::iter::from_fn(move || {
            let place = (next != 0).then_some(next)?;
            next = self.read_u8(place + 1) & !3;
            Some((self.read_u8(place), place))
        })
        .take(CAPABILITIES_MAX)
    }

    /// The input of the 8259 pair that its interrupt pin is wired to, as firmware left a note of it.
    #[must_use]
    pub fn interrupt_line(self) -> u8 {
        self.read_u8(INTERRUPT_LINE)
    }
}
