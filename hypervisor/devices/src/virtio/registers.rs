//! The registers that every virtio device has (virtio 1.2, 4.1.4.3): all but the device's own configuration.

use pleat_types::PortSize;

use super::queue::Queue;

/// In place of a vector's number: no interrupt.
pub(super) const NO_VECTOR: u16 = 0xffff;
/// MSI-X vectors of each device: as many as the largest one has queues, and one for its configuration.
pub(super) const VECTORS: u16 = 8;
/// The one feature that all devices here have, and no driver can do without.
pub(super) const FEATURE_VERSION_1: u64 = 1 << 32;

/// Device status (2.1): the driver has set up features, then everything.
const STATUS_DRIVER_OK: u8 = 4;
const STATUS_FEATURES_OK: u8 = 8;
/// The device cannot go on.
const STATUS_NEEDS_RESET: u8 = 0x40;
/// What a driver sets: it has seen the device, knows how to drive it, and has given up.
const STATUS_NOTES: u8 = 1 | 2 | STATUS_FAILED;
const STATUS_FAILED: u8 = 0x80;

/// ISR status (4.1.4.5): a queue has used buffers; the configuration has changed.
const ISR_QUEUE: u8 = 1;
const ISR_CONFIGURATION: u8 = 2;

/// What the write of a status asks of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StatusChange {
    None,
    Reset,
    /// These features are to be used from now on.
    Features(u64),
    /// Everything is set up.
    Driven,
}

/// State of a device that has nothing to do with its kind, but for its queues.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    status: u8,
    generation: u8,
    isr: u8,
    device_feature_select: u32,
    driver_feature_select: u32,
    pub(super) features: u64,
    config_vector: u16,
    pub(super) queue_select: u16,
    /// MSI-X vectors, as bits, that have a message to send.
    pub(crate) pending: u16,
    /// Queues, as bits, that may have something to do.
    pub(crate) kicked: u32,
    pub(super) trouble: Option<&'static str>,
    pub(super) notifications: u64,
    pub(super) interrupts: u64,
}

impl Registers {
    pub(super) const fn new() -> Self {
        Self {
            status: 0,
            generation: 0,
            isr: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            features: 0,
            config_vector: NO_VECTOR,
            queue_select: 0,
            pending: 0,
            kicked: 0,
            trouble: None,
            notifications: 0,
            interrupts: 0,
        }
    }

    /// As it was before a driver came, but for what has been counted. The generation goes on, for a driver that
    /// comes back in the middle of reading the configuration.
    pub(super) fn reset(&mut self) {
        *self = Self {
            generation: self.generation,
            notifications: self.notifications,
            interrupts: self.interrupts,
            ..Self::new()
        };
    }

    /// Whether a driver has set everything up and the device can work.
    #[inline]
    pub(super) const fn is_driven(&self) -> bool {
        const NEEDED: u8 = STATUS_DRIVER_OK | STATUS_FEATURES_OK;
        self.status & (NEEDED | STATUS_NEEDS_RESET | STATUS_FAILED) == NEEDED
    }

    pub(super) const fn has_features(&self) -> bool {
        self.status & STATUS_FEATURES_OK != 0
    }

    /// The driver writes the device status. Bits come and stay (2.1.1); only a reset takes them away.
    pub(super) fn write_status(&mut self, value: u8, offered: u64) -> StatusChange {
        if value == 0 {
            return StatusChange::Reset;
        }
        let new = value & !self.status;
        self.status |= value & STATUS_NOTES;
        if new & STATUS_FEATURES_OK != 0 {
            // A driver reads the bit again to see whether its choice was accepted (3.1.1).
            let is_subset = self.features & !offered == 0;
            if is_subset && self.features & FEATURE_VERSION_1 != 0 {
                self.status |= STATUS_FEATURES_OK;
                return StatusChange::Features(self.features);
            }
        } else if new & STATUS_DRIVER_OK != 0 && self.has_features() {
            self.status |= STATUS_DRIVER_OK;
            return StatusChange::Driven;
        }
        StatusChange::None
    }

    /// The guest broke the rules: nothing more is done until it resets the device (2.1.2).
    pub(super) fn fail(&mut self, why: &'static str, uses_msix: bool) {
        self.status |= STATUS_NEEDS_RESET;
        self.trouble = Some(why);
        self.kicked = 0;
        self.tell_of_configuration(uses_msix);
    }

    /// The device's configuration has changed, and not by its driver's doing.
    pub(crate) fn change_configuration(&mut self, uses_msix: bool) {
        self.next_generation();
        // Before it is driven a device sends nothing (3.1.2).
        if self.is_driven() {
            self.tell_of_configuration(uses_msix);
        }
    }

    /// What the driver's reads of the configuration give may be of two times (2.5.1).
    pub(super) const fn next_generation(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// An interrupt for the configuration. ISR status has it with MSI-X as well (4.1.4.5.1), where it is no interrupt:
    /// that is counted when its message goes.
    fn tell_of_configuration(&mut self, uses_msix: bool) {
        if uses_msix {
            self.isr |= ISR_CONFIGURATION;
            self.send(self.config_vector);
        } else {
            self.raise(ISR_CONFIGURATION);
        }
    }

    /// An interrupt for the used buffers of a queue.
    pub(super) fn tell_of_queue(&mut self, vector: u16, uses_msix: bool) {
        if uses_msix {
            self.send(vector);
        } else {
            self.raise(ISR_QUEUE);
        }
    }

    fn raise(&mut self, bit: u8) {
        self.interrupts += u64::from(self.isr == 0);
        self.isr |= bit;
    }

    fn send(&mut self, vector: u16) {
        if vector < VECTORS {
            self.pending |= 1 << vector;
        }
    }

    pub(crate) const fn wants_intx(&self) -> bool {
        self.isr != 0
    }

    /// Reading ISR status takes its bits away.
    pub(super) const fn take_isr(&mut self) -> u8 {
        core::mem::replace(&mut self.isr, 0)
    }

    /// A register that is not of a queue, by dwords; `queues` is how many there are at most.
    pub(super) fn dword(&self, index: u16, offered: u64, queues: u16) -> u32 {
        match index {
            0 => self.device_feature_select,
            1 => half(offered, self.device_feature_select),
            2 => self.driver_feature_select,
            3 => half(self.features, self.driver_feature_select),
            4 => u32::from(queues) << 16 | u32::from(self.config_vector),
            5 => {
                u32::from(self.queue_select) << 16 | u32::from(self.generation) << 8 | u32::from(self.status)
            }
            _ => 0,
        }
    }

    /// Writes one of them, but for the status. Registers are written as a whole (4.1.3.1).
    pub(super) fn write(&mut self, offset: u16, size: PortSize, value: u32) {
        match (offset, size) {
            (0x00, PortSize::Dword) => self.device_feature_select = value,
            (0x08, PortSize::Dword) => self.driver_feature_select = value,
            // What was accepted stays.
            (0x0c, PortSize::Dword) if !self.has_features() => {
                if let Some(shift) = shift(self.driver_feature_select) {
                    let kept = self.features & !(0xffff_ffff << shift);
                    self.features = kept | u64::from(value) << shift;
                }
            }
            (0x10, PortSize::Word) => self.config_vector = vector(value),
            (0x16, PortSize::Word) => self.queue_select = low_half(value),
            _ => {}
        }
    }
}

/// A register of a queue, by dwords from 0x18 on; `index` is the queue's.
pub(super) fn queue_dword(queue: &Queue, dword: u16, index: u16) -> u32 {
    match dword {
        6 => u32::from(queue.vector) << 16 | u32::from(queue.size),
        // Each queue has its own place to be notified at.
        7 => u32::from(index) << 16 | u32::from(queue.is_enabled),
        8 => half(queue.descriptors, 0),
        9 => half(queue.descriptors, 1),
        10 => half(queue.available, 0),
        11 => half(queue.available, 1),
        12 => half(queue.used, 0),
        13 => half(queue.used, 1),
        _ => 0,
    }
}

/// Writes a register of a queue. Once it is enabled only its vector changes (4.1.4.3.2).
pub(super) fn write_queue(queue: &mut Queue, offset: u16, size: PortSize, value: u32) {
    match (offset, size) {
        (0x1a, PortSize::Word) => queue.vector = vector(value),
        _ if queue.is_enabled => {}
        (0x18, PortSize::Word) => {
            let size = low_half(value);
            if size.is_power_of_two() && size <= queue.size_max {
                queue.size = size;
            }
        }
        (0x1c, PortSize::Word) => queue.is_enabled = value == 1,
        (0x20, PortSize::Dword) => set_half(&mut queue.descriptors, 0, value),
        (0x24, PortSize::Dword) => set_half(&mut queue.descriptors, 32, value),
        (0x28, PortSize::Dword) => set_half(&mut queue.available, 0, value),
        (0x2c, PortSize::Dword) => set_half(&mut queue.available, 32, value),
        (0x30, PortSize::Dword) => set_half(&mut queue.used, 0, value),
        (0x34, PortSize::Dword) => set_half(&mut queue.used, 32, value),
        _ => {}
    }
}

/// A vector that does not exist reads back as none (4.1.5.1.2.1).
fn vector(value: u32) -> u16 {
    let vector = low_half(value);
    if vector < VECTORS { vector } else { NO_VECTOR }
}

const fn low_half(value: u32) -> u16 {
    (value & 0xffff) as u16
}

/// Where the 32 bits of this number are in 64.
const fn shift(select: u32) -> Option<u32> {
    match select {
        0 => Some(0),
        1 => Some(32),
        _ => None,
    }
}

fn half(value: u64, select: u32) -> u32 {
    shift(select).map_or(0, |shift| ((value >> shift) & 0xffff_ffff) as u32)
}

fn set_half(value: &mut u64, shift: u32, new: u32) {
    *value = *value & !(0xffff_ffff << shift) | u64::from(new) << shift;
}
