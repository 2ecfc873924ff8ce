//! The host's own disk: what is said between who decides what lies there (`vmm`) and who moves it (`machine`).
//!
//! A disk is an array of blocks as large as a frame, so a page has one number there and nobody speaks of sectors.
//! Its content is scratch: it means nothing to the next boot, so nothing is ever flushed to the medium. One
//! request is under way at a time. That keeps the driver small, and costs nothing where the medium is one head or
//! one file; who wants to move much makes requests long ([`DISK_RUN`]).

use crate::Hfn;

/// The most blocks of one request: 256 sectors of 512 bytes, which is what one ATA command with a count of 8 bits can
/// move (ATA/ATAPI-7, 6.17: a count of 0 means 256).
pub const DISK_RUN: usize = 32;

/// How a disk is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskKind {
    /// ATA, the processor moving each word.
    AtaPio,
    /// ATA, a bus master moving the bytes while guests run.
    AtaDma,
    /// A virtio block device.
    Virtio,
}

impl DiskKind {
    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtaPio => "ATA by PIO",
            Self::AtaDma => "ATA by DMA",
            Self::Virtio => "virtio",
        }
    }
}

/// What is known of an open disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskInfo {
    /// Its size in blocks.
    pub blocks: u64,
    /// How it is reached.
    pub kind: DiskKind,
}

impl DiskInfo {
    /// Whether a request can be given to the disk at all. Every implementation asks this first, so that what it
    /// refuses has touched nothing.
    ///
    /// # Errors
    /// [`DiskFailure::Malformed`] or [`DiskFailure::BeyondEnd`].
    pub fn check(&self, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        if !(1..=DISK_RUN).contains(&request.frames.len()) {
            return Err(DiskFailure::Malformed);
        }
        let end = request.first.checked_add(request.frames.len() as u64);
        match end {
            Some(end) if end <= self.blocks => Ok(()),
            _ => Err(DiskFailure::BeyondEnd),
        }
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskDirection {
    /// From the disk into the frames.
    Read,
    /// From the frames to the disk.
    Write,
}

/// One request: blocks in a row, and for each the frame that is filled from it or written to it.
#[derive(Clone, Copy, Debug)]
pub struct DiskRequest<'a> {
    /// Which way.
    pub direction: DiskDirection,
    /// The first block.
    pub first: u64,
    /// 1 to [`DISK_RUN`] frames, each another one. They belong to the disk until the request has ended: who writes to
    /// one meanwhile, or reads one that is being filled, finds old bytes, new bytes, or some of each.
    pub frames: &'a [Hfn],
}

/// Why a request was refused, or came to nothing. A write that failed may have changed any of its blocks, a read any of
/// its frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFailure {
    /// There is no disk, or none that was opened.
    NoDisk,
    /// The last request has not ended, or the disk has not come back from its failure: later it may be well again.
    Busy,
    /// No frame, or more than [`DISK_RUN`]: a bug of the caller.
    Malformed,
    /// It reaches beyond the last block: a bug of the caller. The disk was not touched.
    BeyondEnd,
    /// The medium: a sector cannot be read, is not found, or the device reports a fault of its own.
    BadSector,
    /// The device could not do it, or does not know the command, and says no more than that.
    Refused,
    /// Bytes were damaged or lost between device and memory.
    Transfer,
    /// The device ended the request before all bytes were moved.
    Short,
    /// No answer in time. The device was reset.
    TimedOut,
    /// The device does not answer any more, and will not.
    Gone,
}

impl DiskFailure {
    /// What to say about it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoDisk => "there is no disk",
            Self::Busy => "the disk is busy",
            Self::Malformed => "no block, or too many",
            Self::BeyondEnd => "beyond the end of the disk",
            Self::BadSector => "a sector is bad",
            Self::Refused => "the disk could not do it",
            Self::Transfer => "bytes were lost on their way",
            Self::Short => "the disk ended the transfer early",
            Self::TimedOut => "no answer in time",
            Self::Gone => "the disk is gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: DiskInfo = DiskInfo {
        blocks: 100,
        kind: DiskKind::AtaDma,
    };

    fn check(first: u64, count: usize) -> Result<(), DiskFailure> {
        let frames = [Hfn::new(1); DISK_RUN + 1];
        INFO.check(&DiskRequest {
            direction: DiskDirection::Read,
            first,
            frames: &frames[..count],
        })
    }

    #[test]
    fn requests_end_with_the_disk() {
        assert_eq!(check(0, 1), Ok(()));
        assert_eq!(check(100 - DISK_RUN as u64, DISK_RUN), Ok(()));
        assert_eq!(check(99, 1), Ok(()));
        for (first, count) in [(100, 1), (99, 2), (u64::MAX, 1), (u64::MAX - 1, 4)] {
            assert_eq!(check(first, count), Err(DiskFailure::BeyondEnd), "{first}");
        }
    }

    #[test]
    fn requests_have_one_block_to_as_many_as_a_run() {
        assert_eq!(check(0, 0), Err(DiskFailure::Malformed));
        assert_eq!(check(0, DISK_RUN + 1), Err(DiskFailure::Malformed));
    }
}
