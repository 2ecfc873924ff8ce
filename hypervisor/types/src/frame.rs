//! Ownership of host frames, as a type.
//!
//! The ledger and the extended page tables hand frames to each other without knowing each other. What
//! passes between them is an [`OwnedFrame`]: it cannot be copied, so a frame is in one place only.

use crate::{Hfn, LARGE_FRAMES};

/// The sizes of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl PageSize {
    /// How many 4 KiB frames it spans.
    #[must_use]
    pub const fn frames(self) -> u64 {
        match self {
            Self::Small => 1,
            Self::Large => LARGE_FRAMES,
            Self::Huge => LARGE_FRAMES * LARGE_FRAMES,
        }
    }
}

/// A block of host frames that exactly one guest page owns: not `Copy`, so it is either in the hands of
/// whoever holds this value, or in a page table, or waiting for a flush.
///
/// Dropping one leaks its frames; the audit shows that.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a frame that is dropped is lost"]
pub struct OwnedFrame {
    first: Hfn,
    size: PageSize,
}

impl OwnedFrame {
    /// Claims a block. Only two may: the ledger when it allocates, and a page table for a leaf that it
    /// has just taken out.
    pub const fn claim(first: Hfn, size: PageSize) -> Self {
        Self { first, size }
    }

    /// The first 4 KiB frame.
    #[must_use]
    pub const fn first(&self) -> Hfn {
        self.first
    }

    /// The size of the block.
    #[must_use]
    pub const fn size(&self) -> PageSize {
        self.size
    }
}
