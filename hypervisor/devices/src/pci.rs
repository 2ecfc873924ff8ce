//! PCI configuration space by mechanism 1: the address latch at 0xCF8 and the data window at 0xCFC.
//!
//! Bus 0 holds a table of functions, all of them function 0 of the device with their index. The first is
//! the host bridge that Linux's `pci_sanity_check` looks for; virtio functions come after it.

use pleat_types::PortSize;

/// One function: the 16 dwords of its header, and which bits of them a write changes.
///
/// A base address register is a run of writable bits above its size, so that sizing it needs no code.
#[derive(Clone, Copy, Debug)]
struct Function {
    header: [u32; 16],
    writable: [u32; 16],
}

impl Function {
    /// The 440FX, whose driver in every system expects nothing of it.
    const fn host_bridge() -> Self {
        let mut header = [0; 16];
        header[0] = 0x1237_8086;
        header[2] = 0x0600_0002;
        let mut writable = [0; 16];
        // Command: I/O, memory and master, as for any function; interrupt line: a note for software.
        writable[1] = 0x0007;
        writable[15] = 0x00ff;
        Self { header, writable }
    }
}

/// Bus 0 and its configuration ports.
#[derive(Clone, Debug)]
pub(crate) struct PciBus {
    address: u32,
    functions: [Function; 1],
}

impl PciBus {
    pub(crate) const fn new() -> Self {
        Self {
            address: 0,
            functions: [Function::host_bridge()],
        }
    }

    /// The function and the dword that the latch points at (PCI 3.0, 3.2.2.3.2).
    fn target(&mut self) -> Option<(&mut Function, usize)> {
        let is_on_bus_0 = self.address & 0x80ff_0700 == 0x8000_0000;
        let device = ((self.address >> 11) & 0x1f) as usize;
        let dword = ((self.address >> 2) & 0x3f) as usize;
        self.functions
            .get_mut(device)
            .filter(|_| is_on_bus_0)
            .map(|function| (function, dword))
    }

    /// IN from 0xCF8 to 0xCFF. Only a dword reaches the latch; on a PC smaller ones go elsewhere, and Linux's
    /// probe of mechanism 2 relies on that.
    pub(crate) fn read(&mut self, port: u16, size: PortSize) -> u32 {
        if port < 0xcfc {
            let is_latch = port == 0xcf8 && size == PortSize::Dword;
            return if is_latch { self.address } else { size.mask() };
        }
        let value = match self.target() {
            None => u32::MAX,
            Some((function, dword)) => function.header.get(dword).copied().unwrap_or(0),
        };
        // What reaches past the window reads ones.
        let shift = 8 * u32::from(port & 3);
        let beyond = u32::MAX.checked_shl(32 - shift).unwrap_or(0);
        ((value >> shift) | beyond) & size.mask()
    }

    /// OUT to 0xCF8 to 0xCFF.
    pub(crate) fn write(&mut self, port: u16, size: PortSize, value: u32) {
        if port == 0xcf8 && size == PortSize::Dword {
            // Bits 1:0 and the reserved ones do not exist.
            self.address = value & 0x80ff_fffc;
        }
        if port < 0xcfc {
            return;
        }
        let shift = 8 * u32::from(port & 3);
        let lanes = size.mask() << shift;
        if let Some((function, dword)) = self.target()
            && let (Some(register), Some(writable)) =
                (function.header.get_mut(dword), function.writable.get(dword))
        {
            let changed = writable & lanes;
            *register = *register & !changed | (value << shift) & changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PortSize::{Byte, Dword, Word};

    fn config(bus: &mut PciBus, address: u32) -> u32 {
        bus.write(0xcf8, Dword, 0x8000_0000 | address);
        bus.read(0xcfc, Dword)
    }

    /// `pci_check_type1` and `pci_check_type2` of Linux's arch/x86/pci/direct.c.
    #[test]
    fn linux_finds_mechanism_1_and_not_2() {
        let mut bus = PciBus::new();
        bus.write(0xcfb, Byte, 1);
        assert_eq!(bus.read(0xcf8, Dword), 0);
        bus.write(0xcf8, Dword, 0x8000_0000);
        assert_eq!(bus.read(0xcf8, Dword), 0x8000_0000);
        for port in [0xcfb, 0xcf8, 0xcfa] {
            bus.write(port, Byte, 0);
        }
        assert_eq!((bus.read(0xcf8, Byte), bus.read(0xcfa, Byte)), (0xff, 0xff));
        assert_eq!(bus.read(0xcf8, Dword), 0x8000_0000);
    }

    #[test]
    fn bus_0_has_a_host_bridge_and_nothing_else() {
        let mut bus = PciBus::new();
        for target in 0..0x1_0000u32 {
            let id = config(&mut bus, target << 8);
            assert_eq!(
                id,
                if target == 0 { 0x1237_8086 } else { u32::MAX },
                "{target:#x}"
            );
        }
        // pci_sanity_check reads the class as a word.
        bus.write(0xcf8, Dword, 0x8000_0008);
        assert_eq!(bus.read(0xcfe, Word), 0x0600);
        assert_eq!(config(&mut bus, 0xfc), 0);
    }

    #[test]
    fn a_closed_latch_reads_ones() {
        let mut bus = PciBus::new();
        bus.write(0xcf8, Dword, 0);
        assert_eq!(bus.read(0xcfc, Dword), u32::MAX);
    }

    #[test]
    fn every_width_and_place_shows_the_same_bytes() {
        let mut bus = PciBus::new();
        bus.write(0xcf8, Dword, 0x8000_0000);
        assert_eq!(
            [0xcfc, 0xcfd, 0xcfe, 0xcff].map(|port| bus.read(port, Byte)),
            [0x86, 0x80, 0x37, 0x12]
        );
        assert_eq!(
            [0xcfc, 0xcfd, 0xcfe].map(|port| bus.read(port, Word)),
            [0x8086, 0x3780, 0x1237]
        );
        assert_eq!(
            (bus.read(0xcff, Word), bus.read(0xcfe, Dword)),
            (0xff12, 0xffff_1237)
        );
    }

    #[test]
    fn only_writable_bits_change_and_only_in_the_lanes_written() {
        let mut bus = PciBus::new();
        bus.write(0xcf8, Dword, 0x8000_0004);
        bus.write(0xcfc, Dword, u32::MAX);
        assert_eq!(bus.read(0xcfc, Dword), 7);
        bus.write(0xcfd, Byte, 0);
        assert_eq!(bus.read(0xcfc, Dword), 7);
        bus.write(0xcfc, Word, 2);
        assert_eq!(bus.read(0xcfc, Dword), 2);
        // The base address registers of the bridge do not exist: sizing finds none.
        bus.write(0xcf8, Dword, 0x8000_0010);
        bus.write(0xcfc, Dword, u32::MAX);
        assert_eq!(bus.read(0xcfc, Dword), 0);
    }
}
