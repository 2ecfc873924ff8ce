//! A driver of the entropy device (virtio 1.2, 5.4).

use super::queue::{self, Piece, Queue, Used};
use super::transport::{Interrupts, Transport};

/// Its virtio ID.
pub const ID: u16 = 4;
/// Pages of memory that the driver takes.
pub const PAGES: usize = queue::PAGES;

/// A source of random bytes.
#[derive(Debug)]
pub struct Entropy {
    /// Its registers.
    pub transport: Transport,
    /// Its queue.
    pub queue: Queue,
}

impl Entropy {
    /// The guest's source, using [`PAGES`] pages from `place` on.
    #[must_use]
    pub fn start(interrupts: Interrupts, place: u64) -> Option<Self> {
        let mut transport = Transport::find(ID, interrupts)?;
        transport.negotiate(0);
        let queue = transport.queue(0, place);
        transport.start();
        Some(Self { transport, queue })
    }

    /// Fills pieces of memory, and waits; the device may write less than was asked for.
    pub fn fill(&mut self, pieces: &[Piece]) -> Used {
        self.queue.run(pieces)
    }
}
