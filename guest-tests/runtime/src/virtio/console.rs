//! A driver of the console (virtio 1.2, 5.3): port 0 is the console, others have names.

use super::queue::{self, Piece, Queue};
use super::transport::{Interrupts, Transport};
use crate::check;
use crate::window::Window;

/// Its virtio ID.
pub const ID: u16 = 3;
/// Feature: more than one port, and queues to talk about them.
pub const MULTIPORT: u64 = 1 << 1;
/// Queues: those of port 0, of control messages, of port 1.
pub const QUEUES: usize = 6;
/// Pages of memory that the driver takes: its queues, and one for control messages and what is sent.
pub const PAGES: usize = QUEUES * queue::PAGES + 1;
/// Bytes of a control message without a name.
const MESSAGE_BYTES: u32 = 8;
/// Buffers for control messages, and their size.
const CONTROL_BUFFERS: u64 = 8;
const CONTROL_BYTES: u32 = 64;
const SEND_BYTES: usize = 1024;
const PAGE_BYTES: u64 = 4096;

/// Events of control messages (5.3.6.2).
pub mod event {
    /// The driver is ready.
    pub const DEVICE_READY: u16 = 0;
    /// There is a port.
    pub const PORT_ADD: u16 = 1;
    /// The driver is ready for a port.
    pub const PORT_READY: u16 = 3;
    /// This port is a console.
    pub const CONSOLE_PORT: u16 = 4;
    /// A side has opened or closed a port.
    pub const PORT_OPEN: u16 = 6;
    /// What a port is called.
    pub const PORT_NAME: u16 = 7;
}

/// A control message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The port that it is about.
    pub port: u32,
    /// What happened.
    pub event: u16,
    /// More about it.
    pub value: u16,
    /// The name, with its bytes beyond `name_len` zero.
    pub name: [u8; 48],
    /// Bytes of the name.
    pub name_len: usize,
}

/// A console device.
#[derive(Debug)]
pub struct Console {
    /// Its registers.
    pub transport: Transport,
    queues: [Queue; QUEUES],
    place: u64,
}

impl Console {
    /// The guest's console with both its ports, using [`PAGES`] pages from `place` on. Buffers for control
    /// messages are offered, and the device is told that the driver is ready.
    #[must_use]
    pub fn start(interrupts: Interrupts, place: u64) -> Option<Self> {
        let mut transport = Transport::find(ID, interrupts)?;
        transport.negotiate(MULTIPORT);
        check!(
            transport.features() & MULTIPORT != 0,
            "the console has one port only"
        );
        let queue_bytes = queue::PAGES as u64 * PAGE_BYTES;
        let queues = [0, 1, 2, 3, 4, 5]
            .map(|index: u16| transport.queue(index, place + u64::from(index) * queue_bytes));
        transport.start();
        let mut console = Self {
            transport,
            queues,
            place: place + QUEUES as u64 * queue_bytes,
        };
        for buffer in 0..CONTROL_BUFFERS {
            let at = console.place + buffer * u64::from(CONTROL_BYTES);
            console.queues[2].offer(&[Piece::write(at, CONTROL_BYTES)]);
        }
        console.queues[2].kick();
        console.tell(0, event::DEVICE_READY, 1);
        Some(console)
    }

    /// The queue on which a port's bytes arrive.
    pub fn receiver(&mut self, port: u32) -> &mut Queue {
        &mut self.queues[if port == 0 { 0 } else { 4 }]
    }

    /// The queue on which a port's bytes are sent.
    pub fn sender(&mut self, port: u32) -> &mut Queue {
        &mut self.queues[if port == 0 { 1 } else { 5 }]
    }

    /// Sends a control message.
    pub fn tell(&mut self, port: u32, event: u16, value: u16) {
        let at = self.place + PAGE_BYTES / 2;
        let message = Window::Memory(at);
        message.store_u32(0, port);
        message.store_u16(4, event);
        message.store_u16(6, value);
        self.queues[3].run(&[Piece::read(at, MESSAGE_BYTES)]);
    }

    /// A control message that has arrived; its buffer is offered again.
    pub fn hear(&mut self) -> Option<Message> {
        let used = self.queues[2].take()?;
        // One descriptor for each message, so its place in the table says where the message is.
        let table = Window::Memory(self.queues[2].layout().descriptors);
        let at = table.load_u64(u64::from(used.head) * 16);
        let message = Window::Memory(at);
        let mut name = [0; 48];
        let name_len = (used.bytes.saturating_sub(MESSAGE_BYTES) as usize).min(name.len());
        message
            .at(u64::from(MESSAGE_BYTES))
            .load_bytes(0, &mut name[..name_len]);
        let heard = Message {
            port: message.load_u32(0),
            event: message.load_u16(4),
            value: message.load_u16(6),
            name,
            name_len,
        };
        self.queues[2].offer(&[Piece::write(at, CONTROL_BYTES)]);
        self.queues[2].kick();
        Some(heard)
    }

    /// Answers control messages until there are none: each port that is announced is opened. How many were opened.
    pub fn open_ports(&mut self) -> u32 {
        let mut opened = 0;
        while let Some(message) = self.hear() {
            if message.event == event::PORT_ADD {
                self.tell(message.port, event::PORT_READY, 1);
                self.tell(message.port, event::PORT_OPEN, 1);
                opened += 1;
            }
        }
        opened
    }

    /// Sends bytes to a port, and waits until they are taken.
    pub fn send(&mut self, port: u32, bytes: &[u8]) {
        let at = self.place + PAGE_BYTES / 2 + u64::from(CONTROL_BYTES);
        for part in bytes.chunks(SEND_BYTES) {
            Window::Memory(at).store_bytes(0, part);
            let len = u32::try_from(part.len()).unwrap_or(0);
            self.sender(port).run(&[Piece::read(at, len)]);
        }
    }
}
