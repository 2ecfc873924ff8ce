//! Contents on their way to the disk.
//!
//! There are buffers for two of the longest requests. While one request is under way the other half takes what comes
//! in. Which buffer is in what state are bits of three words, so no list is walked; the buffers are used in turn, and
//! so contents that came one after the other go to blocks one after the other.
//!
//! ```text
//!  free --put--> waiting --begin, with a block--> flying --written--> free
//!                   ^                               | |
//!                   +---block is bad---- placed <---+ +--nobody's any more--> free, with its block
//! ```
//!
//! A request that failed as a whole says nothing about each block. So its contents keep their blocks (*placed*) and go
//! again, one in a request: then it shows which blocks cannot be written.

use arrayvec::ArrayVec;
use pleat_types::{FRAME_SIZE, FrameMemory, Hfn};

use super::RUN;
use super::blocks::Run;
use crate::swap::error::Bug;
use crate::swap::slots::StagedPlace;

/// Buffers; as many as a word has bits.
pub(super) const BUFFERS: usize = 2 * RUN;
const _: () = assert!(BUFFERS == u64::BITS as usize);

/// No slot, or no block.
const NONE: u32 = u32::MAX;

/// What a buffer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffer {
    /// Whose content it is.
    slot: u32,
    /// What it was encrypted with.
    pub(super) write: u32,
    /// Where it goes.
    block: u32,
}

impl Buffer {
    const EMPTY: Self = Self {
        slot: NONE,
        write: 0,
        block: NONE,
    };

    pub(super) fn slot(self) -> Option<u32> {
        (self.slot != NONE).then_some(self.slot)
    }

    pub(super) fn block(self) -> Option<u32> {
        (self.block != NONE).then_some(self.block)
    }
}

/// Buffers that a request takes.
pub(super) type Batch = ArrayVec<u32, RUN>;

/// The buffers.
#[derive(Debug)]
pub(super) struct Staging {
    frames: ArrayVec<Hfn, BUFFERS>,
    buffers: [Buffer; BUFFERS],
    /// A bit for each buffer with a content.
    held: u64,
    /// Of these, those that have a block and must be written alone.
    placed: u64,
    /// Of these, those that are being written.
    flying: u64,
    /// The buffer after the one that was filled last, and after the one that was sent last.
    next_in: u32,
    next_out: u32,
}

impl Staging {
    pub(super) const fn new() -> Self {
        Self {
            frames: ArrayVec::new_const(),
            buffers: [Buffer::EMPTY; BUFFERS],
            held: 0,
            placed: 0,
            flying: 0,
            next_in: 0,
            next_out: 0,
        }
    }

    /// Takes its frames. `None` if no more are given than that.
    pub(super) fn begin(&mut self, give: &mut impl FnMut() -> Option<Hfn>) -> Option<()> {
        (0..BUFFERS).try_for_each(|_| self.frames.try_push(give()?).ok())
    }

    /// Whether one more content has room.
    pub(super) const fn has_room(&self) -> bool {
        self.held != u64::MAX
    }

    /// How many contents wait, and have no block yet.
    pub(super) const fn waiting(&self) -> u32 {
        self.waiting_bits().count_ones()
    }

    /// Whether there is one that must go alone.
    pub(super) const fn has_placed(&self) -> bool {
        self.placed != 0
    }

    /// Puts the encrypted content of a slot into a buffer.
    pub(super) fn put<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: u32,
        write: u32,
        page: &[u8; FRAME_SIZE],
    ) -> Option<StagedPlace> {
        let buffer = first_from(!self.held, self.next_in)?;
        memory.write(self.frame(buffer)?.base(), page);
        *self.buffers.get_mut(buffer as usize)? = Buffer {
            slot,
            write,
            block: NONE,
        };
        self.held |= 1 << buffer;
        self.next_in = buffer + 1;
        Some(StagedPlace { buffer, write })
    }

    /// The frame of a buffer.
    pub(super) fn frame(&self, buffer: u32) -> Option<Hfn> {
        self.frames.get(buffer as usize).copied()
    }

    /// What a buffer has, if it has a content.
    pub(super) fn get(&self, buffer: u32) -> Option<Buffer> {
        let is_held = self.held.checked_shr(buffer)? & 1 == 1;
        self.buffers.get(buffer as usize).copied().filter(|_| is_held)
    }

    /// Nobody has this slot's content any more. A block that it would have had comes back; one that is being written
    /// to comes back when that is done.
    pub(super) fn forget(&mut self, place: StagedPlace, slot: u32) -> Result<Option<u32>, Bug> {
        let held = self
            .get(place.buffer)
            .filter(|held| held.slot == slot && held.write == place.write);
        let held = held.ok_or(Bug::NotStaged(place.buffer))?;
        if self.flying >> place.buffer & 1 == 1 {
            self.buffers[place.buffer as usize].slot = NONE;
            return Ok(None);
        }
        self.empty(place.buffer);
        Ok(held.block())
    }

    /// One that must go alone, and its block: it flies now.
    pub(super) fn begin_alone(&mut self) -> Option<(u32, u32)> {
        let buffer = first_from(self.placed, 0)?;
        let block = self.get(buffer)?.block()?;
        self.placed &= !(1 << buffer);
        self.flying |= 1 << buffer;
        Some((buffer, block))
    }

    /// As many as there are blocks of those that have waited longest: they fly now. There are as many.
    pub(super) fn begin_run(&mut self, run: Run) -> Batch {
        let mut batch = Batch::new();
        for block in run.first..run.first + run.count {
            let next = first_from(self.waiting_bits(), self.next_out);
            let Some(buffer) = next.filter(|_| !batch.is_full()) else {
                break;
            };
            self.buffers[buffer as usize].block = block;
            self.flying |= 1 << buffer;
            self.next_out = buffer + 1;
            batch.push(buffer);
        }
        batch
    }

    /// It does not fly any more, and has a block: it goes alone next time.
    pub(super) fn land(&mut self, buffer: u32) {
        self.flying &= !bit(buffer);
        self.placed |= bit(buffer) & self.held;
    }

    /// It has lost its block, which comes back.
    pub(super) fn unplace(&mut self, buffer: u32) -> Option<u32> {
        self.placed &= !bit(buffer);
        let buffer = self.buffers.get_mut(buffer as usize)?;
        let block = buffer.block();
        buffer.block = NONE;
        block
    }

    /// One that has a block and does not fly.
    pub(super) fn any_placed(&self) -> Option<u32> {
        first_from(self.placed, 0)
    }

    /// Its content is elsewhere, or nobody's.
    pub(super) fn empty(&mut self, buffer: u32) {
        let others = !bit(buffer);
        (self.held, self.placed, self.flying) =
            (self.held & others, self.placed & others, self.flying & others);
        if let Some(buffer) = self.buffers.get_mut(buffer as usize) {
            *buffer = Buffer::EMPTY;
        }
    }

    /// All contents.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Buffer)> {
        (0..u64::BITS).filter_map(|buffer| Some((buffer, self.get(buffer)?)))
    }

    /// Visits all frames.
    pub(super) fn for_each_frame(&self, visit: impl FnMut(Hfn)) {
        self.frames.iter().copied().for_each(visit);
    }

    /// Whether the bits fit together: what flies or has to go alone has a block, nothing else has, and only what flies
    /// may be nobody's.
    pub(super) fn is_sound(&self) -> bool {
        let with_block = self.placed | self.flying;
        let has_bits = with_block & !self.held == 0 && self.placed & self.flying == 0;
        has_bits
            && self.iter().all(|(buffer, held)| {
                let is_placed = with_block >> buffer & 1 == 1;
                let is_flying = self.flying >> buffer & 1 == 1;
                held.block().is_some() == is_placed && (held.slot().is_some() || is_flying)
            })
    }

    const fn waiting_bits(&self) -> u64 {
        self.held & !self.placed & !self.flying
    }
}

fn bit(buffer: u32) -> u64 {
    1_u64.checked_shl(buffer).unwrap_or(0)
}

/// The first bit that is set from this one on, round the end.
const fn first_from(bits: u64, from: u32) -> Option<u32> {
    if bits == 0 {
        return None;
    }
    let from = from % u64::BITS;
    Some((bits.rotate_right(from).trailing_zeros() + from) % u64::BITS)
}
