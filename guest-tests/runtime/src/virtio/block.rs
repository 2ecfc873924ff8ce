//! A driver of the block device (virtio 1.2, 5.2).

use super::queue::{self, Piece, Queue};
use super::transport::{Interrupts, Transport};
use crate::window::Window;

/// Its virtio ID.
pub const ID: u16 = 2;
/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Feature: there is a request to flush.
pub const FLUSH: u64 = 1 << 9;
/// Features: ranges can be discarded, and zeroed.
pub const CLEARING: u64 = 1 << 13 | 1 << 14;
/// Bytes of a range in a request to clear some.
pub const RANGE_BYTES: u64 = 16;
/// Pages of memory that the driver takes: a queue, and one for headers and the status.
pub const PAGES: usize = queue::PAGES + 1;
/// Bytes of a request's header.
pub const HEADER_BYTES: u32 = 16;
/// Pieces of data in a request, at most.
pub const PIECES_MAX: usize = 16;
/// What a status byte holds before the device writes it.
pub const NO_STATUS: u8 = 0xa5;
const PAGE_BYTES: u64 = 4096;

/// What a request wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind(pub u32);

impl Kind {
    /// Read sectors.
    pub const READ: Self = Self(0);
    /// Write sectors.
    pub const WRITE: Self = Self(1);
    /// What was written is to last.
    pub const FLUSH: Self = Self(4);
    /// The device's name.
    pub const GET_ID: Self = Self(8);
    /// Sectors whose bytes are of no use any more.
    pub const DISCARD: Self = Self(11);
    /// Sectors that are to be zeros.
    pub const WRITE_ZEROES: Self = Self(13);
}

/// Status: done.
pub const OK: u8 = 0;
/// Status: not possible.
pub const ERROR: u8 = 1;
/// Status: there is no such request.
pub const UNSUPPORTED: u8 = 2;

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status byte.
    pub status: u8,
    /// Bytes that the device says it has written, the status among them.
    pub bytes: u32,
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    /// Its registers.
    pub transport: Transport,
    /// Its queue.
    pub queue: Queue,
    place: u64,
}

impl Block {
    /// The guest's disk, using [`PAGES`] pages from `place` on; the rings begin `skew` bytes into their pages.
    #[must_use]
    pub fn start(interrupts: Interrupts, place: u64, skew: u64) -> Option<Self> {
        let mut transport = Transport::find(ID, interrupts)?;
        transport.negotiate(FLUSH | CLEARING);
        let queue = transport.queue(0, place + skew);
        transport.start();
        Some(Self {
            transport,
            queue,
            place: place + queue::PAGES as u64 * PAGE_BYTES,
        })
    }

    /// Sectors of the disk.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.transport.config().load_u64(0)
    }

    /// Writes a range of a request to clear some, with these flags.
    pub fn put_range(place: Window, first: u64, sectors: u32, flags: u32) {
        place.store_u64(0, first);
        place.store_u32(8, sectors);
        place.store_u32(12, flags);
    }

    /// The header and the status byte of a request, as pieces; the header is written.
    #[must_use]
    pub fn frame(&self, kind: Kind, sector: u64) -> (Piece, Piece) {
        let header = Window::Memory(self.place);
        header.store_u32(0, kind.0);
        header.store_u32(4, 0);
        header.store_u64(8, sector);
        let status = self.place + u64::from(HEADER_BYTES);
        Window::Memory(status).store_u8(0, NO_STATUS);
        (Piece::read(self.place, HEADER_BYTES), Piece::write(status, 1))
    }

    /// The status byte that the device wrote.
    #[must_use]
    pub fn status(&self) -> u8 {
        Window::Memory(self.place).load_u8(u64::from(HEADER_BYTES))
    }

    /// A request with these pieces of data, at most [`PIECES_MAX`]; waits for the answer.
    ///
    /// # Panics
    /// When there are more pieces.
    pub fn request(&mut self, kind: Kind, sector: u64, data: &[Piece]) -> Answer {
        let (header, status) = self.frame(kind, sector);
        let mut pieces = [Piece::NONE; PIECES_MAX + 2];
        pieces[0] = header;
        pieces[1..=data.len()].copy_from_slice(data);
        pieces[data.len() + 1] = status;
        let used = self.queue.run(&pieces[..data.len() + 2]);
        Answer {
            status: self.status(),
            bytes: used.bytes,
        }
    }
}
