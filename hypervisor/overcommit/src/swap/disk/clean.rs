//! Pages that came back from the disk, and whose blocks still have what they had.
//!
//! A page that is only read and grows cold again needs no second write. So its slot stays, without a page that names
//! it, and this table says by the page's number which slot that is: an entry of four bytes, the slot's number plus one,
//! at a place that the page's number alone says. Two pages with one place take it from each other. Nothing is promised:
//! an entry proposes, and the fingerprint of what is to be kept decides.
//!
//! Each slot without a page has exactly one entry, and each entry is such a slot's: whoever takes one away takes
//! the other.

use arrayvec::ArrayVec;
use pleat_types::{FrameMemory, Hfn};

use crate::ledger::Owner;
use crate::swap::bits;

/// The most frames that the table can have: entries for 1 GiB of pages.
pub const CLEAN_FRAMES_MAX: usize = 256;
/// Entries in a frame, two in a word.
const IN_FRAME: u32 = 1024;

/// The table.
#[derive(Debug)]
pub(super) struct Clean {
    frames: ArrayVec<Hfn, CLEAN_FRAMES_MAX>,
    /// Where the search for one to give up goes on.
    hand: u32,
}

impl Clean {
    pub(super) const fn new() -> Self {
        Self {
            frames: ArrayVec::new_const(),
            hand: 0,
        }
    }

    /// Takes so many frames. `None` if no more are given than that.
    pub(super) fn begin<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frames: usize,
        give: &mut impl FnMut() -> Option<Hfn>,
    ) -> Option<()> {
        for _ in 0..frames.min(CLEAN_FRAMES_MAX) {
            let frame = give()?;
            memory.zero_frame(frame);
            self.frames.try_push(frame).ok()?;
        }
        Some(())
    }

    /// Whether there is no place for any page.
    pub(super) const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The slot that a page's place has.
    pub(super) fn get<M: FrameMemory>(&self, memory: &M, page: Owner) -> Option<u32> {
        self.load(memory, self.place_of(page)?)
    }

    /// A page's place is empty now; the slot that it had.
    pub(super) fn take<M: FrameMemory>(&self, memory: &mut M, page: Owner) -> Option<u32> {
        let place = self.place_of(page)?;
        let slot = self.load(memory, place)?;
        self.store(memory, place, 0);
        Some(slot)
    }

    /// Puts a slot into a page's place, which is empty. `None` if there is no table.
    pub(super) fn put<M: FrameMemory>(&self, memory: &mut M, page: Owner, slot: u32) -> Option<()> {
        let place = self.place_of(page)?;
        self.store(memory, place, slot.checked_add(1)?);
        Some(())
    }

    /// Takes the next entry out, if one comes within so many places, which this counts down.
    pub(super) fn sweep<M: FrameMemory>(&mut self, memory: &mut M, places: &mut u32) -> Option<u32> {
        while *places > 0 && self.places() > 0 {
            *places -= 1;
            let place = self.hand % self.places();
            self.hand = place + 1;
            if let Some(slot) = self.load(memory, place) {
                self.store(memory, place, 0);
                return Some(slot);
            }
        }
        None
    }

    /// All slots that have a place.
    pub(super) fn iter<M: FrameMemory>(&self, memory: &M) -> impl Iterator<Item = u32> {
        (0..self.places()).filter_map(|place| self.load(memory, place))
    }

    /// Visits all frames.
    pub(super) fn for_each_frame(&self, visit: impl FnMut(Hfn)) {
        self.frames.iter().copied().for_each(visit);
    }

    fn places(&self) -> u32 {
        self.frames.iter().fold(0, |places, _| places + IN_FRAME)
    }

    /// Fibonacci hashing (Knuth, "The Art of Computer Programming", 6.4): pages in a row get places far apart, and no
    /// two of a row the same.
    fn place_of(&self, page: Owner) -> Option<u32> {
        let page = page.gfn.get() ^ u64::from(page.guest.0) << 48;
        let hash = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        u32::try_from((hash * u64::from(self.places())) >> 32)
            .ok()
            .filter(|_| !self.frames.is_empty())
    }

    fn load<M: FrameMemory>(&self, memory: &M, place: u32) -> Option<u32> {
        let (frame, word, shift) = self.position(place)?;
        bits(memory.load_entry(frame, word), shift, 32).checked_sub(1)
    }

    fn store<M: FrameMemory>(&self, memory: &mut M, place: u32, entry: u32) {
        if let Some((frame, word, shift)) = self.position(place) {
            let other = memory.load_entry(frame, word) & !(u64::from(u32::MAX) << shift);
            memory.store_entry(frame, word, other | u64::from(entry) << shift);
        }
    }

    /// Where a place is: the frame, the word, and the first bit of it.
    fn position(&self, place: u32) -> Option<(Hfn, usize, u32)> {
        let frame = self.frames.get((place / IN_FRAME) as usize)?;
        let n = place % IN_FRAME;
        Some((*frame, (n / 2) as usize, n % 2 * u32::BITS))
    }
}
