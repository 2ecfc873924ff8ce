//! The levels of the tables, and how far an entry of each reaches.

use pleat_types::{Gfn, PageSize};

use crate::codec::ENTRIES;

/// The level of a table: its entries' reach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// Entries of 4 KiB (the page table).
    One,
    /// Entries of 2 MiB (the page directory).
    Two,
    /// Entries of 1 GiB (the page-directory-pointer table).
    Three,
    /// Entries of 512 GiB (the PML4, the root).
    Four,
}

impl Level {
    /// From the leaves to the root.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Three, Self::Four];

    /// 0 for the lowest level, 3 for the root.
    #[must_use]
    pub const fn rank(self) -> usize {
        match self {
            Self::One => 0,
            Self::Two => 1,
            Self::Three => 2,
            Self::Four => 3,
        }
    }

    /// How many 4 KiB frames one entry at this level reaches.
    #[must_use]
    pub const fn frames(self) -> u64 {
        1 << self.shift()
    }

    /// The index of the entry that translates `gfn` in a table of this level.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // below 512
    pub const fn index(self, gfn: Gfn) -> usize {
        ((gfn.get() >> self.shift()) % ENTRIES as u64) as usize
    }

    /// The first page of the entry at this level that translates `gfn`.
    #[must_use]
    pub const fn first(self, gfn: Gfn) -> Gfn {
        Gfn::new(gfn.get() & !(self.frames() - 1))
    }

    /// The next lower level.
    #[must_use]
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::One => None,
            Self::Two => Some(Self::One),
            Self::Three => Some(Self::Two),
            Self::Four => Some(Self::Three),
        }
    }

    /// The size of a leaf at this level; the root has none.
    #[must_use]
    pub const fn page_size(self) -> Option<PageSize> {
        match self {
            Self::One => Some(PageSize::Small),
            Self::Two => Some(PageSize::Large),
            Self::Three => Some(PageSize::Huge),
            Self::Four => None,
        }
    }

    /// The level whose leaves have this size.
    #[must_use]
    pub const fn of(size: PageSize) -> Self {
        match size {
            PageSize::Small => Self::One,
            PageSize::Large => Self::Two,
            PageSize::Huge => Self::Three,
        }
    }

    const fn shift(self) -> u32 {
        match self {
            Self::One => 0,
            Self::Two => 9,
            Self::Three => 18,
            Self::Four => 27,
        }
    }
}
