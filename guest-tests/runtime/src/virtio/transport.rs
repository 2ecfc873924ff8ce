//! A device's registers (virtio 1.2, 4.1.4): found through capabilities, used as the initialisation in 3.1.1 says.

use super::msix::Msix;
use super::queue::{Layout, Queue};
use crate::pci::Function;
use crate::window::Window;
use crate::{check, interrupts};

/// The PCI vendor of all virtio devices.
pub const VENDOR: u16 = 0x1af4;
/// To it the device's virtio ID is added (4.1.2).
pub const FIRST_ID: u16 = 0x1040;
/// Feature: not a device of the time before virtio 1.0.
pub const VERSION_1: u64 = 1 << 32;
/// Status: the driver has noticed the device.
pub const ACKNOWLEDGE: u8 = 1;
/// Status: it knows how to drive it.
pub const DRIVER: u8 = 2;
/// Status: it is driving it.
pub const DRIVER_OK: u8 = 4;
/// Status: the features are settled.
pub const FEATURES_OK: u8 = 8;
/// Status: the device does nothing any more until it is reset.
pub const NEEDS_RESET: u8 = 0x40;
/// The vector that stands for none (4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// Registers of the common configuration (4.1.4.3).
pub mod common {
    /// Which 32 of the offered features are shown.
    pub const OFFERED_SELECT: u64 = 0x00;
    /// 32 of the offered features.
    pub const OFFERED: u64 = 0x04;
    /// Which 32 of the accepted features are shown.
    pub const ACCEPTED_SELECT: u64 = 0x08;
    /// 32 of the accepted features.
    pub const ACCEPTED: u64 = 0x0c;
    /// The MSI-X entry for changes of the configuration.
    pub const CONFIG_VECTOR: u64 = 0x10;
    /// How many queues there can be.
    pub const QUEUES: u64 = 0x12;
    /// Status.
    pub const STATUS: u64 = 0x14;
    /// Changes with the configuration.
    pub const GENERATION: u64 = 0x15;
    /// Which queue the registers behind this one belong to.
    pub const QUEUE_SELECT: u64 = 0x16;
    /// Entries of the queue.
    pub const QUEUE_SIZE: u64 = 0x18;
    /// Its MSI-X entry.
    pub const QUEUE_VECTOR: u64 = 0x1a;
    /// Whether it is in use.
    pub const QUEUE_ENABLE: u64 = 0x1c;
    /// Where its notifications go.
    pub const QUEUE_NOTIFY: u64 = 0x1e;
    /// Address of its descriptor table.
    pub const QUEUE_DESCRIPTORS: u64 = 0x20;
    /// Address of its available ring.
    pub const QUEUE_AVAILABLE: u64 = 0x28;
    /// Address of its used ring.
    pub const QUEUE_USED: u64 = 0x30;
    /// Bytes of all of them.
    pub const BYTES: u64 = 0x38;
}

/// How a device says that there is news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupts {
    /// Not at all: the kernel looks.
    Polled,
    /// By messages: this vector for changes of the configuration, those after it for the queues.
    Messages(u8),
    /// By its interrupt line.
    Line,
}

/// A kind of capability (4.1.4).
#[derive(Clone, Copy)]
enum Part {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
}

/// A device's registers, and what was settled with it.
#[derive(Clone, Debug)]
pub struct Transport {
    function: Function,
    common: Window,
    notify: Window,
    notify_multiplier: u32,
    isr: Window,
    device: Window,
    interrupts: Interrupts,
    features: u64,
}

impl Transport {
    /// The device with this virtio ID, if the guest has one; reset, and driven with these interrupts from now on.
    #[must_use]
    pub fn find(id: u16, interrupts: Interrupts) -> Option<Self> {
        let function = Function::find(VENDOR, FIRST_ID + id)?;
        function.switch_on();
        let (common, _) = part(function, Part::Common)?;
        let (notify, place) = part(function, Part::Notify)?;
        let transport = Self {
            function,
            common,
            notify,
            notify_multiplier: function.read_u32(place + 16),
            isr: part(function, Part::Isr)?.0,
            device: part(function, Part::Device)?.0,
            interrupts,
            features: 0,
        };
        transport.reset();
        Some(transport)
    }

    /// Its place on the bus.
    #[must_use]
    pub const fn function(&self) -> Function {
        self.function
    }

    /// Its common configuration.
    #[must_use]
    pub const fn common(&self) -> Window {
        self.common
    }

    /// Its own configuration.
    #[must_use]
    pub const fn config(&self) -> Window {
        self.device
    }

    /// Where notifications go.
    #[must_use]
    pub const fn notify(&self) -> Window {
        self.notify
    }

    /// The features that were settled.
    #[must_use]
    pub const fn features(&self) -> u64 {
        self.features
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.common.load_u8(common::STATUS)
    }

    /// It waits for a reset.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.status() & NEEDS_RESET != 0
    }

    /// Why it interrupts; reading it takes the interrupt line back (4.1.4.5).
    #[must_use]
    pub fn isr(&self) -> u8 {
        self.isr.load_u8(0)
    }

    /// Where [`Transport::isr`] is read, for an interrupt handler.
    #[must_use]
    pub const fn isr_window(&self) -> Window {
        self.isr
    }

    /// Resets it, and waits until it is (4.1.4.3.2).
    pub fn reset(&self) {
        self.common.store_u8(common::STATUS, 0);
        let is_reset = (0..1_000_000).any(|_| self.status() == 0);
        check!(is_reset, "a device does not come out of its reset");
    }

    /// The features that it offers.
    #[must_use]
    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.common.store_u32(common::OFFERED_SELECT, select);
            u64::from(self.common.load_u32(common::OFFERED))
        };
        half(0) | half(1) << 32
    }

    /// Tells it which features are accepted, whatever it offers; whether it agrees.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the value")]
    pub fn accept(&mut self, features: u64) -> bool {
        self.common.store_u8(common::STATUS, ACKNOWLEDGE | DRIVER);
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.common.store_u32(common::ACCEPTED_SELECT, select);
            self.common.store_u32(common::ACCEPTED, half);
        }
        self.common
            .store_u8(common::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.features = features;
        self.status() & FEATURES_OK != 0
    }

    /// Settles those of the wanted features that it offers, and sets up its interrupts.
    pub fn negotiate(&mut self, wanted: u64) {
        let features = self.offered() & wanted | VERSION_1;
        let is_agreed = self.accept(features);
        check!(is_agreed, "a device does not agree with {features:#x}");
        if let Interrupts::Messages(vector) = self.interrupts {
            let msix = self.msix();
            interrupts::count(vector);
            msix.set(0, vector);
            msix.enable();
            self.common.store_u16(common::CONFIG_VECTOR, 0);
            let entry = self.common.load_u16(common::CONFIG_VECTOR);
            check!(
                entry == 0,
                "the vector of the configuration is refused: {entry:#x}"
            );
        }
    }

    /// Its MSI-X.
    #[must_use]
    pub fn msix(&self) -> Msix {
        let msix = Msix::of(self.function);
        check!(msix.is_some(), "a device without MSI-X");
        msix.unwrap_or_else(|| unreachable!())
    }

    /// The most entries of a queue, 0 if there is no such queue.
    #[must_use]
    pub fn queue_size_max(&self, index: u16) -> u16 {
        self.common.store_u16(common::QUEUE_SELECT, index);
        self.common.load_u16(common::QUEUE_SIZE)
    }

    /// Sets a queue up in memory from `place` on, which takes [`super::queue::PAGES`] pages.
    #[must_use]
    pub fn queue(&self, index: u16, place: u64) -> Queue {
        let size = self.queue_size_max(index);
        check!(size.is_power_of_two(), "queue {index} has {size} entries");
        let layout = Layout::new(place, size.min(super::queue::SIZE_MAX));
        self.common.store_u16(common::QUEUE_SIZE, layout.size);
        self.connect(index);
        self.common
            .store_u64(common::QUEUE_DESCRIPTORS, layout.descriptors);
        self.common.store_u64(common::QUEUE_AVAILABLE, layout.available);
        self.common.store_u64(common::QUEUE_USED, layout.used);
        let offset = u64::from(self.common.load_u16(common::QUEUE_NOTIFY));
        let doorbell = self.notify.at(offset * u64::from(self.notify_multiplier));
        let queue = Queue::new(index, layout, doorbell);
        self.common.store_u16(common::QUEUE_ENABLE, 1);
        queue
    }

    /// Gives the selected queue the interrupt of its number.
    fn connect(&self, index: u16) {
        let Interrupts::Messages(vector) = self.interrupts else {
            return;
        };
        let entry = index + 1;
        let vector = vector + u8::try_from(entry).unwrap_or(u8::MAX);
        interrupts::count(vector);
        self.msix().set(entry, vector);
        self.common.store_u16(common::QUEUE_VECTOR, entry);
        let found = self.common.load_u16(common::QUEUE_VECTOR);
        check!(
            found == entry,
            "the vector of queue {index} is refused: {found:#x}"
        );
    }

    /// The driver is ready (3.1.1, step 8).
    pub fn start(&self) {
        let status = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        self.common.store_u8(common::STATUS, status);
        let found = self.status();
        check!(found == status, "a device with status {found:#x} after its start");
    }
}

/// Where a part of the registers is, and its capability.
fn part(function: Function, part: Part) -> Option<(Window, u8)> {
    const VENDOR_SPECIFIC: u8 = 9;
    let (_, place) = function
        .capabilities()
        .find(|(id, place)| *id == VENDOR_SPECIFIC && function.read_u8(place + 3) == part as u8)?;
    let bar = function.read_u8(place + 4);
    let offset = function.read_u32(place + 8);
    Some((function.base(bar).at(u64::from(offset)), place))
}
