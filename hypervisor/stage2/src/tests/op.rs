//! The operations of the tests, and the memory that they work on.

use std::vec::Vec;

use crate::codec::Absent;
use pleat_types::PageSize;

pub const ZERO: u64 = 0x77;
/// Four blocks of 2 MiB, and 1 GiB with something ragged before it.
pub const PROMISED: [(u64, u64); 2] = [(0, 2048), (GIB - 700, GIB + 700)];
pub const DEVICE: (u64, u64) = (3000, 5);
pub const GIB: u64 = 1 << 18;
/// Pages that are looked at: ends and middles of blocks, a device, a hole.
pub const GFNS: [u64; 18] = [
    0,
    1,
    511,
    512,
    513,
    1023,
    1024,
    1536,
    2047,
    2048,
    3002,
    GIB - 700,
    GIB - 512,
    GIB - 1,
    GIB,
    GIB + 512,
    GIB + 1023,
    2 * GIB - 1,
];

/// How an operation comes to its page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By a walk of its own.
    Walk,
    /// By a spot that was found before.
    Spot,
}

/// What a page is offered that shares its frame and is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// A copy in this frame.
    Copy(u64),
    /// Its frame.
    Same,
    /// Frames that are no copy: of another size, the very frame that is shared, the zero frame.
    Large(u64),
    Original,
    Zero,
    Nothing,
}

#[derive(Clone, Debug)]
pub enum Op {
    Zero(u64),
    Unique(u64, u64, Way),
    Block(u64, u64, PageSize),
    Split(u64),
    Collapse(u64),
    Fold(u64, PageSize),
    Unmap(u64, PageSize, Absent),
    Reclassify(u64, Absent, Absent),
    Freeze(u64),
    Thaw(u64),
    Share(u64),
    /// Onto this frame, which is shared already.
    MergeInto(u64, u64),
    MergeIntoZero(u64),
    Part(u64, Offer),
    /// Into this block.
    Gather(u64, u64),
    /// The guest uses a page: the processor sets A, and D for a write.
    Use(u64, bool),
    /// A generation ends, in steps of so many entries.
    Age(usize),
    SwapOut(u64, u32),
    SwapOutShare(u64, u32),
    SwapIn(u64, u64),
    /// With a share in this frame.
    SwapInShare(u64, u64),
    Sweep(u64, u64),
    TakeAccessed(u64),
    MarkWritten(u64),
    OweCalm(u64),
    /// These pages, in one batch.
    Discard(Vec<u64>, Absent),
    Deflate(Vec<u64>),
    /// The next piece of so many pages from this one on.
    DiscardRange(u64, u64, Absent),
    Promise(u64, u64),
}

impl Op {
    /// What one page asks for can make the others smaller before it is their turn.
    pub const fn is_batch(&self) -> bool {
        matches!(self, Self::Discard(..) | Self::DiscardRange(..))
    }
}

/// How many epochs a write to this frame costs, as the tests' policy has it: too few and too many, too.
#[allow(clippy::cast_possible_truncation)] // below 20
pub const fn owe(frame: u64) -> u8 {
    ((frame >> 18) % 20) as u8
}
