//! A request to the disk (virtio 1.2, 5.2.6), read from a chain and checked.

use super::clear::{Clearing, Ranges};
use super::{IDENTITY, SECTOR_BYTES};
use crate::virtio::device::Trouble;
use crate::virtio::hands::Hands;
use crate::virtio::queue::{Chain, Direction};

/// Type, a reserved field and the sector.
pub(super) const HEADER_BYTES: usize = 16;
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;

/// The last byte of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    IoErr = 1,
    Unsupported = 2,
}

/// What is to be done.
#[allow(clippy::large_enum_variant)] // there is no heap, and one of them at a time
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// From the disk at this byte; both are multiples of 512 within its size.
    Read { at: u64, bytes: u64 },
    /// To it.
    Write { at: u64, bytes: u64 },
    /// Ranges of the disk lose what is in them.
    Clear { how: Clearing, ranges: Ranges },
    /// Nothing: a write is where it belongs when it completes.
    Flush,
    /// Say who it is, in so many bytes.
    Identify { bytes: usize },
    /// Nothing but to say so.
    Refuse(Status),
}

impl Work {
    /// Bytes of the disk that it has to do with.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Read { bytes, .. } | Self::Write { bytes, .. } => *bytes,
            Self::Clear { ranges, .. } => ranges.bytes(),
            Self::Flush | Self::Identify { .. } | Self::Refuse(_) => 0,
        }
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub work: Work,
    /// Which of the bytes that the device writes is the status.
    pub status_at: u64,
}

impl Request {
    /// Reads it; where its parts are split into buffers does not matter (2.7.4).
    ///
    /// A chain that cannot be answered, as it has no header or no status byte, is a broken driver; whatever can be
    /// answered with a status is.
    pub(super) fn read<H: Hands>(hands: &mut H, chain: &Chain, sectors: u64) -> Result<Self, Trouble> {
        let mut header = [0; HEADER_BYTES];
        if chain.copy_out(hands, 0, &mut header)? < HEADER_BYTES {
            return Err(Trouble::Guest("a disk request without a whole header"));
        }
        let Some(status_at) = chain.bytes(Direction::ToGuest).checked_sub(1) else {
            return Err(Trouble::Guest("a disk request without room for its status"));
        };
        let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = header;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let outgoing = chain
            .bytes(Direction::FromGuest)
            .saturating_sub(HEADER_BYTES as u64);
        let work = match u32::from_le_bytes([t0, t1, t2, t3]) {
            TYPE_IN => {
                range(sector, status_at, sectors).map_or(Work::Refuse(Status::IoErr), |(at, bytes)| {
                    Work::Read { at, bytes }
                })
            }
            TYPE_OUT => {
                range(sector, outgoing, sectors).map_or(Work::Refuse(Status::IoErr), |(at, bytes)| {
                    Work::Write { at, bytes }
                })
            }
            TYPE_FLUSH => Work::Flush,
            TYPE_GET_ID => Work::Identify {
                bytes: usize::try_from(status_at).map_or(IDENTITY.len(), |room| room.min(IDENTITY.len())),
            },
            TYPE_DISCARD => Ranges::read(hands, chain, Clearing::Discard, sectors)?,
            TYPE_WRITE_ZEROES => Ranges::read(hands, chain, Clearing::Zero, sectors)?,
            _ => Work::Refuse(Status::Unsupported),
        };
        Ok(Self { work, status_at })
    }
}

/// The bytes of the disk that a request means, if they are whole sectors and there.
pub(super) fn range(sector: u64, bytes: u64, sectors: u64) -> Option<(u64, u64)> {
    let end = sector.checked_add(bytes / SECTOR_BYTES)?;
    let is_there = bytes.is_multiple_of(SECTOR_BYTES) && end <= sectors;
    is_there.then_some((sector.checked_mul(SECTOR_BYTES)?, bytes))
}
