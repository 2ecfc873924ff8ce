//! The bits of an extended-page-table entry (SDM vol. 3, 29.3.2, tables 29-1 to 29-7).
//!
//! This is the one place that knows them. An entry is decoded once, into an [`Entry`].
//!
//! ```text
//!        63 ..... 12 | 11 .. 10 | 9 | 8 |  7   |  6  | 5..3 | 2 | 1 | 0
//! table: table frame |          |   | A |  0   |          0 | X | W | R
//! leaf:  frame       |          | D | A | 1(*) | IPAT | type | X | W | R      (*) not in a 4 KiB entry
//! absent: 63 .. 6: handle, for compressed and swapped pages     | 5..3: kind | 0   0   0
//! ```
//!
//! An entry whose three low bits are clear is not present and the processor ignores all the others
//! (bit 63 matters only with EPT-violation #VE, which is not used). These 61 bits are ours.

use bitflags::bitflags;
use pleat_types::{Gfn, Hfn, PageSize};

use crate::error::Bug;

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Four levels translate 48 bits of guest-physical address.
pub const GFN_LIMIT: u64 = 1 << 36;

const KIND_SHIFT: u32 = 3;
const LEAF: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const FRAME_SHIFT: u32 = 12;
/// Memory type write-back (6) in bits 5:3 of a leaf, and IPAT clear, so that the guest's PAT is honoured
/// (SDM 29.3.7.2).
const WRITE_BACK: u64 = 6 << 3;

bitflags! {
    /// What a mapping allows, and (as the bits are the same) what an access needs.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Permissions: u64 {
        /// Data reads.
        const READ = 1 << 0;
        /// Data writes.
        const WRITE = 1 << 1;
        /// Instruction fetches.
        const EXECUTE = 1 << 2;
    }
}

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

/// Why nothing is mapped. At an upper level it holds for the entry's whole reach.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Absent {
    /// Nothing was promised to the guest here. All bits are zero.
    Hole,
    /// Promised, never touched: reads as zero.
    Untouched,
    /// The guest gave it back through its balloon.
    Ballooned,
    /// An access is an exit to a device.
    Device,
}

impl Absent {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Hole, Self::Untouched, Self::Ballooned, Self::Device];

    const fn kind(self) -> u64 {
        match self {
            Self::Hole => 0,
            Self::Untouched => 1,
            Self::Ballooned => 2,
            Self::Device => 3,
        }
    }
}

/// A mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The first host frame.
    pub frame: Hfn,
    /// How much it maps.
    pub size: PageSize,
    /// What it allows.
    pub permissions: Permissions,
    /// The guest has used it since this bit was last cleared.
    pub accessed: bool,
    /// The guest has written to it since this bit was last cleared.
    pub dirty: bool,
}

/// One entry of a table, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing is mapped.
    Absent(Absent),
    /// The next table.
    Table(Hfn),
    /// A mapping.
    Leaf(Leaf),
}

impl Entry {
    /// The bits for the processor.
    #[must_use]
    pub fn encode(self) -> u64 {
        match self {
            Self::Absent(absent) => absent.kind() << KIND_SHIFT,
            Self::Table(table) => (table.get() << FRAME_SHIFT) | Permissions::all().bits(),
            Self::Leaf(leaf) => leaf.encode(),
        }
    }

    /// What the bits of an entry in a table of this level say.
    pub fn decode(raw: u64, level: Level) -> Result<Self, Bug> {
        let entry = Self::interpret(raw, level).ok_or(Bug::Malformed { raw, level })?;
        // Whatever this crate would not have written is not taken for something similar. The processor
        // sets A in entries that point to tables, too.
        let expected = match entry {
            Self::Table(_) => raw & !ACCESSED,
            Self::Absent(_) | Self::Leaf(_) => raw,
        };
        if entry.encode() == expected {
            Ok(entry)
        } else {
            Err(Bug::Malformed { raw, level })
        }
    }

    fn interpret(raw: u64, level: Level) -> Option<Self> {
        let permissions = Permissions::from_bits_truncate(raw);
        if permissions.is_empty() {
            return Absent::ALL
                .into_iter()
                .find(|kind| kind.kind() == raw >> KIND_SHIFT)
                .map(Self::Absent);
        }
        let frame = Hfn::new((raw & FRAME) >> FRAME_SHIFT);
        if level != Level::One && raw & LEAF == 0 {
            return Some(Self::Table(frame));
        }
        // Writable or executable without readable is a misconfiguration (SDM 29.3.3.1), execute-only
        // needs a capability that we do not ask for.
        let size = level
            .page_size()
            .filter(|_| permissions.contains(Permissions::READ))?;
        let accessed = raw & ACCESSED != 0;
        let dirty = raw & DIRTY != 0;
        Some(Self::Leaf(Leaf {
            frame,
            size,
            permissions,
            accessed,
            dirty,
        }))
        .filter(|_| frame.get().is_multiple_of(size.frames()))
    }
}

impl Leaf {
    /// The bits for the processor.
    fn encode(self) -> u64 {
        let mut raw = (self.frame.get() << FRAME_SHIFT) | WRITE_BACK | self.permissions.bits();
        if self.size != PageSize::Small {
            raw |= LEAF;
        }
        if self.accessed {
            raw |= ACCESSED;
        }
        if self.dirty {
            raw |= DIRTY;
        }
        raw
    }
}

/// The EPT pointer for a root table: write-back, four levels, accessed and dirty bits on (SDM 25.6.11).
#[must_use]
pub const fn eptp(root: Hfn) -> u64 {
    const MEMORY_TYPE_WRITE_BACK: u64 = 6;
    const WALK_LENGTH_MINUS_ONE: u64 = 3 << 3;
    const ENABLE_ACCESSED_AND_DIRTY: u64 = 1 << 6;
    root.base().get() | MEMORY_TYPE_WRITE_BACK | WALK_LENGTH_MINUS_ONE | ENABLE_ACCESSED_AND_DIRTY
}
