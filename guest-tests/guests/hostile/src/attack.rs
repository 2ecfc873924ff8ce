//! What is done to a device.

use pleat_guest::pci::{COMMAND, Function};
use pleat_guest::virtio::msix::Msix;
use pleat_guest::virtio::queue::Queue;
use pleat_guest::virtio::transport::{Transport, VERSION_1, common};
use pleat_guest::virtio::{Interrupts, Piece};
use pleat_guest::window::Window;

use crate::garbage::Garbage;

const PIECES_MAX: usize = 20;
const BAR_BYTES: usize = 512;
const QUEUES_MAX: usize = 6;
/// Registers of the configuration space that a device needs to be found again.
const KEPT: [u8; 7] = [COMMAND, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24];

#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) rounds: u64,
    pub(crate) notifications: u64,
    pub(crate) chains: u64,
    pub(crate) resets: u64,
}

/// A device, and how it is found again after its registers were moved.
pub(crate) struct Target {
    transport: Transport,
    function: Function,
    kept: [u32; KEPT.len()],
    /// Found once: later its place may be anywhere.
    msix: Msix,
    queues: u16,
    first_slot: usize,
}

/// The queues of a device in one round.
type Ready = [Option<Queue>; QUEUES_MAX];

impl Target {
    pub(crate) fn find(id: u16, queues: u16, first_slot: usize) -> Option<Self> {
        let transport = Transport::find(id, Interrupts::Polled)?;
        let function = transport.function();
        Some(Self {
            kept: KEPT.map(|register| function.read_u32(register)),
            msix: transport.msix(),
            transport,
            function,
            queues,
            first_slot,
        })
    }

    /// The device as it was, and reset.
    pub(crate) fn leave(&self) {
        for (register, value) in KEPT.iter().zip(self.kept) {
            self.function.write_u32(*register, value);
        }
        self.transport.common().store_u8(common::STATUS, 0);
    }

    /// Sets it up, properly or nearly so, and then does all kinds of things to it.
    pub(crate) fn round(&mut self, garbage: &mut Garbage, counts: &mut Counts) {
        self.leave();
        let mut ready = [const { None }; QUEUES_MAX];
        self.set_up(&mut ready, garbage);
        for _ in 0..garbage.below(24) {
            match garbage.below(16) {
                0 => self.registers(garbage),
                1 => self.config_space(garbage),
                2 => self.vectors(garbage),
                3 => rings(&ready, garbage),
                _ => self.chains(&mut ready, garbage, counts),
            }
            self.notify(garbage, counts);
        }
        counts.resets += u64::from(self.transport.needs_reset());
    }

    fn set_up(&mut self, ready: &mut Ready, garbage: &mut Garbage) {
        let offered = self.transport.offered();
        let chosen = garbage.number() | VERSION_1;
        let features = match garbage.below(8) {
            0 => chosen,
            1..3 => offered & chosen,
            _ => offered,
        };
        let _ = self.transport.accept(features);
        for index in 0..self.queues {
            if self.transport.queue_size_max(index) != 0 {
                let skew = garbage.below(2048) as u64;
                let slot = self.first_slot + usize::from(index);
                let place = garbage.rings(slot) + skew;
                let queue = self.transport.queue(index, place);
                ready[usize::from(index)] = Some(queue);
                self.spoil(index, garbage);
            }
        }
        if garbage.happens(2) {
            self.vectors(garbage);
        }
        let status = if garbage.happens(16) { garbage.byte() } else { 0xf };
        self.transport.common().store_u8(common::STATUS, status);
    }

    /// One in eight queues has something wrong with it from the start.
    fn spoil(&self, index: u16, garbage: &mut Garbage) {
        let common = self.transport.common();
        common.store_u16(common::QUEUE_VECTOR, u16::try_from(garbage.below(9)).unwrap_or(0));
        if !garbage.happens(8) {
            return;
        }
        common.store_u16(common::QUEUE_SELECT, index);
        let place = garbage.address();
        match garbage.below(6) {
            0 => common.store_u16(common::QUEUE_SIZE, garbage.half()),
            1 => common.store_u64(common::QUEUE_DESCRIPTORS, place),
            2 => common.store_u64(common::QUEUE_AVAILABLE, place),
            3 => common.store_u64(common::QUEUE_USED, place),
            4 => common.store_u16(common::QUEUE_ENABLE, garbage.half()),
            _ => {
                // All of it in one place.
                common.store_u64(common::QUEUE_DESCRIPTORS, place);
                common.store_u64(common::QUEUE_AVAILABLE, place);
                common.store_u64(common::QUEUE_USED, place);
            }
        }
    }

    /// Any of the ports that its registers have.
    fn registers(&self, garbage: &mut Garbage) {
        let base = self.transport.common();
        for _ in 0..garbage.below(24) {
            let offset = garbage.below(BAR_BYTES) as u64;
            // The addresses of rings are not left to chance: one of the kernel would be its end.
            let is_address = (common::QUEUE_DESCRIPTORS - 3..common::BYTES).contains(&offset);
            match 3 * usize::from(is_address) + garbage.below(if is_address { 3 } else { 6 }) {
                0 => base.store_u8(offset, garbage.byte()),
                1 => base.store_u16(offset, garbage.half()),
                2 => base.store_u32(offset, garbage.word()),
                3 => _ = base.load_u8(offset),
                4 => _ = base.load_u16(offset),
                _ => _ = base.load_u32(offset),
            }
        }
    }

    /// The configuration space: commands, base addresses, capabilities, what is read-only.
    fn config_space(&self, garbage: &mut Garbage) {
        for _ in 0..garbage.below(6) {
            let register = garbage.byte();
            match garbage.below(3) {
                0 => self.function.write_u8(register, garbage.byte()),
                1 => self.function.write_u16(register & !1, garbage.half()),
                _ => self.function.write_u32(register & !3, garbage.word()),
            }
        }
    }

    /// Vectors that exist, vectors that do not, addresses of nobody.
    fn vectors(&self, garbage: &mut Garbage) {
        let msix = self.msix;
        for entry in 0..8 {
            // From 16 to 31 they would be taken for exceptions, and this kernel would end.
            let vector = garbage.byte();
            let vector = if (16..32).contains(&vector) {
                vector + 100
            } else {
                vector
            };
            msix.set(entry, vector);
            if garbage.happens(4) {
                let table = msix.table().at(u64::from(entry) * 16);
                let address = if garbage.happens(2) {
                    garbage.address()
                } else {
                    0xfee0_0000 + garbage.number() % (1 << 20)
                };
                table.store_u64(0, address);
                table.store_u32(12, garbage.word());
            }
        }
        msix.enable();
        if garbage.happens(4) {
            msix.mask_all();
        }
        let entry = u16::try_from(garbage.below(10)).unwrap_or(0);
        self.transport.common().store_u16(common::CONFIG_VECTOR, entry);
    }

    /// Chains that look like requests.
    fn chains(&self, ready: &mut Ready, garbage: &mut Garbage, counts: &mut Counts) {
        let number = garbage.below(usize::from(self.queues));
        let Some(queue) = &mut ready[number] else {
            return;
        };
        // What was used is not of interest: after a while all descriptors are on their way.
        for _ in 0..1 + garbage.below(3) {
            let mut pieces = [Piece::NONE; PIECES_MAX];
            let most = if garbage.happens(4) { PIECES_MAX } else { 4 };
            let len = 1 + garbage.below(most);
            pieces[0] = garbage.request();
            for piece in &mut pieces[1..len] {
                *piece = garbage.piece();
            }
            // Those that are read come first, as a rule.
            if !garbage.happens(8) {
                pieces[1..len].sort_unstable_by_key(|piece| piece.access as u8);
            }
            counts.chains += u64::from(queue.offer(&pieces[..len]).is_some());
        }
    }

    fn notify(&self, garbage: &mut Garbage, counts: &mut Counts) {
        let queue = match garbage.below(8) {
            0 => garbage.half(),
            _ => u16::try_from(garbage.below(usize::from(self.queues))).unwrap_or(0),
        };
        self.transport
            .notify()
            .store_u16(u64::from(queue % 64) * 4, queue);
        counts.notifications += 1;
    }
}

/// What lies in a queue's memory.
fn rings(ready: &Ready, garbage: &mut Garbage) {
    let number = garbage.below(QUEUES_MAX);
    let Some(queue) = &ready[number] else { return };
    let layout = queue.layout();
    match garbage.below(5) {
        0 => Window::Memory(layout.available).store_u16(2, garbage.half()),
        1 => Window::Memory(layout.used).store_u16(2, garbage.half()),
        2 => {
            let entry = garbage.below(usize::from(layout.size)) as u64;
            let descriptor = Window::Memory(layout.descriptors + entry * 16);
            let piece = garbage.piece();
            descriptor.store_u64(0, piece.at);
            descriptor.store_u32(8, piece.bytes);
            descriptor.store_u16(12, u16::try_from(garbage.below(8)).unwrap_or(0));
            descriptor.store_u16(
                14,
                u16::try_from(garbage.below(usize::from(layout.size) + 2)).unwrap_or(0),
            );
        }
        3 => {
            // A loop, or a chain without an end.
            for entry in 0..u64::from(layout.size) {
                let descriptor = Window::Memory(layout.descriptors + entry * 16);
                descriptor.store_u16(12, 1);
                descriptor.store_u16(
                    14,
                    u16::try_from((entry + 1) % u64::from(layout.size)).unwrap_or(0),
                );
            }
        }
        _ => {
            let count = garbage.below(300);
            garbage.scribble(layout.available, count);
        }
    }
}
