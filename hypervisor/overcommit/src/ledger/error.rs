//! Errors, by who is to blame.

use core::fmt;

use pleat_types::{GuestId, Hfn};

use super::record::Owner;

/// A mistake in Pleat itself. The ledger has not changed. No guest can cause one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// The frame is not what the caller takes it for: freed twice, of another kind, or part of a
    /// larger block.
    NotThat(Hfn),
    /// The ledger has no record for this frame.
    NotManaged(Hfn),
    /// A block that does not start at a multiple of its size, or whose size nothing is made of.
    BadBlock(Hfn),
    /// A page that does not fit a record (2^32 pages: 16 TiB; 1,024 guests), or not a list of sharers
    /// (2^26 pages, 64 guests).
    BadOwner(Owner),
    /// A guest whose number does not fit a record (1,024 guests).
    BadGuest(GuestId),
    /// The frame is in the index of contents: it must leave that first.
    Indexed(Hfn),
    /// More pages to note than one frame has room for.
    TooManyPages,
    /// A list of sharers does not hang together at this frame.
    BrokenList(Hfn),
    /// More records than 32-bit frame numbers can name.
    TooManyFrames,
}

/// Why a request was not met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// No frame, or no block of that size, is free for this purpose: reclaim, then try again.
    HostShort,
    /// As many pages share this frame as a record can count.
    TooManySharers,
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
            Self::HostShort => f.write_str("no free frame"),
            Self::TooManySharers => f.write_str("too many sharers of one frame"),
            Self::Bug(bug) => write!(f, "bug in the ledger: {bug:?}"),
        }
    }
}

/// What an audit found. Every kind names the first place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Corruption {
    /// A record that no operation writes.
    BadRecord(Hfn),
    /// A block whose other records say something else.
    BrokenBlock(Hfn),
    /// Two free halves that should be one block.
    Unmerged(Hfn),
    /// The free list of this order does not hold just the free blocks of this order.
    BrokenList(u8),
    /// The lists of slab frames with room do not hold just those, or slab frames have other chunks in use
    /// than there are lists of sharers.
    BrokenSlabs,
    /// A slab frame whose free chunks are not as many as its record says.
    BrokenSlab(Hfn),
    /// A shared frame whose list of sharers is not a list, or too short.
    BrokenSharers(Hfn),
    /// The counts differ from the records.
    Miscounted,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRecord(frame) => write!(f, "bad record of {frame}"),
            Self::BrokenBlock(frame) => write!(f, "broken block at {frame}"),
            Self::Unmerged(frame) => write!(f, "free halves apart at {frame}"),
            Self::BrokenList(order) => write!(f, "broken free list of order {order}"),
            Self::BrokenSlabs => f.write_str("slab frames and lists of sharers disagree"),
            Self::BrokenSlab(frame) => write!(f, "broken slab frame {frame}"),
            Self::BrokenSharers(frame) => write!(f, "broken list of sharers of {frame}"),
            Self::Miscounted => f.write_str("counts differ from the records"),
        }
    }
}
