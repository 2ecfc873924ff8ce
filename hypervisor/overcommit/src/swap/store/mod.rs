//! The swap store as a whole: contents go in, and come back.
//!
//! Frames are never asked for when a content comes in: the store has a *purse* of a few, which is filled up whenever
//! frames are freed, first of all by the very page whose content was kept. One content takes at most three: two for
//! the table of slots and one for the pool; and the table wants one in 128. So a purse that was full once lasts, as
//! long as each page that leaves is offered to it first. What a disk needs ([`disk`]) is given once, at boot.
//!
//! A content goes where it fits first ([`keep`]): into its slot, if it is one word; packed into the pool, as long as that
//! may grow or has room; to the disk. When the pool is full and there is a disk, what has been in the pool for long
//! moves on ([`Store::write_back`]).

mod disk;
mod keep;

use arrayvec::ArrayVec;
use pleat_types::{FRAME_SIZE, FrameMemory, Hfn, SlotReference, SwapSlot};

use super::compress::{Compressor, fill, unpack};
use super::disk::{Arrival, Disk};
use super::error::{Bug, Corruption, Error};
use super::fingerprint::Fingerprinter;
use super::pool::{MAX_OBJECT, Place, Pool, PoolCounts, Step};
use super::slots::{DiskPlace, Location, Released, Slot, SlotCounts, Slots};

/// Frames in a full purse.
pub const PURSE: usize = 8;
/// What one content can take.
const MOST_FOR_ONE: usize = 3;
/// So many are never lent: when one content has taken what it can, and its page's frame has come, there is enough for
/// the next.
const NOT_LENT: usize = 2 * MOST_FOR_ONE - 1;

/// Why a content was not kept. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotKept {
    /// Packed it would hardly be smaller, and there is no disk, or none with room.
    Incompressible,
    /// The pool is as large as it may get, and so is what the disk has, if there is one.
    PoolFull,
    /// All buffers are on their way to the disk: when a write is done there is room again.
    Later,
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
    /// It is in this block of the disk: want it.
    OnDisk(u32),
    /// The disk cannot read it. It will not come back.
    Lost,
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
    /// Contents that were staged for the disk.
    pub staged: u64,
    /// Of these, those that had been in the pool.
    pub written_back: u64,
}

/// Contents of pages that have no frame. Large: to be a static.
pub struct Store {
    slots: Slots,
    pool: Pool,
    disk: Disk,
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
            disk: Disk::new(),
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
                staged: 0,
                written_back: 0,
            },
        }
    }

    /// From now on contents can be kept. The key is for fingerprints and must come from a generator for keys; the pool
    /// gets no larger than so many frames.
    pub fn begin(&mut self, key: [u8; 32], pool_frames_max: u64) {
        self.fingerprinter = Some(Fingerprinter::new(key));
        self.pool_frames_max = pool_frames_max;
        if pool_frames_max == 0 {
            // Nobody takes what it packs.
            self.compressor.set_bound(0);
        }
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

    /// Gives a frame of the purse away, for a table that has to be there before pages can leave: each of them gives one
    /// back. There is none when those that are left might be too few for that.
    pub fn lend(&mut self) -> Option<Hfn> {
        (self.purse.len() > NOT_LENT).then(|| self.purse.pop())?
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
        let number = reference.slot().get();
        match self.slots.release_reference(memory, number)? {
            Released::Kept | Released::Last(Location::Filled(_) | Location::Clean(_)) => Ok(None),
            Released::Last(Location::Packed(place)) => self.pool.free(memory, place),
            Released::Last(Location::Disk(place)) => self.disk.free(memory, number, place).map(|()| None),
            Released::Last(Location::Staged(place)) => {
                self.disk.unstage(memory, number, place).map(|()| None)
            }
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
            Location::Disk(place) | Location::Clean(place) => {
                self.take_arrived(memory, number.get(), place)?;
            }
            Location::Staged(place) => self
                .disk
                .read_staged(memory, number.get(), place, &mut self.page)
                .map_err(NotHad::Bug)?,
        }
        let is_same = |fingerprinter: &Fingerprinter| fingerprinter.of(&self.page) == slot.fingerprint;
        if self.fingerprinter.as_ref().is_some_and(is_same) {
            self.work.had += 1;
            return Ok(&self.page);
        }
        if let Location::Disk(place) = slot.location
            && self.disk.doubt(number.get())
        {
            return Err(NotHad::OnDisk(place.block));
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
        self.disk.for_each_frame(&mut visit);
        self.pool.for_each_frame(memory, visit)
    }

    /// Visits all slots that are in use. Those that are nobody's have no references.
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
        self.pool.audit(memory)?;
        self.disk.audit(memory, &self.slots)
    }

    fn take_arrived<M: FrameMemory>(
        &mut self,
        memory: &M,
        number: u32,
        place: DiskPlace,
    ) -> Result<(), NotHad> {
        match self.disk.read_arrived(memory, number, place, &mut self.page) {
            Arrival::Here => Ok(()),
            Arrival::NotYet => Err(NotHad::OnDisk(place.block)),
            Arrival::Lost => Err(NotHad::Lost),
        }
    }

    fn unpack<M: FrameMemory>(&mut self, memory: &M, place: Place) -> Result<(), NotHad> {
        let length = self
            .pool
            .load(memory, place, &mut self.packed)
            .map_err(NotHad::Bug)?;
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
