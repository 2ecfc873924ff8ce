//! Errors of the swap store, by who is to blame.

use core::fmt;

use pleat_types::Hfn;

use super::pool::Place;

/// A mistake in Pleat itself, or memory that changed by itself. No guest can cause one: its entries with slot
/// numbers are not in its own memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The frame's number does not fit 32 bits.
    BadFrame(Hfn),
    /// The frame is not one of the pool, or not what the pool made it.
    BrokenFrame(Hfn),
    /// There is no object here.
    NoObject(Place),
    /// An object must have 1 to [`super::MAX_OBJECT`] bytes, and whoever loads one room for it.
    BadLength(usize),
    /// Nothing is in this slot.
    NoSlot(u32),
    /// The slot has what no operation writes.
    BrokenSlot(u32),
    /// A slot has at least one reference, and at most [`super::MAX_REFERENCES`].
    BadReferences(u32),
    /// The block is not one of the disk, or is not in use.
    BadBlock(u32),
    /// The buffer does not have what its slot says.
    NotStaged(u32),
}

/// Why a request was not met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no room, and no frame was offered; or there are as many slots as there can be.
    Full,
    /// As many pages have this content as a slot can count.
    TooManyReferences,
    /// A mistake in Pleat.
    Bug(Bug),
}

impl From<Bug> for Error {
    fn from(bug: Bug) -> Self {
        Self::Bug(bug)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no room in the swap store"),
            Self::TooManyReferences => f.write_str("too many pages with one content"),
            Self::Bug(bug) => write!(f, "bug in the swap store: {bug:?}"),
        }
    }
}

/// What an audit found. Every kind names the first place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Corruption {
    /// A frame of the pool whose header and directory say different things, or whose objects overlap.
    BrokenFrame(Hfn),
    /// The list of frames with so much room does not hold just those.
    BrokenBin(u8),
    /// A slot that no operation writes.
    BrokenSlot(u32),
    /// The list of free slots does not hold just those.
    BrokenFreeList,
    /// The blocks of the disk that are in use are not those that somebody has, or the tree of the free ones is broken.
    BrokenBlocks,
    /// A buffer on the way to the disk or back, and a slot, that say different things.
    BrokenBuffer(u32),
    /// A slot that is nobody's, and that no page's place has; or a place with another slot.
    BrokenClean,
    /// The counts differ from what is there.
    Miscounted,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenFrame(frame) => write!(f, "broken frame {frame} of the pool"),
            Self::BrokenBin(bin) => write!(f, "broken list {bin} of the pool"),
            Self::BrokenSlot(slot) => write!(f, "broken slot {slot}"),
            Self::BrokenFreeList => f.write_str("broken list of free slots"),
            Self::BrokenBlocks => f.write_str("broken record of the disk's blocks"),
            Self::BrokenBuffer(slot) => write!(f, "broken buffer of slot {slot}"),
            Self::BrokenClean => f.write_str("broken table of pages with clean copies"),
            Self::Miscounted => f.write_str("counts differ from what the swap store has"),
        }
    }
}
