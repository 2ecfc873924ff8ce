//! The swap store as a whole: contents go in, and come back.
//!
//! Frames are never asked for when a content comes in: the store has a *purse* of a few, which is filled up whenever
//! frames are freed, first of all by the very page whose content was kept. One content takes at most three: two for
//! the table of slots and one for the pool; and the table wants one in 128. So a purse that was full once lasts, as
//! long as each page that leaves is offered to it first.

use arrayvec::ArrayVec;
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, SlotReference, SwapSlot};

use super::compress::{Compressor, Content, fill, unpack};
use super::error::{Bug, Corruption, Error};
use super::fingerprint::Fingerprinter;
use super::pool::{MAX_OBJECT, Place, Pool, PoolCounts, Step};
use super::slots::{Location, Released, Slot, SlotCounts, Slots};
use crate::ledger::Key;

/// Frames in a full purse.
pub const PURSE: usize = 8;
/// What one content can take.
const MOST_FOR_ONE: usize = 3;

/// Why a content was not kept. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotKept {
    /// Packed it would hardly be smaller.
    Incompressible,
    /// The pool is as large as it may get.
    PoolFull,
    /// The purse is empty: offer it frames.
    NoFrames,
    /// As many slots, or pages with one content, as there can be.
    TooMany,
    /// A mistake in Pleat.
    Bug(Bug),
}

/// Why a content cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotHad {
    /// It is not what it was: it was damaged where it lay. It will never come back.
    Damaged,
    /// It is in this block of the disk.
    OnDisk(u32),
    /// A mistake in Pleat.
    Bug(Bug),
}

/// What the store has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreWork {
    /// Contents that were kept.
    pub kept: u64,
    /// Of these, all of whose words were one.
    pub filled: u64,
    /// Contents that were given out.
    pub had: u64,
    /// Contents that would not get smaller.
    pub incompressible: u64,
    /// Contents that were not what they had been.
    pub damaged: u64,
    /// Bytes of contents that were packed, after it.
    pub packed_bytes: u64,
    /// Frames that closing gaps has freed.
    pub compacted: u64,
}

/// Contents of pages that have no frame. Large: to be a static.
pub struct Store {
    slots: Slots,
    pool: Pool,
    compressor: Compressor,
    fingerprinter: Option<Fingerprinter>,
    purse: ArrayVec<Hfn, PURSE>,
    /// The content that was given out last.
    page: [u8; FRAME_SIZE],
    /// It is being unpacked.
    packed: [u8; MAX_OBJECT],
    /// The pool may have so many frames.
    pool_frames_max: u64,
    work: StoreWork,
}

impl Store {
    /// An empty store that keeps nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: Slots::new(),
            pool: Pool::new(),
            compressor: Compressor::new(),
            fingerprinter: None,
            purse: ArrayVec::new_const(),
            page: [0; FRAME_SIZE],
            packed: [0; MAX_OBJECT],
            pool_frames_max: 0,
            work: StoreWork {
                kept: 0,
                filled: 0,
                had: 0,
                incompressible: 0,
                damaged: 0,
                packed_bytes: 0,
                compacted: 0,
            },
        }
    }

    /// From now on contents can be kept. The key is for fingerprints and must come from a generator for keys; the pool
    /// gets no larger than so many frames.
    pub fn begin(&mut self, key: [u8; 32], pool_frames_max: u64) {
        self.fingerprinter = Some(Fingerprinter::new(key));
        self.pool_frames_max = pool_frames_max;
    }

    /// What is in it.
    #[must_use]
    pub const fn slots(&self) -> &SlotCounts {
        self.slots.counts()
    }

    /// What the pool has.
    #[must_use]
    pub const fn pool(&self) -> &PoolCounts {
        self.pool.counts()
    }

    /// How many frames the pool may have.
    #[must_use]
    pub const fn pool_frames_max(&self) -> u64 {
        self.pool_frames_max
    }

    /// What was done since the start.
    #[must_use]
    pub const fn work(&self) -> &StoreWork {
        &self.work
    }

    /// Whether the purse has what the next content may take.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.purse.len() >= MOST_FOR_ONE
    }

    /// Whether the purse has room for a frame.
    #[must_use]
    pub const fn wants_frame(&self) -> bool {
        self.purse.len() < PURSE
    }

    /// Puts a frame into the purse, if there is room for it.
    pub fn offer(&mut self, frame: Hfn) -> Result<(), Hfn> {
        self.purse.try_push(frame).map_err(|full| full.element())
    }

    /// Keeps the content of a page: a slot with one reference, which is what comes back. `key` is what merging knows the
    /// content by, zero if it does not.
    pub fn keep<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: &FrozenFrame,
        key: Key,
    ) -> Result<SlotReference, NotKept> {
        self.make_room_for_slot(memory)?;
        let Some(fingerprinter) = &self.fingerprinter else {
            return Err(NotKept::PoolFull);
        };
        let page = memory.frozen(frame);
        let fingerprint = fingerprinter.of(page);
        let slot = Slot {
            location: Location::Filled(0),
            references: 1,
            key,
            fingerprint,
        };
        match self.compressor.pack(page) {
            Content::Filled(word) => {
                let location = Location::Filled(word);
                let number = allocate(&mut self.slots, memory, Slot { location, ..slot })?;
                self.work.filled += 1;
                self.work.kept += 1;
                Ok(SlotReference::claim(SwapSlot::new(number)))
            }
            Content::Packed(bytes) => {
                let is_full = self.pool.counts().frames >= self.pool_frames_max;
                let mut donor = if is_full { None } else { self.purse.pop() };
                let number = match allocate(&mut self.slots, memory, slot) {
                    Ok(number) => number,
                    Err(error) => {
                        self.purse.extend(donor);
                        return Err(error);
                    }
                };
                let stored = self.pool.store(memory, number, bytes, &mut donor);
                let length = bytes.len() as u64;
                self.purse.extend(donor);
                self.finish(memory, number, stored, length, is_full)
            }
            Content::Incompressible => {
                self.work.incompressible += 1;
                Err(NotKept::Incompressible)
            }
        }
    }

    /// One more page has this content.
    pub fn add_reference<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: SwapSlot,
    ) -> Result<SlotReference, NotKept> {
        match self.slots.add_reference(memory, slot.get()) {
            Ok(()) => Ok(SlotReference::claim(slot)),
            Err(Error::Bug(bug)) => Err(NotKept::Bug(bug)),
            Err(_) => Err(NotKept::TooMany),
        }
    }

    /// One page less has this content. With the last one what was kept of it is gone; a frame that this frees comes
    /// back.
    pub fn release<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        reference: SlotReference,
    ) -> Result<Option<Hfn>, Bug> {
        match self.slots.release_reference(memory, reference.slot().get())? {
            Released::Last(Location::Packed(place)) => self.pool.free(memory, place),
            Released::Kept | Released::Last(_) => Ok(None),
        }
    }

    /// What is known of a slot.
    pub fn get<M: FrameMemory>(&self, memory: &M, slot: SwapSlot) -> Result<Slot, Bug> {
        self.slots.get(memory, slot.get())
    }

    /// The content of a slot, whole and as it was. It stays in the store, too.
    pub fn content<M: FrameMemory>(
        &mut self,
        memory: &M,
        number: SwapSlot,
    ) -> Result<&[u8; FRAME_SIZE], NotHad> {
        let slot = self.slots.get(memory, number.get()).map_err(NotHad::Bug)?;
        match slot.location {
            Location::Filled(word) => fill(word, &mut self.page),
            Location::Packed(place) => self.unpack(memory, place)?,
            Location::Disk(block) | Location::Staged(block) => return Err(NotHad::OnDisk(block)),
        }
        let is_same = |fingerprinter: &Fingerprinter| fingerprinter.of(&self.page) == slot.fingerprint;
        if self.fingerprinter.as_ref().is_some_and(is_same) {
            self.work.had += 1;
            return Ok(&self.page);
        }
        self.work.damaged += 1;
        Err(NotHad::Damaged)
    }

    /// Closes gaps in the pool: one bounded step.
    pub fn compact<M: FrameMemory>(&mut self, memory: &mut M) -> Result<Step, Bug> {
        let slots = &mut self.slots;
        let step = self.pool.compact(memory, |memory, number, _, to| {
            let moved = slots.set_location(memory, number, Location::Packed(to));
            moved.map(drop)
        })?;
        self.work.compacted += u64::from(matches!(step, Step::Freed(_)));
        Ok(step)
    }

    /// Visits all frames that the store has.
    pub fn for_each_frame<M: FrameMemory>(&self, memory: &M, mut visit: impl FnMut(Hfn)) -> Result<(), Bug> {
        self.purse.iter().copied().for_each(&mut visit);
        self.slots.for_each_frame(memory, &mut visit);
        self.pool.for_each_frame(memory, visit)
    }

    /// Visits all slots that are in use.
    pub fn for_each_slot<M: FrameMemory>(
        &self,
        memory: &M,
        visit: impl FnMut(u32, &Slot),
    ) -> Result<(), Corruption> {
        self.slots.for_each(memory, visit)
    }

    /// Checks all that the store has.
    pub fn audit<M: FrameMemory>(&self, memory: &M) -> Result<(), Corruption> {
        self.slots.audit(memory)?;
        self.pool.audit(memory)
    }

    fn make_room_for_slot<M: FrameMemory>(&mut self, memory: &mut M) -> Result<(), NotKept> {
        while self.slots.needs_frame() {
            let frame = self.purse.pop().ok_or(NotKept::NoFrames)?;
            if self.slots.add_frame(memory, frame).is_err() {
                self.purse.push(frame);
                return Err(NotKept::TooMany);
            }
        }
        Ok(())
    }

    /// What came of packing a content into the pool.
    fn finish<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        number: u32,
        stored: Result<Place, Error>,
        length: u64,
        is_full: bool,
    ) -> Result<SlotReference, NotKept> {
        let place = match stored {
            Ok(place) => place,
            Err(error) => {
                // It never was anywhere.
                let _ = self.slots.release_reference(memory, number);
                return Err(match error {
                    Error::Bug(bug) => NotKept::Bug(bug),
                    _ if is_full => NotKept::PoolFull,
                    _ => NotKept::NoFrames,
                });
            }
        };
        self.slots
            .set_location(memory, number, Location::Packed(place))
            .map_err(NotKept::Bug)?;
        self.work.kept += 1;
        self.work.packed_bytes += length;
        Ok(SlotReference::claim(SwapSlot::new(number)))
    }

    fn unpack<M: FrameMemory>(&mut self, memory: &M, place: Place) -> Result<(), NotHad> {
        let length = self.pool.load(memory, place, &mut self.packed).map_err(NotHad::Bug)?;
        let packed = self.packed.get(..length).unwrap_or(&[]);
        unpack(packed, &mut self.page).map_err(|_| {
            self.work.damaged += 1;
            NotHad::Damaged
        })
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

fn allocate<M: FrameMemory>(slots: &mut Slots, memory: &mut M, slot: Slot) -> Result<u32, NotKept> {
    slots.allocate(memory, slot).map_err(|error| match error {
        Error::Full => NotKept::NoFrames,
        Error::TooManyReferences => NotKept::TooMany,
        Error::Bug(bug) => NotKept::Bug(bug),
    })
}
