//! Ownership of host frames, as a type.
//!
//! The ledger and the extended page tables hand frames to each other without knowing each other. What
//! passes between them is an [`OwnedFrame`]: it cannot be copied, so a frame is in one place only. A frame
//! that several pages map is handed over as as many [`Share`]s.

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

/// One page's share in a frame that equal pages have in common: not `Copy`, so there are as many as there
/// are mappings of the frame. No mapping of it is writable (rule 1).
///
/// Dropping one leaves its frame with a share too many, and so never free; the audit shows that.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a share that is dropped keeps its frame for ever"]
pub struct Share {
    frame: Hfn,
}

impl Share {
    /// Claims a share. Only two may: the ledger when it adds one, and a page table for a leaf that it has
    /// just taken out or made writable.
    pub const fn claim(frame: Hfn) -> Self {
        Self { frame }
    }

    /// The frame.
    #[must_use]
    pub const fn frame(&self) -> Hfn {
        self.frame
    }
}

/// Says that nobody can write to a frame as long as this value lives: every mapping of it is read-only and
/// the translations that were not are flushed. So its bytes may be borrowed
/// ([`crate::FrameMemory::frozen`]) and not only copied.
#[derive(PartialEq, Eq, Debug)]
pub struct FrozenFrame {
    frame: Hfn,
}

impl FrozenFrame {
    /// Vouches for a frame. Only two may: a page table for a leaf that it has write-protected, after the
    /// flush; and whoever knows a frame to be shared or to be the zero frame.
    #[must_use]
    pub const fn claim(frame: Hfn) -> Self {
        Self { frame }
    }

    /// The frame.
    #[must_use]
    pub const fn frame(&self) -> Hfn {
        self.frame
    }
}
