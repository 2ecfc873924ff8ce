//! Contents on a disk: what is written when, what is read when, and what becomes of it if that fails.
//!
//! ```text
//!   keep, write_back --> staging: 64 buffers, encrypted --requests of up to 32--> blocks
//!                                                                                   |
//!   content <-- decrypted, compared <-- reads: 8 buffers <--requests of one---------+
//! ```
//!
//! It is logic: whoever has the disk asks for the next request, has it done, and says what came of it. One request is
//! under way at a time. A content is somewhere at every moment: in its buffer until the disk has said that it is
//! written, and then there. What the disk says is believed only so far: what comes back is compared with the fingerprint
//! of what went, so a write that was lost is found, too.
//!
//! A content that is staged is sure of a block. No more are taken in than there are blocks that are free or that a
//! clean copy can give up, and a clean copy is not used again if what is staged needs its block; only blocks that turn
//! out to be bad can make that untrue, and then the content waits where it is.

mod audit;
pub(in crate::swap) mod blocks;
mod clean;
mod reads;
mod request;
mod result;
mod staging;
mod types;

use pleat_types::{FRAME_SIZE, FrameMemory, Hfn};

use super::cipher::{Cipher, Nonce};
use super::error::Bug;
use super::slots::{DiskPlace, Slots, StagedPlace};
use crate::ledger::{Key, Owner};
use crate::swap::fingerprint::Fingerprint;
use blocks::Blocks;
use clean::Clean;
use reads::{Reads, State};
use staging::{Batch, Staging};

pub use blocks::MAX_BLOCKS;
pub use clean::CLEAN_FRAMES_MAX;
pub use types::{BlockCounts, Coming, Direction, DiskError, DiskPlan, DiskRequest, DiskState, DiskWork};

/// The most blocks of one request, and frames: what one ATA command with a count of 8 bits can move.
pub const RUN: usize = RUN_BLOCKS as usize;
const RUN_BLOCKS: u32 = 32;
/// Writes that can be told apart.
const WRITES_MAX: u64 = 1 << 32;

/// What is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Flight {
    None,
    /// Buffers, each to its block.
    Write(Batch),
    /// Into a buffer with this number.
    Read(usize),
}

/// The disk tier.
#[derive(Debug)]
pub(super) struct Disk {
    state: DiskState,
    cipher: Option<Cipher>,
    blocks: Blocks,
    staging: Staging,
    reads: Reads,
    clean: Clean,
    flight: Flight,
    /// So many of those that wait are to be written though they are no full request.
    hurried: u32,
    /// Requests that failed, and that had no answer, since one did not.
    failed_in_a_row: u32,
    timed_out_in_a_row: u32,
    /// Reads since the last write.
    reads_in_a_row: u32,
    work: DiskWork,
}

impl Disk {
    /// No disk.
    pub(super) const fn new() -> Self {
        Self {
            state: DiskState::None,
            cipher: None,
            blocks: Blocks::new(),
            staging: Staging::new(),
            reads: Reads::new(),
            clean: Clean::new(),
            flight: Flight::None,
            hurried: 0,
            failed_in_a_row: 0,
            timed_out_in_a_row: 0,
            reads_in_a_row: 0,
            work: DiskWork {
                write_requests: 0,
                writes: 0,
                reads: 0,
                clean_hits: 0,
                clean_dropped: 0,
                bad_sectors: 0,
                transfer_errors: 0,
                time_outs: 0,
                checksum_errors: 0,
                lost: 0,
                read_again: 0,
            },
        }
    }

    /// There is a disk. `None` if too few frames are given: those that were stay here, and it is not used.
    pub(super) fn begin<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        key: [u8; 32],
        plan: DiskPlan,
        mut give: impl FnMut() -> Option<Hfn>,
    ) -> Option<()> {
        if self.cipher.is_some() || plan.blocks == 0 {
            return None;
        }
        self.cipher = Some(Cipher::new(key));
        self.staging.begin(&mut give)?;
        self.reads.begin(&mut give)?;
        self.blocks.begin(memory, plan.blocks, &mut give)?;
        self.clean.begin(memory, plan.clean_frames, &mut give)?;
        self.state = DiskState::Open;
        Some(())
    }

    pub(super) const fn state(&self) -> DiskState {
        self.state
    }

    pub(super) const fn work(&self) -> &DiskWork {
        &self.work
    }

    /// The blocks, so many of which clean copies have.
    pub(super) fn blocks(&self, cached: u64) -> BlockCounts {
        let total = u64::from(self.blocks.total());
        let free = u64::from(self.blocks.free_count());
        let bad = u64::from(self.blocks.bad_count());
        BlockCounts {
            total,
            used: total.saturating_sub(free + bad + cached),
            cached,
            free,
            bad,
        }
    }

    /// Whether a block is left for one more content, if so many are clean copies.
    pub(super) fn has_block(&self, clean: u64) -> bool {
        let can_write = self
            .cipher
            .as_ref()
            .is_some_and(|cipher| cipher.used() < WRITES_MAX);
        self.state == DiskState::Open && can_write && self.has_block_to_spare(clean)
    }

    /// Whether more blocks are left than what is staged needs.
    fn has_block_to_spare(&self, clean: u64) -> bool {
        let left = u64::from(self.blocks.free_count()) + clean;
        left > u64::from(self.staging.waiting())
    }

    /// Whether one more content can be staged now, apart from that.
    pub(super) const fn has_buffer(&self) -> bool {
        self.staging.has_room()
    }

    /// Stages the content of a slot; it is encrypted where it is.
    pub(super) fn stage<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: u32,
        page: &mut [u8; FRAME_SIZE],
    ) -> Option<StagedPlace> {
        let cipher = self.cipher.as_mut()?;
        let Nonce(write) = cipher.encrypt(page);
        self.staging.put(memory, slot, u32::try_from(write).ok()?, page)
    }

    /// Copies a content out that is on its way to the disk.
    pub(super) fn read_staged<M: FrameMemory>(
        &self,
        memory: &M,
        slot: u32,
        place: StagedPlace,
        out: &mut [u8; FRAME_SIZE],
    ) -> Result<(), Bug> {
        let bug = Bug::NotStaged(place.buffer);
        let held = self
            .staging
            .get(place.buffer)
            .filter(|held| held.slot() == Some(slot))
            .ok_or(bug)?;
        let frame = self.staging.frame(place.buffer).ok_or(bug)?;
        memory.read_frame(frame, out);
        self.decrypt(held.write, out);
        Ok(())
    }

    /// Wants a content that is on the disk. Of one that has gone nothing is to be waited for: whoever asks is told.
    pub(super) fn want(&mut self, slot: u32, place: DiskPlace) -> Coming {
        if self.state == DiskState::Gone {
            return Coming::Here;
        }
        if self.reads.want(slot, place).is_none() {
            return Coming::Later;
        }
        match self.reads.find(slot) {
            Some((_, State::Wanted | State::Flying)) => Coming::Soon,
            _ => Coming::Here,
        }
    }

    /// Copies a content out that came from the disk. Whether it is there.
    pub(super) fn read_arrived<M: FrameMemory>(
        &mut self,
        memory: &M,
        slot: u32,
        place: DiskPlace,
        out: &mut [u8; FRAME_SIZE],
    ) -> Arrival {
        match self.reads.find(slot) {
            Some((index, State::Arrived | State::Had)) => {
                let Some(frame) = self.reads.frame(index) else {
                    return Arrival::NotYet;
                };
                memory.read_frame(frame, out);
                self.decrypt(place.write, out);
                self.reads.note_had(index);
                Arrival::Here
            }
            Some((_, State::Failed)) => self.give_up(slot),
            // Nothing comes from there any more, wanted or not.
            _ if self.state == DiskState::Gone => self.give_up(slot),
            _ => Arrival::NotYet,
        }
    }

    fn give_up(&mut self, slot: u32) -> Arrival {
        self.reads.forget(slot);
        self.work.lost += 1;
        Arrival::Lost
    }

    /// What came from the disk for this slot is not its content. A bit may have flipped on the way, so it is read once
    /// more before that is said of what is there; whether it is.
    pub(super) fn doubt(&mut self, slot: u32) -> bool {
        let is_read_again = self.can_read() && self.reads.read_again(slot);
        if is_read_again {
            self.work.read_again += 1;
        } else {
            self.work.checksum_errors += 1;
            self.reads.forget(slot);
        }
        is_read_again
    }

    /// Nobody has the content of a slot any more that was on the disk.
    pub(super) fn free<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: u32,
        place: DiskPlace,
    ) -> Result<(), Bug> {
        self.reads.forget(slot);
        self.blocks.free(memory, place.block)
    }

    /// Nobody has the content of a slot any more that was on its way there.
    pub(super) fn unstage<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: u32,
        place: StagedPlace,
    ) -> Result<(), Bug> {
        let block = self.staging.forget(place, slot)?;
        block.map_or(Ok(()), |block| self.blocks.free(memory, block))
    }

    /// Whether there is a table of clean copies.
    pub(super) const fn keeps_clean(&self) -> bool {
        !self.clean.is_empty()
    }

    /// The page that alone had a content has it in a frame: the copy on the disk stays.
    pub(super) fn retire<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
        slot: u32,
        page: Owner,
    ) -> Result<(), Bug> {
        slots.retire(memory, slot, page)?;
        self.reads.forget(slot);
        if let Some(other) = self.clean.take(memory, page) {
            self.drop_clean(memory, slots, other)?;
        }
        match self.clean.put(memory, page, slot) {
            Some(()) => Ok(()),
            None => self.drop_clean(memory, slots, slot),
        }
    }

    /// The slot that has what a page is to give up, if its copy on the disk is still there. The table says no more than
    /// which slot may be meant: two pages can have one place there. What decides is the fingerprint, that of what the
    /// page has now, bound to the page. So a page gets its own slot back or none, and with what it has now.
    pub(super) fn revive<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
        page: Owner,
        key: Key,
        fingerprint: Fingerprint,
    ) -> Result<Option<u32>, Bug> {
        let Some(slot) = self.clean.get(memory, page) else {
            return Ok(None);
        };
        let (_, known) = slots.clean(memory, slot)?;
        let is_same = known == fingerprint.bound_to(page);
        if !is_same || self.state == DiskState::Gone || !self.has_block_to_spare(slots.counts().clean) {
            return Ok(None);
        }
        self.clean.take(memory, page);
        slots.revive(memory, slot, key, fingerprint)?;
        self.work.clean_hits += 1;
        Ok(Some(slot))
    }

    fn drop_clean<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
        slot: u32,
    ) -> Result<(), Bug> {
        self.work.clean_dropped += 1;
        let block = slots.discard(memory, slot)?;
        self.blocks.free(memory, block)
    }

    #[cfg(test)]
    pub(super) fn skip_writes(&mut self, writes: u64) {
        self.cipher
            .as_mut()
            .into_iter()
            .for_each(|cipher| cipher.skip_to(writes));
    }

    fn decrypt(&self, write: u32, page: &mut [u8; FRAME_SIZE]) {
        if let Some(cipher) = &self.cipher {
            cipher.decrypt(Nonce(u64::from(write)), page);
        }
    }

    /// Visits all frames.
    pub(super) fn for_each_frame(&self, mut visit: impl FnMut(Hfn)) {
        self.staging.for_each_frame(&mut visit);
        self.reads.for_each_frame(&mut visit);
        self.blocks.for_each_frame(&mut visit);
        self.clean.for_each_frame(visit);
    }
}

/// What became of a content that is on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// It is here.
    Here,
    /// It is not here.
    NotYet,
    /// It cannot be read.
    Lost,
}
