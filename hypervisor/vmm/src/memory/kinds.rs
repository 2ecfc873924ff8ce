//! What faults are, and how they end.

use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{Bug, Error, Mapping, Page};
use pleat_types::{Gpa, SwapSlot};

/// Kinds of faults that are counted, by [`FaultKind`].
pub(crate) const FAULT_NAMES: [&str; 12] = [
    "zero",
    "unique",
    "zero-broken",
    "large",
    "huge",
    "huge-unfinished",
    "deflated",
    "stale",
    "waited",
    "share-broken",
    "share-taken",
    "swapped-in",
];

/// What a fault was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FaultKind {
    /// A first read.
    Zero,
    /// A first write.
    Unique,
    /// A write to a page that was read before.
    ZeroBroken,
    /// A first write that got 2 MiB.
    Large,
    /// A first touch that got 1 GiB.
    Huge,
    /// A touch of memory that is still being zeroed, 1 GiB at a time.
    HugeUnfinished,
    /// The guest used a page of its balloon.
    Deflated,
    /// A stale translation.
    Stale,
    /// No frame was free.
    Waited,
    /// A write to a page that others share: it got a copy.
    Broken,
    /// A write to a page whose frame nobody else shared any more.
    BrokenInPlace,
    /// Its content was in the swap store.
    SwappedIn,
}

/// How a write ends a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// Others go on sharing: the writer gets a copy.
    Copied,
    /// Nobody else shares the frame any more: the writer keeps it.
    InPlace,
}

/// How a fault ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Fault {
    /// The access succeeds now.
    Backed,
    /// A part of the work is done: the same access again does the next part.
    Unfinished,
    /// No frame is free for this; nothing has changed.
    HostShort(Purpose),
    /// Its content is away: it is being brought back.
    Away,
    /// Its content was in this slot, and will never come back.
    Lost(SwapSlot),
    /// The guest has nothing there.
    Hole,
    /// A device in memory would be there.
    Device,
    /// A mistake of ours: where.
    Bug(&'static str),
}

/// Guest memory that cannot be used as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemoryError {
    /// No frame is free.
    HostShort,
    /// A part of the work is done: the same again does the next part.
    Unfinished,
    /// A content is away: the run loop brings it back.
    Away,
    /// A content that was in this slot will never come back.
    Lost(SwapSlot),
    /// The guest has no RAM there.
    Hole(Gpa),
    /// A mistake of ours.
    Bug(&'static str),
}

impl From<Bug> for MemoryError {
    fn from(_: Bug) -> Self {
        Self::Bug("extended page tables")
    }
}

impl From<Error> for MemoryError {
    fn from(error: Error) -> Self {
        match error {
            Error::HostShort => Self::HostShort,
            Error::Bug(_) => Self::Bug("extended page tables"),
        }
    }
}

/// What a first write to a page is counted as.
pub(super) fn fresh_kind(mapping: &Mapping) -> FaultKind {
    if mapping.page == Page::Zero {
        FaultKind::ZeroBroken
    } else {
        FaultKind::Unique
    }
}

/// What a write to a page needs a frame for.
pub(super) trait Need {
    /// To end a share, that in the zero frame too, or to have more.
    fn purpose_of_write(&self) -> Purpose;
}

impl Need for Mapping {
    fn purpose_of_write(&self) -> Purpose {
        match self.page {
            Page::Zero | Page::Shared(_) => Purpose::Relief,
            _ => Purpose::Demand,
        }
    }
}
