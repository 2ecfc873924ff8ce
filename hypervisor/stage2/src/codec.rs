//! The bits of an extended-page-table entry (SDM vol. 3, 29.3.2, tables 29-1 to 29-7).
//!
//! This is the one place that knows them. An entry is decoded once, into an [`Entry`].
//!
//! ```text
//!         63 |   62   | 61..57 | 56..53 |   52   | 51 .. 12 | 11..10 | 9 | 8 |  7   |  6   | 5..3 | 2 | 1 | 0
//! table:   0 |      0 |      0 |      0 |      0 | frame    |      0 | 0 | A |    0 |    0 |    0 | 1 | 1 | 1
//! leaf:    0 | frozen | age    | owed   | shared | frame    |      0 | D | A | 1(*) | IPAT | type | 1 | W | 1
//! absent:  0 |      0 |      0 |      0 |      0 |        0 |      0 | 0 | 0 |    0 |    0 | kind | 0 | 0 | 0
//! swapped: 0 |      0 |      0 |      0 |      0 | ~slot    |      0 | 0 | 0 |    0 |    0 |    4 | 0 | 0 | 0
//!                                                                          (*) not in a 4 KiB entry
//! ```
//!
//! An entry whose three low bits are clear is not present and the processor ignores all the others
//! (bit 63 matters only with EPT-violation #VE, which is not used). These 61 bits are ours. Of a leaf the
//! processor ignores bits 52 to 56, 59 and 62, and with the controls that Pleat leaves off (guest-paging verification,
//! paging-write access, supervisor shadow stacks, sub-page write permissions) 57, 58, 60 and 61, too: they say whose
//! the frame is, and what merging and reclaim know of the page.
//!
//! A slot is written inverted, below bits that are all ones: so the entry names memory at the end of what can be
//! addressed, and a processor with the L1 terminal fault, which goes on with the address of an entry that is not
//! present, finds nothing there.
//!
//! Rule 1 is a matter of form: bit 52 or 62 together with W is malformed. So are D and `owed` with bit 52:
//! nobody writes through a mapping that shares its frame.

use pleat_types::{Hfn, LINE, PageSize, SwapSlot};

use crate::error::Bug;
pub use crate::level::Level;

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// Four levels translate 48 bits of guest-physical address.
pub const GFN_LIMIT: u64 = 1 << 36;
/// The most epochs that a page can owe.
pub const CALM_OWED_MAX: u8 = 15;
/// The greatest age: unused for so many generations, or more.
pub const AGE_MAX: u8 = 31;

/// Reading and fetching. Writable without readable is a misconfiguration (SDM 29.3.3.1), execute-only needs
/// a capability that we do not ask for.
const READ_EXECUTE: u64 = 0b101;
const WRITE: u64 = 1 << 1;
const PRESENT: u64 = READ_EXECUTE | WRITE;
const KIND_SHIFT: u32 = 3;
/// Memory type write-back (6) in bits 5:3 of a leaf, and IPAT clear, so that the guest's PAT is honoured
/// (SDM 29.3.7.2).
const WRITE_BACK: u64 = 6 << 3;
const LEAF: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const FRAME_SHIFT: u32 = 12;
const SHARED: u64 = 1 << 52;
const CALM_OWED_SHIFT: u32 = 53;
const CALM_OWED: u64 = (CALM_OWED_MAX as u64) << CALM_OWED_SHIFT;
const AGE_SHIFT: u32 = 57;
const AGE: u64 = (AGE_MAX as u64) << AGE_SHIFT;
const FROZEN: u64 = 1 << 62;
/// The kind of a swapped page, after those of [`Absent`].
const SWAPPED: u64 = 4 << KIND_SHIFT;

/// What varies in a leaf that owns its frame; the rest is one of the patterns below.
const VARIABLE: u64 = FRAME | ACCESSED | DIRTY | CALM_OWED | AGE;
const OWNED_LEAF: u64 = PRESENT | WRITE_BACK;
const FROZEN_LEAF: u64 = READ_EXECUTE | WRITE_BACK | FROZEN;
const SHARED_LEAF: u64 = READ_EXECUTE | WRITE_BACK | SHARED;

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

    #[inline]
    const fn of(kind: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Hole),
            1 => Some(Self::Untouched),
            2 => Some(Self::Ballooned),
            3 => Some(Self::Device),
            _ => None,
        }
    }
}

/// Whose the frame of a leaf is. Only who owns it may write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backing {
    /// This page's alone: readable, writable, executable.
    Owned,
    /// This page's alone, and write-protected while it is compared.
    Frozen,
    /// Other pages map it too, or it is the zero frame.
    Shared,
}

impl Backing {
    const fn bits(self) -> u64 {
        match self {
            Self::Owned => PRESENT,
            Self::Frozen => READ_EXECUTE | FROZEN,
            Self::Shared => READ_EXECUTE | SHARED,
        }
    }
}

/// A mapping. Large ones own their block; one that shares its frame is never dirty and owes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// The first host frame.
    pub frame: Hfn,
    /// How much it maps.
    pub size: PageSize,
    /// Whose the frame is, and so what the mapping allows.
    pub backing: Backing,
    /// The guest has used it since this bit was last cleared.
    pub accessed: bool,
    /// The guest has written to it since this bit was last cleared.
    pub dirty: bool,
    /// For how many epochs it has to stay unwritten until it is looked at (0 to [`CALM_OWED_MAX`]). 0: it
    /// was, or it was never written.
    pub calm_owed: u8,
    /// For how many generations it was found unused (0 to [`AGE_MAX`]).
    pub age: u8,
}

/// One entry of a table, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing is mapped.
    Absent(Absent),
    /// Nothing is mapped, and this slot has the content. One page only: the entry is of the lowest level.
    Swapped(SwapSlot),
    /// The next table.
    Table(Hfn),
    /// A mapping.
    Leaf(Leaf),
}

impl Entry {
    /// The bits for the processor.
    #[must_use]
    #[inline]
    pub const fn encode(self) -> u64 {
        match self {
            Self::Absent(absent) => absent.kind() << KIND_SHIFT,
            Self::Swapped(slot) => (FRAME ^ ((slot.get() as u64) << FRAME_SHIFT)) | SWAPPED,
            Self::Table(table) => (table.get() << FRAME_SHIFT) | PRESENT,
            Self::Leaf(leaf) => leaf.encode(),
        }
    }

    /// What the bits of an entry in a table of this level say. Whatever this crate would not have written
    /// is refused and not taken for something similar.
    #[inline]
    pub fn decode(raw: u64, level: Level) -> Result<Self, Bug> {
        if level != Level::One
            && let Some(table) = table_of(raw)
        {
            return Ok(Self::Table(table));
        }
        let entry = if raw & PRESENT == 0 {
            Absent::of(raw >> KIND_SHIFT)
                .map(Self::Absent)
                .or_else(|| swapped(raw, level))
        } else {
            Leaf::decode(raw, level).map(Self::Leaf)
        };
        entry.ok_or(Bug::Malformed { raw, level })
    }
}

/// A page whose content a slot has, if the bits say so.
fn swapped(raw: u64, level: Level) -> Option<Entry> {
    let slot = u32::try_from((!raw & FRAME) >> FRAME_SHIFT).ok()?;
    let is_right = raw & !FRAME == SWAPPED && level == Level::One;
    is_right.then_some(Entry::Swapped(SwapSlot::new(slot)))
}

impl Leaf {
    /// The bits for the processor.
    #[inline]
    const fn encode(self) -> u64 {
        let large = if matches!(self.size, PageSize::Small) {
            0
        } else {
            LEAF
        };
        let accessed = if self.accessed { ACCESSED } else { 0 };
        let dirty = if self.dirty { DIRTY } else { 0 };
        let owed = ((self.calm_owed as u64) << CALM_OWED_SHIFT) & CALM_OWED;
        let age = ((self.age as u64) << AGE_SHIFT) & AGE;
        let frame = self.frame.get() << FRAME_SHIFT;
        frame | WRITE_BACK | self.backing.bits() | large | accessed | dirty | owed | age
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // four and five bits
    fn decode(raw: u64, level: Level) -> Option<Self> {
        let size = level.page_size()?;
        let backing = match (raw & !VARIABLE, size) {
            (OWNED_LEAF, PageSize::Small) => Backing::Owned,
            (SHARED_LEAF, PageSize::Small) if raw & (DIRTY | CALM_OWED) == 0 => Backing::Shared,
            (FROZEN_LEAF, PageSize::Small) => Backing::Frozen,
            (fixed, PageSize::Large | PageSize::Huge) if fixed == OWNED_LEAF | LEAF => Backing::Owned,
            _ => return None,
        };
        let frame = (raw & FRAME) >> FRAME_SHIFT;
        let leaf = Self {
            frame: Hfn::new(frame),
            size,
            backing,
            accessed: raw & ACCESSED != 0,
            dirty: raw & DIRTY != 0,
            calm_owed: ((raw & CALM_OWED) >> CALM_OWED_SHIFT) as u8,
            age: ((raw & AGE) >> AGE_SHIFT) as u8,
        };
        (frame & (size.frames() - 1) == 0).then_some(leaf)
    }
}

/// The table that an entry above the lowest level points to. The processor sets A in such entries, too.
#[inline]
pub(crate) const fn table_of(raw: u64) -> Option<Hfn> {
    if raw & !(FRAME | ACCESSED) == PRESENT {
        Some(Hfn::new((raw & FRAME) >> FRAME_SHIFT))
    } else {
        None
    }
}

/// The frame of a 4 KiB leaf that shares it, the zero frame too.
#[inline]
pub(crate) const fn shared_frame_of(raw: u64) -> Option<Hfn> {
    if raw & !(FRAME | ACCESSED | AGE) == SHARED_LEAF {
        Some(Hfn::new((raw & FRAME) >> FRAME_SHIFT))
    } else {
        None
    }
}

/// The frame of a 4 KiB leaf that owns it.
#[inline]
pub(crate) const fn owned_frame_of(raw: u64) -> Option<Hfn> {
    if raw & !VARIABLE == OWNED_LEAF {
        Some(Hfn::new((raw & FRAME) >> FRAME_SHIFT))
    } else {
        None
    }
}

/// The same 4 KiB leaf when it owns the frame that it shared. What processors have set stays, so that no cached
/// translation is ahead of it.
#[inline]
pub(crate) const fn owned_in_place(shared: u64) -> u64 {
    shared ^ (SHARED | WRITE)
}

/// A 4 KiB leaf that owns a frame which its guest has not used yet: a copy of what it shared.
#[inline]
pub(crate) const fn owned_copy(frame: Hfn) -> u64 {
    (frame.get() << FRAME_SHIFT) | OWNED_LEAF
}

/// Whether the entry is a leaf that owns its frame, or a link. A fast look, not a check.
#[inline]
pub(crate) const fn is_writable(raw: u64) -> bool {
    raw & WRITE != 0
}

/// Whether a leaf that owns its frame was written, or owes epochs.
#[inline]
pub(crate) const fn is_unsettled(raw: u64) -> bool {
    raw & (DIRTY | CALM_OWED) != 0
}

/// How many of these entries are leaves that own their frames, if all of those are settled. Without a branch for each:
/// most lines of most tables are.
#[inline]
pub(crate) fn owned_if_settled(line: &[u64; LINE]) -> Option<u64> {
    let (mut owned, mut all) = (0, 0);
    for raw in line {
        let writable = u64::from(is_writable(*raw));
        owned += writable;
        all |= raw & writable.wrapping_neg();
    }
    (!is_unsettled(all)).then_some(owned)
}

/// Whether a processor has used the entry.
#[inline]
pub(crate) const fn is_accessed(raw: u64) -> bool {
    raw & ACCESSED != 0
}

/// The same entry, not used since.
#[inline]
pub(crate) const fn without_accessed(raw: u64) -> u64 {
    raw & !ACCESSED
}

/// The age that a leaf has at the end of a generation: none if it was used, else one more.
#[inline]
pub(crate) const fn aged(raw: u64) -> u64 {
    if raw & ACCESSED != 0 {
        raw & !(ACCESSED | AGE)
    } else if raw & AGE == AGE {
        raw
    } else {
        raw + (1 << AGE_SHIFT)
    }
}

/// The age of a leaf.
#[inline]
#[allow(clippy::cast_possible_truncation)] // five bits
pub(crate) const fn age_of(raw: u64) -> u8 {
    ((raw & AGE) >> AGE_SHIFT) as u8
}

/// Whether the entry is a leaf or a link. A fast look, not a check.
#[inline]
pub(crate) const fn is_present(raw: u64) -> bool {
    raw & PRESENT != 0
}

/// Whether two entries differ in nothing but what a processor sets.
#[inline]
pub(crate) const fn is_same_mapping(one: u64, other: u64) -> bool {
    (one ^ other) & !(ACCESSED | DIRTY) == 0
}

/// The EPT pointer for a root table: write-back, four levels, accessed and dirty bits on (SDM 25.6.11).
#[must_use]
pub const fn eptp(root: Hfn) -> u64 {
    const MEMORY_TYPE_WRITE_BACK: u64 = 6;
    const WALK_LENGTH_MINUS_ONE: u64 = 3 << 3;
    const ENABLE_ACCESSED_AND_DIRTY: u64 = 1 << 6;
    root.base().get() | MEMORY_TYPE_WRITE_BACK | WALK_LENGTH_MINUS_ONE | ENABLE_ACCESSED_AND_DIRTY
}
