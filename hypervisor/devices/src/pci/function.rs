//! The configuration spaces of what is on the bus (PCI 3.0, chapter 6), dword by dword.

use pleat_types::{Gpa, PortSize};

use super::MSIX_PAGE;
use super::access::Access;

/// BAR 0, ports, and BAR 1, memory.
pub(super) const IO_BYTES: u16 = 0x200;
const TABLE_BYTES: u32 = 0x100;
/// Command register: I/O, memory and master.
const COMMAND_IO: u16 = 1;
const COMMAND_MASTER: u16 = 4;
/// Keeps the function from using its INTx# line.
const COMMAND_NO_INTX: u16 = 1 << 10;
const COMMAND_BITS: u16 = 7 | COMMAND_NO_INTX;
/// Status register: INTx# would be asserted; a list of capabilities.
const STATUS_INTX: u16 = 1 << 3;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// MSI-X message control.
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK_ALL: u16 = 1 << 14;

/// The host bridge: the 440FX, whose driver in every system expects nothing of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bridge {
    command: u16,
    line: u8,
}

impl Bridge {
    pub(super) const fn new() -> Self {
        Self { command: 0, line: 0 }
    }

    pub(super) fn dword(&self, dword: u8) -> u32 {
        match dword {
            0 => 0x1237_8086,
            1 => u32::from(self.command),
            2 => 0x0600_0002,
            15 => u32::from(self.line),
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, dword: u8, value: u32, lanes: u32) {
        let new = self.dword(dword) & !lanes | value & lanes;
        match dword {
            1 => self.command = (new & 7) as u16,
            15 => self.line = (new & 0xff) as u8,
            _ => {}
        }
    }
}

/// What a virtio function says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// Its virtio device ID.
    pub(crate) virtio_id: u16,
    /// Class and subclass (PCI 3.0, appendix D).
    pub(crate) class: u16,
    /// Its wire to the 8259s.
    pub(crate) irq: u8,
}

/// A modern virtio device (virtio 1.2, 4.1.2). Its registers lie in one I/O BAR, its MSI-X table in guest RAM: a
/// guest's access there is no exit, and who sends an interrupt reads the entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VirtioFunction {
    identity: Identity,
    command: u16,
    bars: [u32; 2],
    msix: u16,
    line: u8,
    /// The device asks for INTx#.
    wants_intx: bool,
    access: Access,
}

impl VirtioFunction {
    /// As firmware leaves the n-th of them, from 1 on: with addresses and a line, turned off.
    pub(super) fn new(identity: Identity, n: u32) -> Self {
        let table = (MSIX_PAGE.get() & 0xffff_ffff) as u32;
        Self {
            identity,
            command: 0,
            bars: [
                0x1000 + u32::from(IO_BYTES) * (n - 1),
                table + TABLE_BYTES * (n - 1),
            ],
            msix: 0,
            line: identity.irq,
            wants_intx: false,
            access: Access::NONE,
        }
    }

    /// Its wire to the 8259s.
    pub(crate) const fn irq(&self) -> u8 {
        self.identity.irq
    }

    /// Whether it may use memory and send messages.
    pub(crate) const fn is_master(&self) -> bool {
        self.command & COMMAND_MASTER != 0
    }

    /// Whether its interrupts are messages.
    pub(crate) const fn uses_msix(&self) -> bool {
        self.msix & MSIX_ENABLE != 0
    }

    /// Whether its messages have to wait.
    pub(crate) const fn is_masked(&self) -> bool {
        self.msix & MSIX_MASK_ALL != 0
    }

    /// Where its MSI-X table is.
    pub(crate) fn table(&self) -> Gpa {
        Gpa::new(u64::from(self.bars[1]))
    }

    /// The device asks for an interrupt by wire, or no longer; gives the level of the wire.
    pub(crate) const fn drive(&mut self, wants_intx: bool) -> bool {
        self.wants_intx = wants_intx && !self.uses_msix();
        self.wants_intx && self.command & COMMAND_NO_INTX == 0
    }

    /// Where its registers are, while it answers to I/O.
    pub(super) fn io_base(&self) -> Option<u16> {
        let base = (self.bars[0] & 0xffff) as u16;
        (self.command & COMMAND_IO != 0).then_some(base)
    }

    /// The registers that its capability for accesses names now.
    pub(super) fn accessed(&self) -> Option<(u16, PortSize)> {
        self.access.target(IO_BYTES)
    }

    /// What was read there.
    pub(super) const fn set_accessed(&mut self, value: u32) {
        self.access.data = value;
    }

    const fn status(&self) -> u16 {
        STATUS_CAPABILITIES | if self.wants_intx { STATUS_INTX } else { 0 }
    }

    pub(super) fn dword(&self, dword: u8) -> u32 {
        let id = u32::from(self.identity.virtio_id);
        match dword {
            0 => (0x1040 + id) << 16 | 0x1af4,
            1 => u32::from(self.status()) << 16 | u32::from(self.command),
            // Revision 1: there is no legacy interface.
            2 => u32::from(self.identity.class) << 16 | 1,
            4 => self.bars[0] | 1,
            5 => self.bars[1],
            // Not below 0x40, for drivers of legacy devices to leave it alone (4.1.2.1).
            11 => (0x40 + id) << 16 | 0x1af4,
            13 => u32::from(MSIX_CAPABILITY) * 4,
            15 => 0x0100 | u32::from(self.line),
            16.. => self.capability(dword),
            _ => 0,
        }
    }

    /// MSI-X, then where in BAR 0 each group of registers is, and the way to them without BAR 0 (4.1.4).
    fn capability(&self, dword: u8) -> u32 {
        let (from, structure) = match dword {
            16 => return u32::from(self.msix | 7) << 16 | next(COMMON_CAPABILITY) | 0x11,
            // The table and the pending bits are in BAR 1.
            17 => return 1,
            18 => return 0x80 | 1,
            ACCESS_CAPABILITY.. => return self.access.dword(dword - ACCESS_CAPABILITY),
            COMMON_CAPABILITY..ISR_CAPABILITY => (COMMON_CAPABILITY, Structure::COMMON),
            ISR_CAPABILITY..DEVICE_CAPABILITY => (ISR_CAPABILITY, Structure::ISR),
            DEVICE_CAPABILITY..NOTIFY_CAPABILITY => (DEVICE_CAPABILITY, Structure::DEVICE),
            NOTIFY_CAPABILITY..ACCESS_CAPABILITY => (NOTIFY_CAPABILITY, Structure::NOTIFY),
            _ => return 0,
        };
        let Structure {
            kind,
            at,
            bytes,
            link,
        } = structure;
        let length = if kind == Structure::NOTIFY.kind { 20 } else { 16 };
        match dword - from {
            0 => kind << 24 | length << 16 | next(link) | 0x09,
            2 => at,
            3 => bytes,
            // Only this one is longer: 4 ports for each queue.
            4 if kind == Structure::NOTIFY.kind => 4,
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, dword: u8, value: u32, lanes: u32) {
        let new = self.dword(dword) & !lanes | value & lanes;
        match dword {
            1 => self.command = (new & 0xffff) as u16 & COMMAND_BITS,
            // The bits above the size stay, by which software finds it. A PC has 16 bits of ports.
            ACCESS_CAPABILITY.. => self.access.write(dword - ACCESS_CAPABILITY, new),
            4 => self.bars[0] = new & 0xffff & !(u32::from(IO_BYTES) - 1),
            5 => self.bars[1] = new & !(TABLE_BYTES - 1),
            15 => self.line = (new & 0xff) as u8,
            MSIX_CAPABILITY => self.msix = (new >> 16) as u16 & (MSIX_ENABLE | MSIX_MASK_ALL),
            _ => {}
        }
    }
}

/// The dwords at which the capabilities begin.
const MSIX_CAPABILITY: u8 = 16;
const COMMON_CAPABILITY: u8 = 20;
const ISR_CAPABILITY: u8 = 24;
const DEVICE_CAPABILITY: u8 = 28;
const NOTIFY_CAPABILITY: u8 = 32;
const ACCESS_CAPABILITY: u8 = 40;
/// What its last field stands for.
pub(super) const ACCESS_DATA: u8 = ACCESS_CAPABILITY + 4;

/// The link to the next capability, in its place.
const fn next(dword: u8) -> u32 {
    (dword as u32) << 10
}

/// A group of registers in BAR 0.
struct Structure {
    /// `cfg_type`.
    kind: u32,
    at: u32,
    bytes: u32,
    link: u8,
}

impl Structure {
    const COMMON: Self = Self {
        kind: 1,
        at: 0,
        bytes: 56,
        link: ISR_CAPABILITY,
    };
    const ISR: Self = Self {
        kind: 3,
        at: 0x40,
        bytes: 1,
        link: DEVICE_CAPABILITY,
    };
    const DEVICE: Self = Self {
        kind: 4,
        at: 0x80,
        bytes: 0x80,
        link: NOTIFY_CAPABILITY,
    };
    const NOTIFY: Self = Self {
        kind: 2,
        at: 0x100,
        bytes: 0x100,
        link: ACCESS_CAPABILITY,
    };
}
