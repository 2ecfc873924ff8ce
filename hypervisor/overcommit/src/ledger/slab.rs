//! Memory for the lists of sharers: chunks of a few sizes, cut from whole frames.
//!
//! This is Bonwick's slab allocator ("The Slab Allocator: An Object-Caching Kernel Memory Allocator",
//! USENIX 1994) with the frame's own record as the slab's header: all chunks of a slab frame have one size,
//! the free ones are linked through their own first words, and the frames of a size that have a free chunk
//! are linked through their records. So taking and freeing a chunk is a few steps whatever there is, and
//! a frame none of whose chunks is used goes back to the pool at once.

use pleat_types::{FrameMemory, Hfn, OwnedFrame, PageSize};

use super::Ledger;
use super::buddy::at;
use super::error::Bug;
use super::record::{FrameRecord, NONE, State};

/// Chunk sizes by class, in granules of 8 bytes: two elements each.
const GRANULES: [u16; 15] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512];
/// Granules in a frame.
const FRAME_GRANULES: u32 = 512;

/// A size of chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest.
    pub(super) const FIRST: Self = Self(0);
    /// The largest: a whole frame, whose last element is the link to another one.
    pub(super) const LAST: Self = Self(14);
    pub(super) const COUNT: usize = GRANULES.len();

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..=Self::LAST.0).map(Self)
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (number <= Self::LAST.0).then_some(Self(number))
    }

    pub(super) const fn number(self) -> u32 {
        self.0 as u32
    }

    /// The smallest class with room for so many elements.
    pub(super) fn for_elements(count: u32) -> Option<Self> {
        (0..=Self::LAST.0)
            .map(Self)
            .find(|class| class.elements() >= count)
    }

    pub(super) const fn granules(self) -> u32 {
        GRANULES[self.0 as usize] as u32
    }

    /// How many elements a chunk holds.
    pub(super) const fn elements(self) -> u32 {
        let link = (self.0 == Self::LAST.0) as u32;
        self.granules() * 2 - link
    }

    /// How many chunks a frame has.
    pub(super) const fn chunks(self) -> u32 {
        FRAME_GRANULES / self.granules()
    }

    /// Whether a chunk of a frame starts at this granule.
    pub(super) const fn is_slot(self, slot: u32) -> bool {
        slot.is_multiple_of(self.granules()) && slot / self.granules() < self.chunks()
    }
}

/// A chunk of a slab frame that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) frame: u32,
    /// The granule at which it starts.
    pub(super) slot: u32,
    pub(super) class: Class,
}

impl Chunk {
    pub(super) fn hfn(self) -> Hfn {
        Hfn::new(u64::from(self.frame))
    }
}

/// The heads of the lists of slab frames with room, by class.
#[derive(Debug)]
pub(super) struct Slabs {
    room: [u32; Class::COUNT],
}

impl Slabs {
    pub(super) const fn new() -> Self {
        Self {
            room: [NONE; Class::COUNT],
        }
    }

    pub(super) const fn head(&self, class: Class) -> u32 {
        self.room[class.0 as usize]
    }
}

/// The next free chunk after the free one at `slot`. What is stored there is the difference to the chunk
/// that follows in the frame, so that a frame of zeros has all its chunks linked in order. A number that
/// is no slot ends the list.
pub(super) fn next_free<M: FrameMemory>(memory: &M, chunk: Chunk) -> u32 {
    let stored = memory.load_entry(chunk.hfn(), at(chunk.slot));
    // Nobody but this module stores here; should anything else be there, then it is no slot.
    u32::try_from(stored).unwrap_or(NONE) ^ (chunk.slot + chunk.class.granules())
}

impl Ledger<'_> {
    /// The record of the slab frame of a chunk that is in use.
    pub(super) fn slab(&self, chunk: Chunk) -> Result<&FrameRecord, Bug> {
        let record = self.records.get(at(chunk.frame));
        let fits = |record: &&FrameRecord| {
            let is_list = record.is(State::SharerList) && record.list_class() == Some(chunk.class);
            is_list && record.used() > 0 && chunk.class.is_slot(chunk.slot)
        };
        record.filter(fits).ok_or(Bug::BrokenList(chunk.hfn()))
    }

    /// A free chunk, if a slab frame has one; its content is old.
    pub(super) fn take_chunk<M: FrameMemory>(
        &mut self,
        memory: &M,
        class: Class,
    ) -> Result<Option<Chunk>, Bug> {
        let frame = self.slabs.head(class);
        if frame == NONE {
            return Ok(None);
        }
        let broken = Bug::BrokenList(Hfn::new(u64::from(frame)));
        let record = self.records.get_mut(at(frame)).ok_or(broken)?;
        let slot = record.first_free();
        if !record.is(State::SharerList) || !class.is_slot(slot) {
            return Err(broken);
        }
        let chunk = Chunk { frame, slot, class };
        let used = record.used() + 1;
        record.set_used(used);
        record.set_first_free(next_free(memory, chunk));
        if used == class.chunks() {
            self.unlink_slab(frame, class);
        }
        Ok(Some(chunk))
    }

    /// Takes a chunk back, and its slab frame too if that was the last one.
    pub(super) fn free_chunk<M: FrameMemory>(&mut self, memory: &mut M, chunk: Chunk) -> Result<(), Bug> {
        let Chunk { frame, slot, class } = chunk;
        self.slab(chunk)?;
        let record = &mut self.records[at(frame)];
        let (used, first) = (record.used(), record.first_free());
        record.set_used(used - 1);
        record.set_first_free(slot);
        memory.store_entry(
            chunk.hfn(),
            at(slot),
            u64::from(first ^ (slot + class.granules())),
        );
        let was_full = used == class.chunks();
        if used > 1 {
            if was_full {
                self.link_slab(frame, class);
            }
            return Ok(());
        }
        if !was_full {
            self.unlink_slab(frame, class);
        }
        self.give(chunk.hfn(), State::SharerList, 0)
    }

    /// Makes a page's former frame a slab frame. It must not be mapped any more.
    pub(super) fn add_slab<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        donor: OwnedFrame,
        class: Class,
    ) -> Result<(), Bug> {
        let frame = self.donor(&donor)?;
        memory.zero_frame(donor.first());
        self.records[at(frame)] = FrameRecord::list(class);
        self.recount(State::Guest, State::SharerList, 1);
        self.link_slab(frame, class);
        Ok(())
    }

    /// The number of a frame that can become a slab frame.
    pub(super) fn donor(&self, donor: &OwnedFrame) -> Result<u32, Bug> {
        if donor.size() != PageSize::Small {
            return Err(Bug::BadBlock(donor.first()));
        }
        let frame = self.index(donor.first())?;
        self.expect(frame, State::Guest, 0)?;
        Ok(frame)
    }

    /// Puts a slab frame on the list of those with room.
    fn link_slab(&mut self, frame: u32, class: Class) {
        let next = self.slabs.head(class);
        if let Some(record) = self.records.get_mut(at(next)) {
            record.set_previous(frame);
        }
        let record = &mut self.records[at(frame)];
        record.set_next(next);
        record.set_previous(NONE);
        self.slabs.room[usize::from(class.0)] = frame;
    }

    fn unlink_slab(&mut self, frame: u32, class: Class) {
        let record = &mut self.records[at(frame)];
        let (next, previous) = (record.next(), record.previous());
        record.set_next(NONE);
        record.set_previous(NONE);
        match self.records.get_mut(at(previous)) {
            Some(record) => record.set_next(next),
            None => self.slabs.room[usize::from(class.0)] = next,
        }
        if let Some(record) = self.records.get_mut(at(next)) {
            record.set_previous(previous);
        }
    }
}
