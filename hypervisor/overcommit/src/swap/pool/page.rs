//! A frame of the pool as a *slotted page* (so databases call it: Gray and Reuter, "Transaction Processing", 1993,
//! 14.2): a header, the bytes of objects, and from the frame's end down a directory of them.
//!
//! ```text
//!  0        8          16       24                  top             4096 - 8 x entries        4096
//!  | counts | links    | seal   | object | hole | object | unused gap | entry n .. | entry 0 |
//!
//!  counts  entries 16, objects 16, bytes of objects 16, top 16
//!  links   next frame with as much room 32, previous one 32
//!  seal    a sum over these and the frame's own number: neither another frame nor a header with a flipped bit is
//!          taken for one of the pool's, and no link is followed that the pool has not made
//!  entry   slot 32, offset 16, length 16; all zeros if there is no object
//! ```
//!
//! An object is known by the number of its entry, and moves inside of the frame without anybody noticing. So what
//! is freed may leave a hole, and all holes are closed at once when the gap is too small for what is to come.

use pleat_types::{FRAME_SIZE, FrameMemory, Hfn, Hpa};

use super::{MAX_OBJECT, Place};
use crate::swap::bits;
use crate::swap::error::Bug;

/// A whole frame's bytes.
pub(super) type Buffer = [u8; FRAME_SIZE];

/// No frame: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// Bytes of the header.
pub(super) const HEADER: u32 = 24;
/// Bytes of an entry.
pub(super) const ENTRY: u32 = 8;
const FRAME: u32 = 4096;
const _: () = assert!(FRAME as usize == FRAME_SIZE);
const _: () = assert!(MAX_OBJECT == (FRAME - HEADER - ENTRY) as usize);
/// The last entry of a frame: where the directory starts.
const LAST: usize = FRAME_SIZE / 8 - 1;
/// Odd numbers, so that a product with one of them differs wherever the other factor does.
const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9];

/// The third word of a header.
fn seal(frame: u32, counts: u64, links: u64) -> u64 {
    let [first, second] = ODD;
    counts.wrapping_mul(first) ^ links.wrapping_add(u64::from(frame)).wrapping_mul(second)
}

/// The frame with this number.
pub(super) fn hfn(frame: u32) -> Hfn {
    Hfn::new(u64::from(frame))
}

fn address(frame: u32, offset: u32) -> Hpa {
    Hpa::new(hfn(frame).base().get() + u64::from(offset))
}

/// An object's entry in the directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Whose content it is.
    pub(super) slot: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Entry {
    const UNUSED: Self = Self {
        slot: 0,
        offset: 0,
        length: 0,
    };

    pub(super) const fn is_used(self) -> bool {
        self.length > 0
    }

    pub(super) const fn end(self) -> u32 {
        self.offset + self.length
    }

    pub(super) fn load<M: FrameMemory>(memory: &M, frame: u32, index: u32) -> Self {
        let word = memory.load_entry(hfn(frame), LAST.saturating_sub(index as usize));
        Self {
            slot: bits(word, 0, 32),
            offset: bits(word, 32, 16),
            length: bits(word, 48, 16),
        }
    }

    fn store<M: FrameMemory>(self, memory: &mut M, frame: u32, index: u32) {
        let word = u64::from(self.slot) | u64::from(self.offset) << 32 | u64::from(self.length) << 48;
        memory.store_entry(hfn(frame), LAST.saturating_sub(index as usize), word);
    }
}

/// The header of a frame, and which frame it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Page {
    pub(super) frame: u32,
    /// Entries in the directory; the last one is used.
    pub(super) entries: u32,
    /// Entries that are used.
    pub(super) objects: u32,
    /// The sum of the objects' lengths.
    pub(super) bytes: u32,
    /// Where the gap starts.
    pub(super) top: u32,
    pub(super) next: u32,
    pub(super) previous: u32,
}

impl Page {
    /// A frame without objects.
    pub(super) const fn empty(frame: u32) -> Self {
        Self {
            frame,
            entries: 0,
            objects: 0,
            bytes: 0,
            top: HEADER,
            next: NONE,
            previous: NONE,
        }
    }

    /// Reads a header, which must be one.
    pub(super) fn load<M: FrameMemory>(memory: &M, frame: u32) -> Result<Self, Bug> {
        let broken = Bug::BrokenFrame(hfn(frame));
        if frame == NONE {
            return Err(broken);
        }
        let word = |n| memory.load_entry(hfn(frame), n);
        let (counts, links) = (word(0), word(1));
        if word(2) != seal(frame, counts, links) {
            return Err(broken);
        }
        let page = Self {
            frame,
            entries: bits(counts, 0, 16),
            objects: bits(counts, 16, 16),
            bytes: bits(counts, 32, 16),
            top: bits(counts, 48, 16),
            next: bits(links, 0, 32),
            previous: bits(links, 32, 32),
        };
        page.is_possible().then_some(page).ok_or(broken)
    }

    /// Writes it, which makes the frame one of the pool.
    pub(super) fn store<M: FrameMemory>(&self, memory: &mut M) {
        let low = u64::from(self.entries) | u64::from(self.objects) << 16;
        let high = u64::from(self.bytes) | u64::from(self.top) << 16;
        let counts = low | high << 32;
        let links = u64::from(self.next) | u64::from(self.previous) << 32;
        let seal = seal(self.frame, counts, links);
        for (n, word) in [counts, links, seal].into_iter().enumerate() {
            memory.store_entry(hfn(self.frame), n, word);
        }
    }

    /// Breaks the seal: no place in this frame means anything any more.
    pub(super) fn erase<M: FrameMemory>(&self, memory: &mut M) {
        let word = memory.load_entry(hfn(self.frame), 2);
        memory.store_entry(hfn(self.frame), 2, !word);
    }

    /// The largest object that fits.
    pub(super) const fn room(&self) -> u32 {
        let free = self.directory() - HEADER - self.bytes;
        free.saturating_sub(self.growth())
    }

    /// Reads the entry of an object.
    pub(super) fn entry<M: FrameMemory>(&self, memory: &M, index: u32) -> Result<Entry, Bug> {
        let entry = Entry::load(memory, self.frame, index);
        if index >= self.entries || !entry.is_used() {
            return Err(Bug::NoObject(Place::new(self.frame, index)));
        }
        if entry.offset < HEADER || entry.end() > self.top {
            return Err(Bug::BrokenFrame(hfn(self.frame)));
        }
        Ok(entry)
    }

    /// The objects: the number and the entry of each.
    pub(super) fn objects<M: FrameMemory>(&self, memory: &M) -> impl Iterator<Item = (u32, Entry)> {
        let frame = self.frame;
        let all = (0..self.entries).map(move |index| (index, Entry::load(memory, frame, index)));
        all.filter(|(_, entry)| entry.is_used())
    }

    /// Copies an object out; the number of its bytes.
    pub(super) fn read<M: FrameMemory>(&self, memory: &M, index: u32, out: &mut [u8]) -> Result<usize, Bug> {
        let entry = self.entry(memory, index)?;
        let length = entry.length as usize;
        let out = out.get_mut(..length).ok_or(Bug::BadLength(length))?;
        memory.read(address(self.frame, entry.offset), out);
        Ok(length)
    }

    /// Puts an object in, for which there is room; the number of its entry. The header is not written.
    pub(super) fn insert<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        scratch: &mut Buffer,
        slot: u32,
        bytes: &[u8],
    ) -> Result<u32, Bug> {
        let length = u32::try_from(bytes.len()).map_err(|_| Bug::BadLength(bytes.len()))?;
        if length == 0 || length > self.room() {
            return Err(Bug::BadLength(bytes.len()));
        }
        if self.directory() - self.top < length + self.growth() {
            self.close_holes(memory, scratch)?;
        }
        let index = self.unused_entry(memory)?;
        let offset = self.top;
        memory.write(address(self.frame, offset), bytes);
        Entry { slot, offset, length }.store(memory, self.frame, index);
        self.entries = self.entries.max(index + 1);
        self.objects += 1;
        self.bytes += length;
        self.top += length;
        Ok(index)
    }

    /// Takes an object out. The header is not written.
    pub(super) fn remove<M: FrameMemory>(&mut self, memory: &mut M, index: u32) -> Result<Entry, Bug> {
        let entry = self.entry(memory, index)?;
        let broken = Bug::BrokenFrame(hfn(self.frame));
        let objects = self.objects.checked_sub(1).ok_or(broken)?;
        let bytes = self.bytes.checked_sub(entry.length).ok_or(broken)?;
        (self.objects, self.bytes) = (objects, bytes);
        Entry::UNUSED.store(memory, self.frame, index);
        if entry.end() == self.top {
            self.top = entry.offset;
        }
        while self.entries > 0 && !Entry::load(memory, self.frame, self.entries - 1).is_used() {
            self.entries -= 1;
        }
        Ok(entry)
    }

    /// Where the directory starts.
    const fn directory(&self) -> u32 {
        FRAME - self.entries * ENTRY
    }

    /// Bytes by which the directory grows with one object more.
    const fn growth(&self) -> u32 {
        if self.objects == self.entries { ENTRY } else { 0 }
    }

    /// Whether the numbers fit together, so that computing with them cannot overflow.
    const fn is_possible(&self) -> bool {
        self.entries <= (FRAME - HEADER) / ENTRY
            && self.objects <= self.entries
            && self.top >= HEADER
            && self.top <= self.directory()
            && self.bytes <= self.top - HEADER
    }

    fn unused_entry<M: FrameMemory>(&self, memory: &M) -> Result<u32, Bug> {
        if self.objects == self.entries {
            return Ok(self.entries);
        }
        (0..self.entries)
            .find(|index| !Entry::load(memory, self.frame, *index).is_used())
            .ok_or(Bug::BrokenFrame(hfn(self.frame)))
    }

    /// Moves the objects together, in the order of their entries.
    fn close_holes<M: FrameMemory>(&mut self, memory: &mut M, scratch: &mut Buffer) -> Result<(), Bug> {
        let broken = Bug::BrokenFrame(hfn(self.frame));
        memory.read_frame(hfn(self.frame), scratch);
        let mut top = HEADER;
        for index in 0..self.entries {
            let entry = Entry::load(memory, self.frame, index);
            if !entry.is_used() {
                continue;
            }
            let old = entry.offset as usize..entry.end() as usize;
            let bytes = scratch.get(old).ok_or(broken)?;
            if top + entry.length > self.top {
                return Err(broken);
            }
            memory.write(address(self.frame, top), bytes);
            Entry { offset: top, ..entry }.store(memory, self.frame, index);
            top += entry.length;
        }
        self.top = top;
        Ok(())
    }
}
