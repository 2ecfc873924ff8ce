//! Requests that clear ranges of the disk (virtio 1.2, 5.2.6): `DISCARD`, after which the guest does not care what is
//! there, and `WRITE_ZEROES`. Ranges are claims like all else, and are read and checked anew for each piece of work.
//!
//! The flag `unmap` of a range to zero makes no difference: what the owner keeps zeros in costs as little either way.

use arrayvec::ArrayVec;

use super::SECTOR_BYTES;
use super::request::{HEADER_BYTES, Status, Work, range};
use crate::virtio::device::Trouble;
use crate::virtio::hands::{Hands, Unwritten};
use crate::virtio::queue::{Chain, Direction};

/// Ranges of one request.
pub(super) const RANGES_MAX: u32 = 16;
const RANGES: usize = RANGES_MAX as usize;
/// Sectors of one range: 1 GiB. What is longer Linux splits.
pub(super) const SECTORS_MAX: u32 = 1 << 21;
/// `struct virtio_blk_discard_write_zeroes`: a sector, how many, flags.
const RANGE_BYTES: usize = 16;
const FLAG_UNMAP: u32 = 1;
/// Bytes cleared at a time, up to a multiple of them: what the owner has one table for.
const PIECE_BYTES: u64 = 2 << 20;
/// So many cleared bytes are as much work as one that is moved.
const CHEAPER: u64 = 32;
/// The least that a piece counts for.
const COST_MIN: u64 = 4096;

/// What becomes of the ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Clearing {
    Discard,
    Zero,
}

/// A piece that was cleared.
pub(super) struct Cleared {
    pub(super) bytes: u64,
    /// What it counts for beside bytes that are moved.
    pub(super) cost: u64,
}

/// Ranges of the disk: where they begin, and how long they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ranges(ArrayVec<(u64, u64), RANGES>);

impl Ranges {
    /// Reads the ranges of a request. All of them are checked before the first one changes.
    pub(super) fn read<H: Hands>(
        hands: &mut H,
        chain: &Chain,
        how: Clearing,
        sectors: u64,
    ) -> Result<Work, Trouble> {
        let mut raw = [0; RANGES * RANGE_BYTES];
        let bytes = chain
            .bytes(Direction::FromGuest)
            .saturating_sub(HEADER_BYTES as u64);
        if bytes > raw.len() as u64 || !bytes.is_multiple_of(RANGE_BYTES as u64) {
            return Ok(Work::Refuse(Status::IoErr));
        }
        let there = chain.copy_out(hands, HEADER_BYTES as u64, &mut raw)?;
        let (parts, _) = raw[..there].as_chunks::<RANGE_BYTES>();
        let ranges: Result<_, Status> = parts.iter().map(|part| checked(part, how, sectors)).collect();
        Ok(match ranges {
            Ok(ranges) => Work::Clear {
                how,
                ranges: Self(ranges),
            },
            Err(status) => Work::Refuse(status),
        })
    }

    /// All bytes in them.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Where the byte behind so many others is, and how many follow it in its range.
    fn place(&self, mut skip: u64) -> Option<(u64, u64)> {
        for &(at, bytes) in &self.0 {
            if skip < bytes {
                return Some((at + skip, bytes - skip));
            }
            skip -= bytes;
        }
        None
    }

    /// Clears the piece behind the `done` bytes that are.
    pub(super) fn clear<H: Hands>(
        &self,
        hands: &mut H,
        how: Clearing,
        done: u64,
    ) -> Result<Cleared, Unwritten> {
        let (at, left) = self.place(done).unwrap_or((0, 0));
        let bytes = left.min(PIECE_BYTES - at % PIECE_BYTES);
        match how {
            Clearing::Discard => hands.discard_disk(at, bytes),
            Clearing::Zero => hands.zero_disk(at, bytes)?,
        }
        let cost = (bytes / CHEAPER).max(COST_MIN);
        Ok(Cleared { bytes, cost })
    }
}

/// A range as it is asked for, if it can be cleared in this way (5.2.6.2): of the flags there is `unmap` alone, and
/// not for what is discarded.
fn checked(raw: &[u8; RANGE_BYTES], how: Clearing, sectors: u64) -> Result<(u64, u64), Status> {
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = *raw;
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let count = u32::from_le_bytes([n0, n1, n2, n3]);
    let allowed = match how {
        Clearing::Discard => 0,
        Clearing::Zero => FLAG_UNMAP,
    };
    if u32::from_le_bytes([f0, f1, f2, f3]) & !allowed != 0 {
        return Err(Status::Unsupported);
    }
    if count > SECTORS_MAX {
        return Err(Status::IoErr);
    }
    range(sector, u64::from(count) * SECTOR_BYTES, sectors).ok_or(Status::IoErr)
}
