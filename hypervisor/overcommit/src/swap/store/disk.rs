//! The store and its disk: what whoever has the disk calls.
//!
//! ```text
//!   begin_disk                                once, at boot
//!   want, when a content is NotHad::OnDisk    until it is Coming::Here
//!   hurry, when memory is short or time is up
//!   next_request -> the disk -> finished      again and again, until is_disk_idle
//! ```

use pleat_types::{FrameMemory, Hfn, SlotReference, SwapSlot};

use super::{NotHad, Store};
use crate::ledger::Owner;
use crate::swap::compress::unpack;
use crate::swap::disk::{BlockCounts, Coming, DiskError, DiskPlan, DiskRequest, DiskState, DiskWork};
use crate::swap::error::Bug;
use crate::swap::pool::Step;
use crate::swap::slots::{Location, Slot};

/// The pool is nearly full when less than this part of it is left.
const NEARLY_FULL_PART: u64 = 16;

impl Store {
    /// From now on contents can go to a disk. The key is for encrypting and must come from a generator for keys. `give`
    /// is asked for [`DiskPlan::frames`] frames, no two of them the same; the store has them for good, and the disk gets
    /// the addresses of some. `None` if one is missing: then there is no disk, and those that were given stay.
    pub fn begin_disk<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        key: [u8; 32],
        plan: DiskPlan,
        give: impl FnMut() -> Option<Hfn>,
    ) -> Option<()> {
        self.disk.begin(memory, key, plan, give)
    }

    /// What the disk is good for.
    #[must_use]
    pub const fn disk_state(&self) -> DiskState {
        self.disk.state()
    }

    /// What was done with the disk since the start.
    #[must_use]
    pub const fn disk_work(&self) -> &DiskWork {
        self.disk.work()
    }

    /// Whether the disk has room for one more content, beside those that are on their way to it.
    #[must_use]
    pub fn has_room_on_disk(&self) -> bool {
        self.disk.has_block(self.slots.counts().clean)
    }

    /// The disk's blocks.
    #[must_use]
    pub fn blocks(&self) -> BlockCounts {
        self.disk.blocks(self.slots.counts().clean)
    }

    /// Wants the content of a slot that is on the disk. What is there already, is nowhere near a disk, or is lost, can be
    /// asked for.
    pub fn want<M: FrameMemory>(&mut self, memory: &M, slot: SwapSlot) -> Result<Coming, NotHad> {
        let known = self.slots.get(memory, slot.get()).map_err(NotHad::Bug)?;
        match known.location {
            Location::Disk(place) => Ok(self.disk.want(slot.get(), place)),
            _ => Ok(Coming::Here),
        }
    }

    /// What the disk is to do next. `None` as long as it does something, and while nothing is due. Who polls without
    /// end asks [`Store::is_disk_idle`].
    pub fn next_request<M: FrameMemory>(&mut self, memory: &mut M) -> Result<Option<DiskRequest>, Bug> {
        self.disk.next_request(memory, &mut self.slots)
    }

    /// What came of the last request. Its frames are the store's again.
    pub fn finished<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        result: Result<(), DiskError>,
    ) -> Result<(), Bug> {
        self.disk.finished(memory, &mut self.slots, result)
    }

    /// Whether the disk does nothing, and nothing is due.
    #[must_use]
    pub fn is_disk_idle(&self) -> bool {
        self.disk.is_idle(&self.slots)
    }

    /// Whether the last request has not ended.
    #[must_use]
    pub fn is_disk_busy(&self) -> bool {
        self.disk.is_busy()
    }

    /// What waits for the disk now is written even if it does not fill a request.
    pub const fn hurry(&mut self) {
        self.disk.hurry();
    }

    /// Whether the pool has so little room left that contents should move to the disk, and can.
    #[must_use]
    pub fn wants_write_back(&self) -> bool {
        let least = self.pool_frames_max - self.pool_frames_max / NEARLY_FULL_PART;
        self.pool.counts().frames >= least && self.can_write_back()
    }

    /// Moves one content that has been in the pool for long to the disk: one bounded step. [`Step::Moved`] says that
    /// there may be more.
    pub fn write_back<M: FrameMemory>(&mut self, memory: &mut M) -> Result<Step, Bug> {
        if !self.can_write_back() {
            return Ok(Step::Nothing);
        }
        let now = self.clock();
        let Some((number, place)) = self.slots.oldest_packed(memory, now) else {
            // None in this part of the table.
            return Ok(Step::Moved);
        };
        let length = self.pool.load(memory, place, &mut self.packed)?;
        let packed = self.packed.get(..length).unwrap_or(&[]);
        if unpack(packed, &mut self.page).is_err() {
            // Whoever wants it will be told. It stays, and others have their turn.
            return Ok(Step::Nothing);
        }
        if !self.stage(memory, number)? {
            return Ok(Step::Nothing);
        }
        self.work.written_back += 1;
        let frame = self.pool.free(memory, place)?;
        Ok(frame.map_or(Step::Moved, Step::Freed))
    }

    /// A page that named a slot has its content in a frame again. If it alone had it, and it came from the disk, the copy
    /// there stays as long as its block is not needed: the page may grow cold again unchanged. Otherwise this is
    /// [`Store::release`], and so that is better for a page that is to be written.
    pub fn release_returned<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        reference: SlotReference,
        page: Owner,
    ) -> Result<Option<Hfn>, Bug> {
        let number = reference.slot().get();
        let is_alone = matches!(
            self.slots.get(memory, number)?,
            Slot {
                location: Location::Disk(_),
                references: 1,
                ..
            }
        );
        if !is_alone || !self.disk.keeps_clean() {
            return self.release(memory, reference);
        }
        self.disk.retire(memory, &mut self.slots, number, page)?;
        Ok(None)
    }

    /// As if so many pages had been encrypted.
    #[cfg(test)]
    pub(in crate::swap) fn skip_writes(&mut self, writes: u64) {
        self.disk.skip_writes(writes);
    }

    fn can_write_back(&self) -> bool {
        let counts = self.slots.counts();
        counts.packed > 0 && self.disk.has_buffer() && self.disk.has_block(counts.clean)
    }
}
