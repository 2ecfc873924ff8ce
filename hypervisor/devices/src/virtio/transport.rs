//! One virtio device behind its I/O BAR (virtio 1.2, 4.1.4): the registers of all devices and of its kind, its
//! queues, and the work on them.
//!
//! | offset | what |
//! |---|---|
//! | 0x00 to 0x37 | common configuration |
//! | 0x40 | ISR status |
//! | 0x80 to 0xff | configuration of its kind |
//! | 0x100 + 4 n | queue n is notified by any write |
//!
//! Reads are put together from bytes, so every width gives what is there. Of the common registers only writes of a
//! whole one count, as drivers have to make them (4.1.3.1).

use pleat_types::PortSize;

use super::device::{Device, Step, Trouble};
use super::hands::Hands;
use super::queue::{QUEUE_SIZE_MAX, Queue};
use super::registers::{
    FEATURE_VERSION_1, NO_VECTOR, Registers, StatusChange, VECTORS, queue_dword, write_queue,
};
use super::set::FunctionView;

const COMMON_BYTES: u16 = 56;
/// The first common register that is of the selected queue.
const QUEUE_REGISTERS: u16 = 0x18;
const STATUS: u16 = 0x14;
const ISR: u16 = 0x40;
const DEVICE: u16 = 0x80;
/// From here on queues are notified.
pub(crate) const NOTIFY: u16 = 0x100;

/// What a step of work over kicked queues has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[must_use]
pub enum Served {
    /// Nothing, until somebody kicks a queue again.
    Idle,
    /// Host memory is short, or a page is away. What waits for it, a queue or a message, is still there; the same call
    /// later goes on.
    Stalled,
    /// More of the same, that can be done at once.
    More,
}

/// A device of some kind and its `QUEUES` queues.
#[derive(Clone, Debug)]
pub(crate) struct Transport<D, const QUEUES: usize> {
    pub(crate) device: D,
    registers: Registers,
    queues: [Queue; QUEUES],
}

/// What can be done to a device of any kind.
pub(crate) trait Endpoint {
    fn registers(&mut self) -> &mut Registers;
    /// IN at this offset.
    fn read(&mut self, offset: u16, size: PortSize) -> u32;
    /// OUT at this offset, below those where queues are notified.
    fn write(&mut self, offset: u16, size: PortSize, value: u32);
    /// The driver has made buffers available in this queue; says whether there is something to serve now.
    fn notify(&mut self, queue: u16) -> bool;
    /// The device may have something to do without having been notified.
    fn take_wishes(&mut self);
    /// What can be told of it.
    fn view(&self, name: &'static str, device: u8) -> FunctionView;
}

impl<D: Device, const QUEUES: usize> Transport<D, QUEUES> {
    /// The device before its driver comes.
    pub(crate) fn new(device: D) -> Self {
        const {
            // Each queue with a vector of its own, beside that of the configuration.
            assert!(D::QUEUE_SIZES.len() == QUEUES && QUEUES < VECTORS as usize);
            let mut n = 0;
            while n < QUEUES {
                let size = D::QUEUE_SIZES[n];
                assert!(size.is_power_of_two() && size as usize <= QUEUE_SIZE_MAX);
                n += 1;
            }
        }
        Self {
            device,
            registers: Registers::new(),
            queues: fresh_queues::<D, QUEUES>(),
        }
    }

    fn offered(&self) -> u64 {
        self.device.offered() | FEATURE_VERSION_1
    }

    fn selected(&self) -> Option<usize> {
        let index = usize::from(self.registers.queue_select);
        (index < self.device.queues().min(QUEUES)).then_some(index)
    }

    fn byte(&mut self, offset: u16) -> u8 {
        match offset {
            0..COMMON_BYTES => {
                let [a, b, c, d] = self.common_dword(offset >> 2).to_le_bytes();
                match offset & 3 {
                    0 => a,
                    1 => b,
                    2 => c,
                    _ => d,
                }
            }
            ISR => self.registers.take_isr(),
            DEVICE..NOTIFY => self.device.config(usize::from(offset - DEVICE)),
            _ => 0,
        }
    }

    fn common_dword(&self, dword: u16) -> u32 {
        if dword < QUEUE_REGISTERS >> 2 {
            let queues = u16::try_from(QUEUES).unwrap_or(0);
            return self.registers.dword(dword, self.offered(), queues);
        }
        // A queue that is not there has the size 0 and can be found by it.
        let queue = self.selected().and_then(|index| self.queues.get(index));
        queue.map_or(0, |queue| queue_dword(queue, dword, self.registers.queue_select))
    }

    fn write_status(&mut self, value: u8) {
        match self.registers.write_status(value, self.offered()) {
            StatusChange::None => {}
            StatusChange::Features(features) => self.device.negotiated(features),
            StatusChange::Driven => self.registers.kicked = self.enabled(),
            StatusChange::Reset => {
                self.device.reset();
                self.registers.reset();
                self.queues = fresh_queues::<D, QUEUES>();
            }
        }
    }

    /// The queues that the driver has enabled, as bits.
    fn enabled(&self) -> u32 {
        let bits = self.queues.iter().rev();
        bits.fold(0, |bits, queue| bits << 1 | u32::from(queue.is_enabled))
    }

    /// Works on each queue that may have something to do, once.
    pub(super) fn step<H: Hands>(&mut self, hands: &mut H, uses_msix: bool) -> Served {
        let kicked = core::mem::take(&mut self.registers.kicked);
        if !self.registers.is_driven() {
            return Served::Idle;
        }
        let mut served = Served::Idle;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if kicked >> index & 1 == 0 || !queue.is_enabled {
                continue;
            }
            let left = match self.device.serve(index, queue, hands) {
                Ok(Step::Done) => Served::Idle,
                Ok(Step::More) => Served::More,
                Err(Trouble::HostShort) => Served::Stalled,
                Err(Trouble::Guest(why)) => {
                    self.registers.fail(why, uses_msix);
                    Served::Idle
                }
            };
            self.registers.kicked |= u32::from(left != Served::Idle) << index;
            served = served.max(left);
            if core::mem::take(&mut queue.has_news) {
                self.registers.tell_of_queue(queue.vector, uses_msix);
            }
            if self.registers.trouble.is_some() {
                return Served::Idle;
            }
        }
        // What was done may show in the configuration.
        self.registers.next_generation();
        let kept = self.registers.kicked;
        self.take_wishes();
        if self.registers.kicked == kept {
            served
        } else {
            Served::More
        }
    }
}

impl<D: Device, const QUEUES: usize> Endpoint for Transport<D, QUEUES> {
    fn registers(&mut self) -> &mut Registers {
        &mut self.registers
    }

    fn read(&mut self, offset: u16, size: PortSize) -> u32 {
        (0..size.bytes()).rev().fold(0, |value, lane| {
            value << 8 | u32::from(self.byte(offset.saturating_add(lane)))
        })
    }

    fn write(&mut self, offset: u16, size: PortSize, value: u32) {
        match offset {
            STATUS if size == PortSize::Byte => self.write_status((value & 0xff) as u8),
            0..QUEUE_REGISTERS => self.registers.write(offset, size, value),
            // Which queues there are depends on the features.
            QUEUE_REGISTERS..COMMON_BYTES if self.registers.has_features() => {
                if let Some(queue) = self.selected().and_then(|index| self.queues.get_mut(index)) {
                    write_queue(queue, offset, size, value);
                }
            }
            DEVICE..NOTIFY => {
                let bytes = value.to_le_bytes();
                let lanes = (offset - DEVICE..NOTIFY - DEVICE).zip(bytes);
                for (at, byte) in lanes.take(usize::from(size.bytes())) {
                    self.device.write_config(usize::from(at), byte);
                }
                self.take_wishes();
            }
            _ => {}
        }
    }

    #[inline]
    fn notify(&mut self, queue: u16) -> bool {
        let is_enabled = |queue: &Queue| queue.is_enabled;
        if !self.registers.is_driven() || !self.queues.get(usize::from(queue)).is_some_and(is_enabled) {
            return false;
        }
        self.registers.notifications += 1;
        self.registers.kicked |= 1 << queue;
        true
    }

    fn take_wishes(&mut self) {
        let wishes = self.device.take_wishes() & self.enabled();
        if self.registers.is_driven() {
            self.registers.kicked |= wishes;
        }
    }

    fn view(&self, name: &'static str, device: u8) -> FunctionView {
        FunctionView {
            name,
            device,
            is_driven: self.registers.is_driven(),
            needs_reset: self.registers.trouble,
            features: self.registers.features,
            uses_msix: false,
            queues: (self.enabled().count_ones() & 0xff) as u8,
            notifications: self.registers.notifications,
            interrupts: self.registers.interrupts,
        }
    }
}

fn fresh_queues<D: Device, const QUEUES: usize>() -> [Queue; QUEUES] {
    // As many as sizes: `new` has checked.
    core::array::from_fn(|index| {
        let size = D::QUEUE_SIZES.get(index).copied().unwrap_or(1);
        Queue::new(size, NO_VECTOR)
    })
}
