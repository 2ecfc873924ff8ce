//! A slot: 32 bytes that say where a content is, and how many pages have it.
//!
//! ```text
//!  word 0   value: what is filled in; a place in the pool 48 and a stamp 16; a block of the disk or a buffer 32 and the
//!           number of its write 32; of a free slot the next free one, plus one
//!  word 1   kind 8, references 24, key 32
//!  word 2,3 fingerprint
//! ```
//!
//! All zeros is a free slot, so a frame of zeros has 128 of them.

use pleat_types::{FrameMemory, Hfn};

use crate::ledger::Key;
use crate::swap::bits;
use crate::swap::fingerprint::Fingerprint;
use crate::swap::pool::Place;

/// How many pages can have one slot's content.
pub const MAX_REFERENCES: u32 = (1 << REFERENCE_BITS) - 1;

const REFERENCE_BITS: u32 = 24;
/// Words of a record.
const WORDS: u32 = 4;
/// Records in a frame.
pub(super) const PER_FRAME: u32 = 512 / WORDS;

/// Kinds of locations; 0 is none.
const FILLED: u32 = 1;
const PACKED: u32 = 2;
const DISK: u32 = 3;
const STAGED: u32 = 4;
const CLEAN: u32 = 5;
/// Bits of a place in the pool. The stamp is above them.
const PLACE_BITS: u32 = 48;

/// A block of the disk, and the number of the write that it was encrypted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskPlace {
    /// The block.
    pub block: u32,
    /// No two writes of a boot have the same number.
    pub write: u32,
}

/// A buffer on its way to the disk, and the number of the write that it was encrypted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StagedPlace {
    /// The buffer.
    pub buffer: u32,
    /// No two writes of a boot have the same number.
    pub write: u32,
}

/// Where a content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// All its words are this one.
    Filled(u64),
    /// In the pool.
    Packed(Place),
    /// On the disk.
    Disk(DiskPlace),
    /// On its way there.
    Staged(StagedPlace),
    /// On the disk, and no page needs it. It is there for the page that had it last and may have it again.
    Clean(DiskPlace),
}

impl Location {
    const fn encode(self) -> (u32, u64) {
        match self {
            Self::Filled(word) => (FILLED, word),
            Self::Packed(place) => (PACKED, place.to_bits()),
            Self::Disk(place) => (DISK, pair(place.block, place.write)),
            Self::Staged(place) => (STAGED, pair(place.buffer, place.write)),
            Self::Clean(place) => (CLEAN, pair(place.block, place.write)),
        }
    }

    fn decode(kind: u32, value: u64) -> Option<Self> {
        let (low, write) = (bits(value, 0, 32), bits(value, 32, 32));
        match kind {
            FILLED => Some(Self::Filled(value)),
            PACKED => Place::from_bits(value & ((1 << PLACE_BITS) - 1)).map(Self::Packed),
            DISK => Some(Self::Disk(DiskPlace { block: low, write })),
            STAGED => Some(Self::Staged(StagedPlace { buffer: low, write })),
            CLEAN => Some(Self::Clean(DiskPlace { block: low, write })),
            _ => None,
        }
    }

    /// Whether this is where a content can be that so many pages have: only a clean one is nobody's.
    const fn suits(self, references: u32) -> bool {
        matches!(self, Self::Clean(_)) == (references == 0)
    }
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// What is in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Where the content is.
    pub location: Location,
    /// How many pages have it.
    pub references: u32,
    /// When it came into the pool, by a clock that wraps; 0 if it is elsewhere.
    pub stamp: u16,
    /// The key that its merging would go by; 0 if it has none.
    pub key: Key,
    /// What it must have when it comes back.
    pub fingerprint: Fingerprint,
}

/// A record, as it lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// Free; the next free slot, plus one.
    Free(u32),
    Used(Slot),
}

/// Where a record lies.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) frame: Hfn,
    /// The record's number in the frame.
    pub(super) number: u32,
}

impl Spot {
    const fn word(self, n: u32) -> usize {
        (self.number % PER_FRAME * WORDS + n) as usize
    }

    /// Reads the record; `None` if it is none.
    pub(super) fn load<M: FrameMemory>(self, memory: &M) -> Option<Record> {
        let word = |n| memory.load_entry(self.frame, self.word(n));
        let (value, about) = (word(0), word(1));
        if about == 0 {
            return u32::try_from(value).ok().map(Record::Free);
        }
        let mut fingerprint = [0; 16];
        let (low, high) = fingerprint.split_at_mut(8);
        low.copy_from_slice(&word(2).to_le_bytes());
        high.copy_from_slice(&word(3).to_le_bytes());
        let references = bits(about, 8, REFERENCE_BITS);
        let location = Location::decode(bits(about, 0, 8), value)?;
        location.suits(references).then_some(())?;
        let is_packed = matches!(location, Location::Packed(_));
        let stamp = if is_packed { value >> PLACE_BITS } else { 0 };
        Some(Record::Used(Slot {
            location,
            references,
            stamp: u16::try_from(stamp).unwrap_or(0),
            key: Key(bits(about, 32, 32)),
            fingerprint: Fingerprint(fingerprint),
        }))
    }

    /// Writes a record.
    pub(super) fn store<M: FrameMemory>(self, memory: &mut M, record: Record) {
        let words = match record {
            Record::Free(next) => [u64::from(next), 0, 0, 0],
            Record::Used(slot) => {
                let (kind, mut value) = slot.location.encode();
                if kind == PACKED {
                    value |= u64::from(slot.stamp) << PLACE_BITS;
                }
                let about = u64::from(kind) | u64::from(slot.references) << 8 | u64::from(slot.key.0) << 32;
                let both = u128::from_le_bytes(slot.fingerprint.0);
                [value, about, low(both), low(both >> 64)]
            }
        };
        for (n, word) in (0..).zip(words) {
            memory.store_entry(self.frame, self.word(n), word);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // half of it is meant
const fn low(both: u128) -> u64 {
    both as u64
}
