//! Errors, by who is to blame.

use core::fmt;

use pleat_types::{Gfn, OwnedFrame};

use crate::codec::Level;

/// A mistake in Pleat itself: the caller asked for what the state of the page rules out, or a table
/// holds what this crate never writes. No guest can cause one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// An entry of a table that this crate did not write.
    Malformed {
        /// The entry.
        raw: u64,
        /// The level of the table that holds it.
        level: Level,
    },
    /// The page is not in a state that the operation starts from.
    WrongState(Gfn),
    /// The page lies in a mapping, or a frame is of a size, other than the operation is for.
    WrongSize(Gfn),
    /// A page number or frame number that is not a multiple of the size.
    Misaligned(Gfn),
    /// Beyond the 2^36 frames that four levels translate.
    OutOfRange(Gfn),
    /// More pages at once than an operation has room for.
    TooManyPages,
    /// The counters differ from what the tables hold.
    Miscounted,
}

/// Why an operation on the tables did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There was no frame for a table: reclaim, then try again.
    HostShort,
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
            Self::HostShort => f.write_str("no free frame for a page table"),
            Self::Bug(bug) => write!(f, "bug in the extended page tables: {bug:?}"),
        }
    }
}

/// A frame that was not mapped comes back to its owner.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the frame has to go back to the ledger"]
pub struct Refused {
    /// Why.
    pub error: Error,
    /// The frame that was offered.
    pub frame: OwnedFrame,
}
