//! A driver of the memory device (virtio 1.2, 5.15): memory that is plugged and unplugged while the guest runs.

use super::queue::{self, Piece, Queue};
use super::transport::{Interrupts, Transport};
use crate::window::Window;

/// Its virtio ID.
pub const ID: u16 = 24;
/// Feature: memory that is not plugged must not be touched.
pub const UNPLUGGED_INACCESSIBLE: u64 = 1 << 1;
/// Pages of memory that the driver takes: a queue, and one for requests.
pub const PAGES: usize = queue::PAGES + 1;
/// Bytes of a request and of an answer.
pub const REQUEST_BYTES: u32 = 24;
/// Bytes of an answer.
pub const ANSWER_BYTES: u32 = 10;
const PAGE_BYTES: u64 = 4096;
/// Where the answer lies behind the request.
const ANSWER: u64 = 64;
/// What an answer holds before the device writes it.
const NO_ANSWER: u16 = 0xa5a5;

/// What a request wants (5.15.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// These blocks are to become memory.
    Plug = 0,
    /// They are to be no memory any more.
    Unplug = 1,
    /// No block is to be memory.
    UnplugAll = 2,
    /// What are they?
    State = 3,
}

/// Answer: done.
pub const ACK: u16 = 0;
/// Answer: not now.
pub const NACK: u16 = 1;
/// Answer: busy.
pub const BUSY: u16 = 2;
/// Answer: never.
pub const ERROR: u16 = 3;
/// State: all of it is memory.
pub const PLUGGED: u16 = 0;
/// State: none of it is memory.
pub const UNPLUGGED: u16 = 1;
/// State: some of it is memory.
pub const MIXED: u16 = 2;

/// What the device says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// How it went.
    pub kind: u16,
    /// For a question: the state.
    pub state: u16,
}

/// A memory device.
#[derive(Debug)]
pub struct Mem {
    /// Its registers.
    pub transport: Transport,
    /// Its queue.
    pub queue: Queue,
    place: u64,
}

impl Mem {
    /// The guest's memory device, using [`PAGES`] pages from `place` on.
    #[must_use]
    pub fn start(interrupts: Interrupts, place: u64) -> Option<Self> {
        let mut transport = Transport::find(ID, interrupts)?;
        transport.negotiate(UNPLUGGED_INACCESSIBLE);
        let queue = transport.queue(0, place);
        transport.start();
        Some(Self {
            transport,
            queue,
            place: place + queue::PAGES as u64 * PAGE_BYTES,
        })
    }

    fn config(&self, offset: u64) -> u64 {
        self.transport.config().load_u64(offset)
    }

    /// Bytes of a block: what can be plugged at least.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.config(0)
    }

    /// Where its memory begins.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.config(16)
    }

    /// Bytes of addresses that it has.
    #[must_use]
    pub fn region_bytes(&self) -> u64 {
        self.config(24)
    }

    /// Bytes of them that may be plugged now.
    #[must_use]
    pub fn usable_bytes(&self) -> u64 {
        self.config(32)
    }

    /// Bytes that are plugged.
    #[must_use]
    pub fn plugged_bytes(&self) -> u64 {
        self.config(40)
    }

    /// Bytes that the host wants to be plugged.
    #[must_use]
    pub fn requested_bytes(&self) -> u64 {
        self.config(48)
    }

    /// Asks for something to happen to so many blocks from an address on.
    pub fn ask(&mut self, request: Request, address: u64, blocks: u16) -> Answer {
        self.ask_anything(request as u16, address, blocks)
    }

    /// As [`Mem::ask`], with any number as the kind of the request.
    pub fn ask_anything(&mut self, kind: u16, address: u64, blocks: u16) -> Answer {
        let request = Window::Memory(self.place);
        for offset in (0..u64::from(REQUEST_BYTES)).step_by(8) {
            request.store_u64(offset, 0);
        }
        request.store_u16(0, kind);
        request.store_u64(8, address);
        request.store_u16(16, blocks);
        let answer = request.at(ANSWER);
        answer.store_u16(0, NO_ANSWER);
        answer.store_u16(8, NO_ANSWER);
        self.queue.run(&[
            Piece::read(self.place, REQUEST_BYTES),
            Piece::write(self.place + ANSWER, ANSWER_BYTES),
        ]);
        Answer {
            kind: answer.load_u16(0),
            state: answer.load_u16(8),
        }
    }
}
