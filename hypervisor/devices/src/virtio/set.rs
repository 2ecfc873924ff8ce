//! The virtio devices of one guest, each in its fixed place on the bus.

use super::balloon::{Balloon, BalloonSetup};
use super::block::Block;
use super::console::Console;
use super::device::Device;
use super::entropy::Entropy;
use super::hands::Hands;
use super::mem::{Mem, MemSetup};
use super::transport::{Endpoint, Served, Transport};
use crate::pci::{Identity, VIRTIO_PLACES};

/// Which devices a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceSet {
    /// A memory balloon.
    pub balloon: Option<BalloonSetup>,
    /// Memory that can be plugged.
    pub mem: Option<MemSetup>,
    /// A console and the port for messages about pressure.
    pub has_console: bool,
    /// A disk of this many sectors of 512 bytes.
    pub disk_sectors: Option<u64>,
    /// A source of random bytes.
    pub has_random: bool,
}

impl DeviceSet {
    /// No device at all.
    pub const NONE: Self = Self {
        balloon: None,
        mem: None,
        has_console: false,
        disk_sectors: None,
        has_random: false,
    };
}

/// What can be told of a virtio device of any kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FunctionView {
    /// Its kind, in one word.
    pub name: &'static str,
    /// Its device number on bus 0.
    pub device: u8,
    /// Whether a driver uses it.
    pub is_driven: bool,
    /// Why it needs a reset, when the guest broke its rules.
    pub needs_reset: Option<&'static str>,
    /// The features that its driver has chosen.
    pub features: u64,
    /// Whether its interrupts are messages.
    pub uses_msix: bool,
    /// Queues that are enabled.
    pub queues: u8,
    /// How often its driver has notified it.
    pub notifications: u64,
    /// Interrupts that it has given.
    pub interrupts: u64,
}

/// Places on the bus: device numbers from 1 on.
pub(crate) const BALLOON: usize = 0;
pub(crate) const MEM: usize = 1;
pub(crate) const CONSOLE: usize = 2;
const BLOCK: usize = 3;
const ENTROPY: usize = 4;

pub(crate) const NAMES: [&str; VIRTIO_PLACES] = ["balloon", "mem", "console", "block", "entropy"];
/// Wires to the 8259s that no device of a PC without a keyboard uses.
const IRQS: [u8; VIRTIO_PLACES] = [5, 10, 11, 12, 15];
const CLASS_OTHER: u16 = 0x00ff;
const CLASS_COMMUNICATION: u16 = 0x0780;
const CLASS_STORAGE: u16 = 0x0100;

/// The devices, with a note of which of them have work.
#[derive(Clone, Debug)]
pub(crate) struct VirtioSet {
    pub(crate) balloon: Option<Transport<Balloon, 4>>,
    pub(crate) mem: Option<Transport<Mem, 1>>,
    pub(crate) console: Option<Transport<Console, 6>>,
    pub(crate) block: Option<Transport<Block, 1>>,
    pub(crate) entropy: Option<Transport<Entropy, 1>>,
    /// Places, as bits, that have something to serve.
    busy: u8,
}

impl VirtioSet {
    pub(crate) fn new(set: &DeviceSet) -> Self {
        Self {
            balloon: set.balloon.map(|setup| Transport::new(Balloon::new(setup))),
            mem: set.mem.map(|setup| Transport::new(Mem::new(setup))),
            console: set.has_console.then(|| Transport::new(Console::new())),
            block: set
                .disk_sectors
                .map(|sectors| Transport::new(Block::new(sectors))),
            entropy: set.has_random.then(|| Transport::new(Entropy::new())),
            busy: 0,
        }
    }

    /// What the devices are on the bus.
    pub(crate) fn identities(set: &DeviceSet) -> [Option<Identity>; VIRTIO_PLACES] {
        let of = |is_there: Option<()>, virtio_id, class, place: usize| {
            let irq = IRQS[place];
            is_there.map(|()| Identity {
                virtio_id,
                class,
                irq,
            })
        };
        [
            of(set.balloon.map(|_| ()), Balloon::ID, CLASS_OTHER, BALLOON),
            of(set.mem.map(|_| ()), Mem::ID, CLASS_OTHER, MEM),
            of(
                set.has_console.then_some(()),
                Console::ID,
                CLASS_COMMUNICATION,
                CONSOLE,
            ),
            of(set.disk_sectors.map(|_| ()), Block::ID, CLASS_STORAGE, BLOCK),
            of(set.has_random.then_some(()), Entropy::ID, CLASS_OTHER, ENTROPY),
        ]
    }

    /// The wires of the devices that are there, as bits.
    pub(crate) fn wires(set: &DeviceSet) -> u16 {
        let there = Self::identities(set).into_iter().flatten();
        there.fold(0, |wires, identity| wires | 1 << identity.irq)
    }

    pub(crate) fn endpoint(&self, place: usize) -> Option<&dyn Endpoint> {
        match place {
            BALLOON => self.balloon.as_ref().map(|device| device as &dyn Endpoint),
            MEM => self.mem.as_ref().map(|device| device as &dyn Endpoint),
            CONSOLE => self.console.as_ref().map(|device| device as &dyn Endpoint),
            BLOCK => self.block.as_ref().map(|device| device as &dyn Endpoint),
            _ => self.entropy.as_ref().map(|device| device as &dyn Endpoint),
        }
    }

    #[inline]
    pub(crate) fn endpoint_mut(&mut self, place: usize) -> Option<&mut dyn Endpoint> {
        match place {
            BALLOON => self.balloon.as_mut().map(|device| device as &mut dyn Endpoint),
            MEM => self.mem.as_mut().map(|device| device as &mut dyn Endpoint),
            CONSOLE => self.console.as_mut().map(|device| device as &mut dyn Endpoint),
            BLOCK => self.block.as_mut().map(|device| device as &mut dyn Endpoint),
            _ => self.entropy.as_mut().map(|device| device as &mut dyn Endpoint),
        }
    }

    /// One step of a device's work.
    pub(crate) fn step<H: Hands>(&mut self, place: usize, hands: &mut H, uses_msix: bool) -> Served {
        match place {
            BALLOON => step(&mut self.balloon, hands, uses_msix),
            MEM => step(&mut self.mem, hands, uses_msix),
            CONSOLE => step(&mut self.console, hands, uses_msix),
            BLOCK => step(&mut self.block, hands, uses_msix),
            _ => step(&mut self.entropy, hands, uses_msix),
        }
    }

    #[inline]
    pub(crate) const fn busy(&self) -> u8 {
        self.busy
    }

    /// The device in this place has something to serve.
    #[inline]
    pub(crate) const fn mark_busy(&mut self, place: usize) {
        self.busy |= 1 << (place & 7);
    }

    /// It has nothing to serve.
    pub(crate) const fn mark_idle(&mut self, place: usize) {
        self.busy &= !(1 << (place & 7));
    }
}

/// Apart for each kind: a chain of buffers takes some KiB of stack, and only one kind works at a time.
#[inline(never)]
fn step<D: Device, H: Hands, const QUEUES: usize>(
    device: &mut Option<Transport<D, QUEUES>>,
    hands: &mut H,
    uses_msix: bool,
) -> Served {
    match device {
        Some(device) => device.step(hands, uses_msix),
        None => Served::Idle,
    }
}
