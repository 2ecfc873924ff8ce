//! PCI configuration space by mechanism 1: the address latch at 0xCF8 and the data window at 0xCFC.
//!
//! Bus 0 holds the host bridge that Linux's `pci_sanity_check` looks for as device 0, and behind it a fixed place
//! for each kind of virtio device, all of them function 0. A place without a device reads ones.

mod access;
mod function;

use pleat_types::{Gpa, PortSize};

pub(crate) use function::Identity;
use function::{ACCESS_DATA, Bridge, IO_BYTES, VirtioFunction};

/// Places for virtio devices: devices 1 to 5.
pub(crate) const VIRTIO_PLACES: usize = 5;
/// I/O ports below are the ISA bus's: no base address register reaches them, as behind a bridge that forwards a
/// window of ports. It keeps a guest from laying a device over its UART.
pub(crate) const FIRST_PCI_PORT: u16 = 0x1000;
/// In place of a base: no port number, cut to a multiple of `IO_BYTES`, equals it.
const NOWHERE: u16 = 1;

/// The page of guest memory that the devices' MSI-X tables lie in at first: the start of the hole for devices. It is
/// ordinary RAM, but for the guest's memory map.
pub const MSIX_PAGE: Gpa = Gpa::new(0xc000_0000);

/// Bus 0 and its configuration ports.
#[derive(Clone, Debug)]
pub(crate) struct PciBus {
    address: u32,
    bridge: Bridge,
    functions: [Option<VirtioFunction>; VIRTIO_PLACES],
    /// Where each of them answers to I/O now.
    io_bases: [u16; VIRTIO_PLACES],
}

/// What the latch points at.
enum Target {
    Bridge,
    Virtio(usize),
}

impl PciBus {
    /// With these devices in their places, as firmware leaves them: with addresses, and turned off.
    pub(crate) fn new(identities: [Option<Identity>; VIRTIO_PLACES]) -> Self {
        let mut place = 0;
        Self {
            address: 0,
            bridge: Bridge::new(),
            functions: identities.map(|identity| {
                place += 1;
                identity.map(|identity| VirtioFunction::new(identity, place))
            }),
            io_bases: [NOWHERE; VIRTIO_PLACES],
        }
    }

    /// The virtio device in this place.
    #[inline]
    pub(crate) fn function(&self, place: usize) -> Option<&VirtioFunction> {
        self.functions.get(place)?.as_ref()
    }

    /// The same, to change what it shows.
    pub(crate) fn function_mut(&mut self, place: usize) -> Option<&mut VirtioFunction> {
        self.functions.get_mut(place)?.as_mut()
    }

    /// The place of the virtio device that answers at this port, and the offset in its window.
    #[inline]
    pub(crate) fn decode(&self, port: u16) -> Option<(usize, u16)> {
        let base = port & !(IO_BYTES - 1);
        let place = self.io_bases.iter().position(|&at| at == base)?;
        Some((place, port - base))
    }

    /// The function and the dword that the latch points at (PCI 3.0, 3.2.2.3.2).
    fn target(&self) -> Option<(Target, u8)> {
        let is_on_bus_0 = self.address & 0x80ff_0700 == 0x8000_0000;
        let dword = ((self.address >> 2) & 0x3f) as u8;
        let target = match ((self.address >> 11) & 0x1f) as usize {
            0 => Target::Bridge,
            device => Target::Virtio(device - 1),
        };
        is_on_bus_0.then_some((target, dword))
    }

    /// The place and the registers of the virtio device that an access to this port is for, by way of its capability for
    /// that: where it is one to the capability's data.
    pub(crate) fn accessed(&self, port: u16) -> Option<(usize, u16, PortSize)> {
        match self.target()? {
            (Target::Virtio(place), ACCESS_DATA) if port >= 0xcfc => {
                let (offset, size) = self.function(place)?.accessed()?;
                Some((place, offset, size))
            }
            _ => None,
        }
    }

    /// What was read there.
    pub(crate) fn set_accessed(&mut self, place: usize, value: u32) {
        if let Some(function) = self.function_mut(place) {
            function.set_accessed(value);
        }
    }

    /// What was written to be written there.
    pub(crate) fn access_data(&self, place: usize) -> u32 {
        self.function(place)
            .map_or(0, |function| function.dword(ACCESS_DATA))
    }

    fn dword(&self) -> u32 {
        let Some((target, dword)) = self.target() else {
            return u32::MAX;
        };
        match target {
            Target::Bridge => self.bridge.dword(dword),
            Target::Virtio(place) => match self.functions.get(place) {
                Some(Some(function)) => function.dword(dword),
                _ => u32::MAX,
            },
        }
    }

    /// IN from 0xCF8 to 0xCFF. Only a dword reaches the latch; on a PC smaller ones go elsewhere, and Linux's
    /// probe of mechanism 2 relies on that.
    pub(crate) fn read(&self, port: u16, size: PortSize) -> u32 {
        if port < 0xcfc {
            let is_latch = port == 0xcf8 && size == PortSize::Dword;
            return if is_latch { self.address } else { size.mask() };
        }
        // What reaches past the window reads ones.
        let shift = 8 * u32::from(port & 3);
        let beyond = u32::MAX.checked_shl(32 - shift).unwrap_or(0);
        ((self.dword() >> shift) | beyond) & size.mask()
    }

    /// OUT to 0xCF8 to 0xCFF; gives the place of the virtio device whose registers it wrote.
    pub(crate) fn write(&mut self, port: u16, size: PortSize, value: u32) -> Option<usize> {
        if port == 0xcf8 && size == PortSize::Dword {
            // Bits 1:0 and the reserved ones do not exist.
            self.address = value & 0x80ff_fffc;
        }
        if port < 0xcfc {
            return None;
        }
        let shift = 8 * u32::from(port & 3);
        let lanes = size.mask() << shift;
        let (target, dword) = self.target()?;
        match target {
            Target::Bridge => {
                self.bridge.write(dword, value << shift, lanes);
                None
            }
            Target::Virtio(place) => {
                let function = self.functions.get_mut(place)?.as_mut()?;
                function.write(dword, value << shift, lanes);
                let base = function.io_base().filter(|&base| base >= FIRST_PCI_PORT);
                *self.io_bases.get_mut(place)? = base.unwrap_or(NOWHERE);
                Some(place)
            }
        }
    }
}

#[cfg(test)]
mod tests;
