//! The block device (virtio 1.2, 5.2): one disk, one queue.
//!
//! **Features**, for a Linux that has no indirect descriptors:
//! - `SEG_MAX` with 32: without it Linux puts one segment into a request. 32 pages are its usual readahead (128 KiB),
//!   so that one request carries it; and as a chain is read again for each 64 KiB of it, the work for descriptors
//!   grows with the square of its length, at this size to two reads for each page. A queue of 128 holds three such
//!   requests whole, so that one notification brings several.
//! - `BLK_SIZE` 512 with `TOPOLOGY` "eight of them are one physical block": the owner keeps the disk in pages, and a
//!   write of a part of one costs a copy first. A logical size of 4,096 would say so as well, but Linux then refuses
//!   file systems with smaller blocks (`mkfs.ext4` gives them to small disks) and reads partition tables differently.
//! - `FLUSH`, which devices should always offer (5.2.5.2), together with `CONFIG_WCE`, whose cache mode is
//!   writethrough after reset: a write lies where it will lie when it completes, and Linux sends no flushes then.
//! - `DISCARD` and `WRITE_ZEROES`: what a guest has deleted costs the host no frame any more, and zeros cost none. In
//!   units of a page, as the owner keeps no less.
//! - not `SIZE_MAX`: a segment may be as long as it likes.
//!
//! **A chain in pieces.** One serve moves 64 KiB. What was moved of a chain is kept; the rest of the request is read
//! and checked again on each call, as the guest may have changed it: it then gets what it asked for last. What is
//! cleared counts for less, as no byte is moved.

mod clear;
mod request;
#[cfg(test)]
mod tests;

use super::device::{Device, Step, Trouble};
use super::hands::{Denied, Hands, Unwritten};
use super::queue::{Chain, Queue};
use clear::{RANGES_MAX, SECTORS_MAX};
use request::{Request, Status, Work};

/// Bytes of a sector, whatever the block size (5.2.4).
const SECTOR_BYTES: u64 = 512;
/// Bytes moved in one serve.
const MOVED_MAX: u64 = 64 * 1024;
/// Requests answered in one serve, also if they move nothing: each may have as many descriptors as the queue.
const REQUESTS_MAX: u32 = 16;
/// Bytes between the disk and the guest at a time.
const PIECE_BYTES: usize = 4096;
const QUEUE_SIZE: u16 = 128;
const SEGMENTS_MAX: u32 = 32;
/// The logical block size, in the width of its field.
const BLOCK_BYTES: u32 = 512;

const SEG_MAX: u64 = 1 << 2;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const TOPOLOGY: u64 = 1 << 10;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;
/// Where `writeback` is in the configuration space, and its end for the features that are offered.
const WRITEBACK: usize = 32;
const CONFIG_BYTES: usize = 60;
/// Eight sectors are a page of the owner's, as an exponent.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// What `GET_ID` says.
const IDENTITY: [u8; 20] = *b"pleat-disk\0\0\0\0\0\0\0\0\0\0";

/// A disk.
#[derive(Clone, Debug)]
pub struct Block {
    sectors: u64,
    /// The cache mode that the guest set; it changes nothing.
    is_writeback: bool,
    /// Bytes of the first chain that were moved.
    done: u64,
    requests: u64,
    refused: u64,
    sectors_read: u64,
    sectors_written: u64,
    sectors_cleared: u64,
}

/// Why a request is not done yet.
enum Stop {
    Trouble(Trouble),
    /// It never will be: the guest may not have more of the disk for its own.
    Full,
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Denied> for Stop {
    fn from(denied: Denied) -> Self {
        Self::Trouble(denied.into())
    }
}

impl From<Unwritten> for Stop {
    fn from(why: Unwritten) -> Self {
        match why {
            Unwritten::Full => Self::Full,
            Unwritten::HostShort => Self::Trouble(Trouble::HostShort),
        }
    }
}

impl Block {
    /// A disk of this size.
    #[must_use]
    pub const fn new(sectors: u64) -> Self {
        // So that the address of its last byte is a number of 64 bits.
        let most = u64::MAX / SECTOR_BYTES;
        Self {
            sectors: if sectors < most { sectors } else { most },
            is_writeback: false,
            done: 0,
            requests: 0,
            refused: 0,
            sectors_read: 0,
            sectors_written: 0,
            sectors_cleared: 0,
        }
    }

    /// Its size.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Requests that were answered.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Those of them that were answered with an error.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Sectors that the guest has read.
    #[must_use]
    pub const fn sectors_read(&self) -> u64 {
        self.sectors_read
    }

    /// Sectors that the guest has written.
    #[must_use]
    pub const fn sectors_written(&self) -> u64 {
        self.sectors_written
    }

    /// Sectors that the guest has discarded or had zeroed.
    #[must_use]
    pub const fn sectors_cleared(&self) -> u64 {
        self.sectors_cleared
    }

    /// Does what is left of a request, at most about so much, and returns how much of that is left.
    fn transfer<H: Hands>(
        &mut self,
        hands: &mut H,
        chain: &Chain,
        work: &Work,
        mut budget: u64,
    ) -> Result<u64, Stop> {
        while budget > 0 && self.done < work.bytes() {
            let left = (work.bytes() - self.done).min(budget);
            let (bytes, cost) = match work {
                Work::Read { at, .. } => self.read_piece(hands, chain, at + self.done, left)?,
                Work::Write { at, .. } => self.write_piece(hands, chain, at + self.done, left)?,
                Work::Clear { how, ranges } => {
                    let cleared = ranges.clear(hands, *how, self.done)?;
                    let sectors = cleared.bytes / SECTOR_BYTES;
                    self.sectors_cleared = self.sectors_cleared.saturating_add(sectors);
                    (cleared.bytes, cleared.cost)
                }
                Work::Flush | Work::Identify { .. } | Work::Refuse(_) => (0, budget),
            };
            self.done += bytes;
            budget = budget.saturating_sub(cost);
        }
        Ok(budget)
    }

    /// Reads up to the end of a page of the disk, which is a page of the owner's as well; says how much that was, and
    /// counts for.
    fn read_piece<H: Hands>(
        &mut self,
        hands: &mut H,
        chain: &Chain,
        at: u64,
        bytes_max: u64,
    ) -> Result<(u64, u64), Stop> {
        let mut buffer = [0; PIECE_BYTES];
        let piece = piece_of(&mut buffer, at, bytes_max);
        let bytes = piece.len() as u64;
        chain.make_writable(hands, self.done, bytes)?;
        hands.read_disk(at, piece)?;
        chain.copy_in(hands, self.done, piece)?;
        self.sectors_read = self.sectors_read.saturating_add(bytes / SECTOR_BYTES);
        Ok((bytes, bytes))
    }

    /// The same for a write.
    fn write_piece<H: Hands>(
        &mut self,
        hands: &mut H,
        chain: &Chain,
        at: u64,
        bytes_max: u64,
    ) -> Result<(u64, u64), Stop> {
        let mut buffer = [0; PIECE_BYTES];
        let piece = piece_of(&mut buffer, at, bytes_max);
        let bytes = piece.len() as u64;
        chain.copy_out(hands, request::HEADER_BYTES as u64 + self.done, piece)?;
        hands.write_disk(at, piece)?;
        self.sectors_written = self.sectors_written.saturating_add(bytes / SECTOR_BYTES);
        Ok((bytes, bytes))
    }

    /// Answers a request whose bytes have been moved.
    fn finish<H: Hands>(
        &mut self,
        hands: &mut H,
        queue: &mut Queue,
        chain: &Chain,
        request: &Request,
    ) -> Result<(), Trouble> {
        chain.make_writable(hands, request.status_at, 1)?;
        let mut written = 0;
        let status = match request.work {
            Work::Identify { bytes } => {
                chain.make_writable(hands, 0, bytes as u64)?;
                written = chain.copy_in(hands, 0, &IDENTITY[..bytes])? as u64;
                Status::Ok
            }
            Work::Read { bytes, .. } => {
                written = bytes;
                Status::Ok
            }
            Work::Write { .. } | Work::Clear { .. } | Work::Flush => Status::Ok,
            Work::Refuse(status) => status,
        };
        chain.copy_in(hands, request.status_at, &[status as u8])?;
        // Bytes from the beginning without a gap (2.7.8.2); the status lies behind the room for data.
        written += u64::from(written == request.status_at);
        queue.complete(hands, chain, u32::try_from(written).unwrap_or(u32::MAX))?;
        self.done = 0;
        self.requests = self.requests.saturating_add(1);
        self.refused = self.refused.saturating_add(u64::from(status != Status::Ok));
        Ok(())
    }
}

/// The part of a buffer for what is to the end of a page of the disk, at most so many bytes.
fn piece_of(buffer: &mut [u8; PIECE_BYTES], at: u64, bytes_max: u64) -> &mut [u8] {
    let in_page = PIECE_BYTES as u64 - at % PIECE_BYTES as u64;
    let bytes = usize::try_from(in_page.min(bytes_max)).unwrap_or(PIECE_BYTES);
    &mut buffer[..bytes]
}

impl Device for Block {
    const ID: u16 = 2;
    const QUEUE_SIZES: &'static [u16] = &[QUEUE_SIZE];

    fn offered(&self) -> u64 {
        SEG_MAX | BLK_SIZE | FLUSH | TOPOLOGY | CONFIG_WCE | DISCARD | WRITE_ZEROES
    }

    fn negotiated(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.is_writeback = false;
        self.done = 0;
    }

    fn config(&self, at: usize) -> u8 {
        // `struct virtio_blk_config` (5.2.4), up to `unused1`.
        let mut space = [0; CONFIG_BYTES];
        space[..8].copy_from_slice(&self.sectors.to_le_bytes());
        space[12..16].copy_from_slice(&SEGMENTS_MAX.to_le_bytes());
        space[20..24].copy_from_slice(&BLOCK_BYTES.to_le_bytes());
        space[24] = PHYSICAL_BLOCK_EXPONENT;
        space[26..28].copy_from_slice(&(1_u16 << PHYSICAL_BLOCK_EXPONENT).to_le_bytes());
        space[WRITEBACK] = u8::from(self.is_writeback);
        for limits in [36, 48] {
            space[limits..limits + 4].copy_from_slice(&SECTORS_MAX.to_le_bytes());
            space[limits + 4..limits + 8].copy_from_slice(&RANGES_MAX.to_le_bytes());
        }
        // What is discarded is best a multiple of a page; what is zeroed may lose its frames.
        space[44] = 1 << PHYSICAL_BLOCK_EXPONENT;
        space[56] = 1;
        space.get(at).copied().unwrap_or(0)
    }

    fn write_config(&mut self, at: usize, byte: u8) {
        if at == WRITEBACK {
            self.is_writeback = byte & 1 != 0;
        }
    }

    fn serve<H: Hands>(&mut self, _index: usize, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble> {
        let mut budget = MOVED_MAX;
        for _ in 0..REQUESTS_MAX {
            let Some(chain) = queue.first(hands)? else {
                return Ok(Step::Done);
            };
            let mut request = Request::read(hands, &chain, self.sectors)?;
            match self.transfer(hands, &chain, &request.work, budget) {
                Ok(left) => budget = left,
                Err(Stop::Full) => request.work = Work::Refuse(Status::IoErr),
                Err(Stop::Trouble(trouble)) => return Err(trouble),
            }
            if self.done < request.work.bytes() {
                return Ok(Step::More);
            }
            self.finish(hands, queue, &chain, &request)?;
        }
        Ok(Step::More)
    }
}
