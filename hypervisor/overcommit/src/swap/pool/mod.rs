//! The pool: packed pages in frames of the host.
//!
//! Each frame is a slotted page ([`page`]) with as many objects as fit, of any length, and is on the list of frames
//! with as much room ([`bins`]). An object goes into the fullest frame that has room for it. Those of many lengths
//! fill frames nearly to the last byte that way, which a pool with two or three objects a frame cannot (Linux' zbud
//! and z3fold), and unlike one with classes of lengths (zsmalloc) a frame is free as soon as its own few objects
//! are, whatever came when.
//!
//! What frees leave behind, [`Pool::compact`] gathers: an object is only known by its [`Place`], which is in its
//! slot, and its entry says which slot that is.
//!
//! A frame is taken only when one is offered, and only if no other has room. So giving up a page never needs
//! memory: the frame that is offered is the page's own.

mod audit;
mod bins;
mod compact;
mod page;

use pleat_types::{FrameMemory, Hfn};

use super::error::{Bug, Error};
use bins::Bins;
use page::{Buffer, NONE, Page, hfn};

pub use compact::Step;

/// Bytes of the largest object: a frame, less its header and one entry.
pub const MAX_OBJECT: usize = pleat_types::FRAME_SIZE - 32;

/// Objects that are no longer than this find room in a frame that has one of their length alone: half a frame, as far as
/// the lists by room tell.
pub const PAIRED: usize = 31 * bins::STEP as usize;
const _: () =
    assert!(MAX_OBJECT - PAIRED - page::ENTRY as usize >= PAIRED.next_multiple_of(bins::STEP as usize));

/// Where an object is. It means nothing to anybody but the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    frame: u32,
    index: u16,
}

impl Place {
    /// A frame has less than 2^16 entries; another number is no object's.
    fn new(frame: u32, index: u32) -> Self {
        Self {
            frame,
            index: u16::try_from(index).unwrap_or(u16::MAX),
        }
    }

    /// As a number of 48 bits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.frame as u64 | (self.index as u64) << 32
    }

    /// From such a number; `None` if it has more bits.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let index = u16::try_from(bits >> 32).ok()?;
        Some(Self {
            frame: super::bits(bits, 0, 32),
            index,
        })
    }

    /// The frame that the object is in.
    #[must_use]
    pub fn frame(self) -> Hfn {
        hfn(self.frame)
    }

    fn index(self) -> u32 {
        u32::from(self.index)
    }
}

/// What is in the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolCounts {
    /// Frames.
    pub frames: u64,
    /// Objects.
    pub objects: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

/// The pool. It has 8 KiB of buffers, to be a static.
#[derive(Debug)]
pub struct Pool {
    bins: Bins,
    counts: PoolCounts,
    /// For closing holes.
    scratch: Buffer,
    /// An object on its way to another frame.
    object: Buffer,
}

impl Pool {
    /// A pool without frames.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bins: Bins::new(),
            counts: PoolCounts {
                frames: 0,
                objects: 0,
                bytes: 0,
            },
            scratch: [0; pleat_types::FRAME_SIZE],
            object: [0; pleat_types::FRAME_SIZE],
        }
    }

    /// What is in it.
    #[must_use]
    pub const fn counts(&self) -> &PoolCounts {
        &self.counts
    }

    /// Whether an object with so many bytes can be stored without a donor.
    #[must_use]
    pub fn has_room(&self, length: usize) -> bool {
        self.bins.fitting(length).is_some()
    }

    /// Stores the content of a slot. The donor's frame becomes one of the pool if no other has room: then nothing
    /// is left of `donor`. It must not be mapped, and nothing that is in it is needed any more.
    pub fn store<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: u32,
        bytes: &[u8],
        donor: &mut Option<Hfn>,
    ) -> Result<Place, Error> {
        if bytes.is_empty() || bytes.len() > MAX_OBJECT {
            return Err(Bug::BadLength(bytes.len()).into());
        }
        let place = match self.bins.fitting(bytes.len()) {
            Some(frame) => self.bins.insert(memory, &mut self.scratch, frame, slot, bytes)?,
            None => self.store_in_donor(memory, slot, bytes, donor)?,
        };
        self.counts.objects += 1;
        self.counts.bytes += bytes.len() as u64;
        Ok(place)
    }

    fn store_in_donor<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slot: u32,
        bytes: &[u8],
        donor: &mut Option<Hfn>,
    ) -> Result<Place, Error> {
        let first = donor.ok_or(Error::Full)?;
        let frame = u32::try_from(first.get()).ok().filter(|frame| *frame != NONE);
        let mut page = Page::empty(frame.ok_or(Bug::BadFrame(first))?);
        let index = page.insert(memory, &mut self.scratch, slot, bytes)?;
        self.bins.link(memory, &mut page)?;
        *donor = None;
        self.counts.frames += 1;
        Ok(Place::new(page.frame, index))
    }

    /// Copies an object out, into the first bytes of `out`; how many these are.
    pub fn load<M: FrameMemory>(&self, memory: &M, place: Place, out: &mut [u8]) -> Result<usize, Bug> {
        Page::load(memory, place.frame)?.read(memory, place.index(), out)
    }

    /// The slot whose content an object is.
    pub fn slot<M: FrameMemory>(&self, memory: &M, place: Place) -> Result<u32, Bug> {
        let page = Page::load(memory, place.frame)?;
        Ok(page.entry(memory, place.index())?.slot)
    }

    /// Frees an object, and gives its frame out if that was the last one in it.
    pub fn free<M: FrameMemory>(&mut self, memory: &mut M, place: Place) -> Result<Option<Hfn>, Bug> {
        let mut page = Page::load(memory, place.frame)?;
        let before = page.room();
        let entry = page.remove(memory, place.index())?;
        self.counts.objects = self.counts.objects.saturating_sub(1);
        self.counts.bytes = self.counts.bytes.saturating_sub(u64::from(entry.length));
        if page.objects > 0 {
            self.bins.settle(memory, &mut page, before)?;
            return Ok(None);
        }
        self.bins.unlink(memory, &mut page, before)?;
        Ok(Some(self.give(memory, &page)))
    }

    /// Gives out a frame without objects that is on no list.
    fn give<M: FrameMemory>(&mut self, memory: &mut M, page: &Page) -> Hfn {
        page.erase(memory);
        self.counts.frames = self.counts.frames.saturating_sub(1);
        hfn(page.frame)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl Bins {
    /// Puts an object into a frame that is on a list and has room.
    fn insert<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        scratch: &mut Buffer,
        frame: u32,
        slot: u32,
        bytes: &[u8],
    ) -> Result<Place, Bug> {
        let mut page = Page::load(memory, frame)?;
        let before = page.room();
        let index = page.insert(memory, scratch, slot, bytes)?;
        self.settle(memory, &mut page, before)?;
        Ok(Place::new(frame, index))
    }
}
