//! A driver of the transport, in the steps of Linux's `virtio_pci_modern_dev`: everything through ports.

use pleat_devices::{Board, PortEffect};
use pleat_types::PortSize::{Byte, Dword, Word};
use pleat_types::{Gpa, PortSize, Tsc};

use super::{FakeHands, GuestQueue};

/// `VIRTIO_F_VERSION_1`.
pub const VERSION_1: u64 = 1 << 32;
/// No MSI-X vector.
pub const NO_VECTOR: u16 = 0xffff;

/// A virtio device as its driver knows it.
#[derive(Clone, Copy, Debug)]
pub struct Driver {
    /// The device number on bus 0.
    pub device: u32,
    /// Ports of the groups of registers.
    pub common: u16,
    pub isr: u16,
    pub config: u16,
    pub notify: u16,
    pub notify_step: u16,
    /// Where its MSI-X table is, and the offset of the capability.
    pub table: Gpa,
    pub msix: u32,
}

pub fn input(board: &mut Board, port: u16, size: PortSize) -> u32 {
    board.port_read(port, size, Tsc(0))
}

pub fn output(board: &mut Board, port: u16, size: PortSize, value: u32) -> PortEffect {
    board.port_write(port, size, value, Tsc(0))
}

/// A dword of configuration space.
pub fn config(board: &mut Board, device: u32, at: u32) -> u32 {
    let _ = output(board, 0xcf8, Dword, 0x8000_0000 | device << 11 | at);
    input(board, 0xcfc, Dword)
}

/// Writes one.
pub fn set_config(board: &mut Board, device: u32, at: u32, value: u32) -> PortEffect {
    let _ = output(board, 0xcf8, Dword, 0x8000_0000 | device << 11 | at);
    output(board, 0xcfc, Dword, value)
}

impl Driver {
    /// Turns the device on and finds its registers by its capabilities (`vp_modern_probe`).
    pub fn find(board: &mut Board, device: u32) -> Option<Self> {
        if config(board, device, 0) & 0xffff != 0x1af4 {
            return None;
        }
        let _ = set_config(board, device, 4, 7);
        let bar = (config(board, device, 0x10) & 0xfffc) as u16;
        let mut found = Self {
            device,
            common: 0,
            isr: 0,
            config: 0,
            notify: 0,
            notify_step: 0,
            table: Gpa::new(0),
            msix: 0,
        };
        let mut next = config(board, device, 0x34) & 0xff;
        while next != 0 {
            let head = config(board, device, next);
            if head & 0xff == 0x11 {
                let place = config(board, device, next + 4);
                assert_eq!((place & 7, config(board, device, next + 8) & 7), (1, 1));
                found.msix = next;
                found.table = Gpa::new(u64::from((config(board, device, 0x14) & !0xf) + (place & !7)));
            } else if head & 0xff == 9 && head >> 24 != 5 {
                assert_eq!(config(board, device, next + 4) & 0xff, 0, "all are in BAR 0");
                let at = bar + (config(board, device, next + 8) & 0xffff) as u16;
                match head >> 24 {
                    1 => found.common = at,
                    2 => {
                        found.notify = at;
                        found.notify_step = (config(board, device, next + 16) & 0xffff) as u16;
                    }
                    3 => found.isr = at,
                    4 => found.config = at,
                    _ => {}
                }
            }
            next = head >> 8 & 0xff;
        }
        Some(found)
    }

    pub fn status(&self, board: &mut Board) -> u32 {
        input(board, self.common + 0x14, Byte)
    }

    /// Writes the status.
    pub fn set_status(&self, board: &mut Board, status: u32) -> PortEffect {
        output(board, self.common + 0x14, Byte, status)
    }

    /// `vp_modern_get_features`.
    pub fn offered(&self, board: &mut Board) -> u64 {
        let [low, high] = [0, 1].map(|half| {
            let _ = output(board, self.common, Dword, half);
            u64::from(input(board, self.common + 4, Dword))
        });
        high << 32 | low
    }

    /// Resets it and agrees on these features (`virtio_dev_probe`); says whether the device accepts them.
    pub fn negotiate(&self, board: &mut Board, features: u64) -> bool {
        let _ = self.set_status(board, 0);
        if self.status(board) != 0 {
            return false;
        }
        let _ = self.set_status(board, 1);
        let _ = self.set_status(board, 3);
        for (half, value) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            let _ = output(board, self.common + 8, Dword, half);
            let value = u32::try_from(value).expect("32 bits");
            let _ = output(board, self.common + 0xc, Dword, value);
        }
        let _ = self.set_status(board, 0xb);
        self.status(board) & 8 != 0
    }

    /// `pci_enable_msix`: masked, every entry masked in the table, then open.
    pub fn enable_msix(&self, board: &mut Board, hands: &mut FakeHands) {
        let control = config(board, self.device, self.msix) & 0xffff;
        let _ = set_config(board, self.device, self.msix, control | 0xc000_0000);
        for entry in 0..8 {
            let at = Gpa::new(self.table.get() + 16 * entry + 12);
            hands.poke(at, &1u32.to_le_bytes());
        }
        let _ = set_config(board, self.device, self.msix, control | 0x8000_0000);
    }

    /// Lets an entry of the table send this vector to the local APIC.
    pub fn set_message(&self, hands: &mut FakeHands, entry: u16, vector: u8) {
        self.set_entry(hands, entry, [0xfee0_0000, 0, u32::from(vector), 0]);
    }

    /// Writes an entry of the table, whatever it says.
    pub fn set_entry(&self, hands: &mut FakeHands, entry: u16, words: [u32; 4]) {
        for (n, word) in (0u64..).zip(words) {
            let at = Gpa::new(self.table.get() + 16 * u64::from(entry) + 4 * n);
            hands.poke(at, &word.to_le_bytes());
        }
    }

    /// Chooses the vector of the configuration; gives what was accepted.
    pub fn set_config_vector(&self, board: &mut Board, vector: u16) -> u32 {
        let _ = output(board, self.common + 0x10, Word, u32::from(vector));
        input(board, self.common + 0x10, Word)
    }

    /// `setup_vq`: lays out a queue from here on, in the size that the device proposes, and enables it.
    pub fn set_up_queue(&self, board: &mut Board, index: u16, base: Gpa, vector: u16) -> Option<GuestQueue> {
        let _ = output(board, self.common + 0x16, Word, u32::from(index));
        let size = input(board, self.common + 0x18, Word);
        if size == 0 || input(board, self.common + 0x1c, Word) != 0 {
            return None;
        }
        let size = u16::try_from(size).expect("16 bits");
        let queue = GuestQueue::new(base, size);
        let _ = output(board, self.common + 0x18, Word, u32::from(size));
        for (at, address) in [
            (0x20, queue.descriptors),
            (0x28, queue.available),
            (0x30, queue.used),
        ] {
            let [low, high] =
                [address & 0xffff_ffff, address >> 32].map(|half| u32::try_from(half).expect("32 bits"));
            let _ = output(board, self.common + at, Dword, low);
            let _ = output(board, self.common + at + 4, Dword, high);
        }
        let _ = output(board, self.common + 0x1a, Word, u32::from(vector));
        let is_accepted = input(board, self.common + 0x1a, Word) == u32::from(vector);
        let _ = output(board, self.common + 0x1c, Word, 1);
        (is_accepted && input(board, self.common + 0x1c, Word) == 1).then_some(queue)
    }

    /// `DRIVER_OK`.
    pub fn start(&self, board: &mut Board) -> PortEffect {
        let status = self.status(board);
        self.set_status(board, status | 4)
    }

    /// `vp_notify`: to the address that the queue names, with its number.
    pub fn notify(&self, board: &mut Board, index: u16) -> PortEffect {
        let _ = output(board, self.common + 0x16, Word, u32::from(index));
        let offset = u16::try_from(input(board, self.common + 0x1e, Word)).expect("16 bits");
        let port = self.notify.wrapping_add(offset.wrapping_mul(self.notify_step));
        output(board, port, Word, u32::from(index))
    }

    /// Reads ISR status.
    pub fn take_isr(&self, board: &mut Board) -> u32 {
        input(board, self.isr, Byte)
    }
}
