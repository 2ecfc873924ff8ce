//! What is said between the store and whoever has the disk: plain values.

use arrayvec::ArrayVec;
use pleat_types::Hfn;

use super::RUN;
use super::blocks::{Blocks, MAX_BLOCKS};
use super::clean::CLEAN_FRAMES_MAX;
use super::reads::READS;
use super::staging::BUFFERS;

/// What a disk needs at boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskPlan {
    /// Blocks that may be used, from the first one on. Of those beyond [`MAX_BLOCKS`] nothing is made.
    pub blocks: u32,
    /// Frames for the table of clean copies, each for 4 MiB of pages; at most [`CLEAN_FRAMES_MAX`].
    pub clean_frames: usize,
}

impl DiskPlan {
    /// How many frames that takes, for good.
    #[must_use]
    pub fn frames(&self) -> usize {
        let blocks = Blocks::frames_for(self.blocks.min(MAX_BLOCKS)) as usize;
        blocks + BUFFERS + READS + self.clean_frames.min(CLEAN_FRAMES_MAX)
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the disk into the frames.
    Read,
    /// From the frames to the disk.
    Write,
}

/// What the disk is to do. The frames are its own until [`crate::swap::Store::finished`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskRequest {
    /// Which way.
    pub direction: Direction,
    /// The first of as many blocks as there are frames.
    pub first: u32,
    /// One for each block.
    pub frames: ArrayVec<Hfn, RUN>,
}

/// Why the disk did not do it. It may have done a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The medium: a block cannot be read or written.
    BadSector,
    /// Bytes were lost on their way, or too few came, or the device gives no reason.
    Transfer,
    /// No answer in time.
    TimedOut,
    /// The disk does not answer any more, and will not.
    Gone,
}

/// What the disk is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DiskState {
    /// There is none.
    #[default]
    None,
    /// All.
    Open,
    /// Nothing is written any more: it failed too often.
    ReadOnly,
    /// Nothing. What was on it is lost.
    Gone,
}

/// What was done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskWork {
    /// Requests that wrote, and blocks that they wrote.
    pub write_requests: u64,
    /// Blocks that were written.
    pub writes: u64,
    /// Blocks that were read.
    pub reads: u64,
    /// Contents that were there still when they were to be kept again.
    pub clean_hits: u64,
    /// Clean copies that were given up for their blocks, or for others.
    pub clean_dropped: u64,
    /// Requests that failed because of the medium.
    pub bad_sectors: u64,
    /// Requests whose bytes were lost.
    pub transfer_errors: u64,
    /// Requests without an answer.
    pub time_outs: u64,
    /// Contents that were not what they had been.
    pub checksum_errors: u64,
    /// Contents that could not be read, as often as somebody was told.
    pub lost: u64,
    /// Contents that were read once more because they were not what they had been.
    pub read_again: u64,
}

/// The blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockCounts {
    /// All.
    pub total: u64,
    /// What contents have, and what is being written to.
    pub used: u64,
    /// What clean copies have, until others need it.
    pub cached: u64,
    /// Nobody's.
    pub free: u64,
    /// They could not be written.
    pub bad: u64,
}

/// Whether a content from the disk is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coming {
    /// It can be asked for.
    Here,
    /// It will be read.
    Soon,
    /// Others are read first: want it again.
    Later,
}
