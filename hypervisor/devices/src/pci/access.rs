//! The capability for accesses (`VIRTIO_PCI_CAP_PCI_CFG`, virtio 1.2, 4.1.4.9): the registers in a BAR through
//! configuration space alone, for firmware that has not mapped it. A driver says where and how many bytes; then what it
//! reads and writes in the capability's last field is read and written there.
//!
//! The BAR, the offset and the length are claims. What is not a whole register-sized piece of BAR 0 reaches nothing, and
//! the field is memory. So it is for BAR 1: the MSI-X table lies in the guest's own RAM.

use pleat_types::PortSize;

/// Vendor-specific, the last in the list, 20 bytes, `cfg_type` 5.
const HEAD: u32 = 5 << 24 | 20 << 16 | 0x09;

/// What a driver has set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    bar: u8,
    at: u32,
    bytes: u32,
    /// `pci_cfg_data`.
    pub(super) data: u32,
}

impl Access {
    pub(super) const NONE: Self = Self {
        bar: 0,
        at: 0,
        bytes: 0,
        data: 0,
    };

    /// A dword of the capability.
    pub(super) fn dword(&self, index: u8) -> u32 {
        match index {
            0 => HEAD,
            1 => u32::from(self.bar),
            2 => self.at,
            3 => self.bytes,
            4 => self.data,
            _ => 0,
        }
    }

    /// All fields but the head can be written (4.1.4.9.1).
    pub(super) const fn write(&mut self, index: u8, value: u32) {
        match index {
            1 => self.bar = (value & 0xff) as u8,
            2 => self.at = value,
            3 => self.bytes = value,
            4 => self.data = value,
            _ => {}
        }
    }

    /// Where in BAR 0, which has so many bytes, an access goes, and its size; `None` if it is none. A driver is to make
    /// offsets multiples of the length (4.1.4.9.2).
    pub(super) fn target(&self, bar_bytes: u16) -> Option<(u16, PortSize)> {
        let size = match self.bytes {
            1 => PortSize::Byte,
            2 => PortSize::Word,
            4 => PortSize::Dword,
            _ => return None,
        };
        let at = u16::try_from(self.at).ok()?;
        let is_inside = self.bar == 0 && at < bar_bytes && at.is_multiple_of(size.bytes());
        is_inside.then_some((at, size))
    }
}
