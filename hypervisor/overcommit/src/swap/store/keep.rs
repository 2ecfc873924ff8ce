//! A content comes in.

use pleat_types::{FrameMemory, FrozenFrame, SlotReference, SwapSlot};

use super::{NotKept, Store};
use crate::ledger::{Key, Owner};
use crate::swap::compress::Content;
use crate::swap::error::Error;
use crate::swap::fingerprint::Fingerprint;
use crate::swap::pool::PAIRED;
use crate::swap::slots::{Location, Slot, Slots};

/// Contents that are kept between two ticks of the clock that stamps those in the pool: 16 bits are four million.
const KEPT_IN_TICK: u64 = 64;

impl Store {
    /// Keeps the content of a page: a slot with one reference, which is what comes back. `key` is what merging knows the
    /// content by, zero if it does not. `page` is the page, if it is one alone: its clean copy may still be on the disk.
    pub fn keep<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: &FrozenFrame,
        key: Key,
        page: Option<Owner>,
    ) -> Result<SlotReference, NotKept> {
        self.make_room_for_slot(memory)?;
        let Some(fingerprinter) = &self.fingerprinter else {
            return Err(NotKept::PoolFull);
        };
        let slot = Slot {
            location: Location::Filled(0),
            references: 1,
            stamp: self.clock(),
            key,
            fingerprint: fingerprinter.of(memory.frozen(frame)),
        };
        let number = match self.revive(memory, page, key, slot.fingerprint)? {
            Some(number) => number,
            None => self.keep_anew(memory, frame, slot)?,
        };
        self.work.kept += 1;
        Ok(SlotReference::claim(SwapSlot::new(number)))
    }

    /// What the clock that stamps contents of the pool shows.
    pub(super) fn clock(&self) -> u16 {
        u16::try_from((self.work.kept / KEPT_IN_TICK) & 0xffff).unwrap_or(0)
    }

    /// The slot that has what the page had when it came from the disk last, if that is what it has now.
    fn revive<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        page: Option<Owner>,
        key: Key,
        fingerprint: Fingerprint,
    ) -> Result<Option<u32>, NotKept> {
        let Some(page) = page else {
            return Ok(None);
        };
        let revived = self.disk.revive(memory, &mut self.slots, page, key, fingerprint);
        revived.map_err(NotKept::Bug)
    }

    /// Into a new slot: where it fits first.
    fn keep_anew<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: &FrozenFrame,
        slot: Slot,
    ) -> Result<u32, NotKept> {
        let may_grow = self.pool.counts().frames < self.pool_frames_max;
        let refusal = match self.compressor.pack(memory.frozen(frame)) {
            Content::Filled(word) => {
                let location = Location::Filled(word);
                let number = allocate(&mut self.slots, memory, Slot { location, ..slot })?;
                self.work.filled += 1;
                return Ok(number);
            }
            Content::Packed(bytes) if self.pool.has_room(bytes.len()) => {
                let length = bytes.len();
                return self.keep_packed(memory, slot, length);
            }
            // One that is alone in its frame frees none. So a frame is begun only with what another like it fits beside.
            Content::Packed(bytes) if may_grow && bytes.len() <= PAIRED => {
                let length = bytes.len();
                return self.keep_packed(memory, slot, length);
            }
            Content::Packed(bytes) if bytes.len() <= PAIRED => NotKept::PoolFull,
            Content::Incompressible if self.pool_frames_max == 0 => NotKept::PoolFull,
            Content::Packed(_) | Content::Incompressible => {
                self.work.incompressible += 1;
                NotKept::Incompressible
            }
        };
        self.keep_staged(memory, frame, slot, refusal)
    }

    /// Into the pool, as what the compressor has packed.
    fn keep_packed<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: Slot,
        length: usize,
    ) -> Result<u32, NotKept> {
        let may_grow = self.pool.counts().frames < self.pool_frames_max;
        let number = allocate(&mut self.slots, memory, slot)?;
        let mut donor = if may_grow { self.purse.pop() } else { None };
        let bytes = self.compressor.packed(length);
        let stored = self.pool.store(memory, number, bytes, &mut donor);
        self.purse.extend(donor);
        match stored {
            Ok(place) => {
                let location = Location::Packed(place);
                self.slots
                    .set_location(memory, number, location)
                    .map_err(NotKept::Bug)?;
                self.work.packed_bytes += length as u64;
                Ok(number)
            }
            Err(error) => {
                // It never was anywhere.
                let _ = self.slots.release_reference(memory, number);
                Err(match error {
                    Error::Bug(bug) => NotKept::Bug(bug),
                    _ if may_grow => NotKept::NoFrames,
                    _ => NotKept::PoolFull,
                })
            }
        }
    }

    /// On the way to the disk, or nowhere, if there is none with a block for it.
    fn keep_staged<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: &FrozenFrame,
        slot: Slot,
        refusal: NotKept,
    ) -> Result<u32, NotKept> {
        if !self.disk.has_block(self.slots.counts().clean) {
            return Err(refusal);
        }
        if !self.disk.has_buffer() {
            return Err(NotKept::Later);
        }
        let number = allocate(&mut self.slots, memory, slot)?;
        memory.read_frame(frame.frame(), &mut self.page);
        if self.stage(memory, number).map_err(NotKept::Bug)? {
            return Ok(number);
        }
        let _ = self.slots.release_reference(memory, number);
        Err(refusal)
    }

    /// Stages what is in `page` as the content of a slot; whether there was room.
    pub(super) fn stage<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        number: u32,
    ) -> Result<bool, crate::swap::Bug> {
        let Some(place) = self.disk.stage(memory, number, &mut self.page) else {
            return Ok(false);
        };
        self.slots.set_location(memory, number, Location::Staged(place))?;
        self.work.staged += 1;
        Ok(true)
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
}

fn allocate<M: FrameMemory>(slots: &mut Slots, memory: &mut M, slot: Slot) -> Result<u32, NotKept> {
    slots.allocate(memory, slot).map_err(|error| match error {
        Error::Full => NotKept::NoFrames,
        Error::TooManyReferences => NotKept::TooMany,
        Error::Bug(bug) => NotKept::Bug(bug),
    })
}
