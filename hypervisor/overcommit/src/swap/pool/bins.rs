//! The frames of the pool by room: doubly linked lists through their headers, and their heads.
//!
//! A list has the frames with as much room but for 63 bytes. So the fullest frame that is sure to have room for an
//! object is the head of the first list, from the object's own on, that has any: one instruction over a word of
//! bits ("good fit" in M. Masmano and others, "TLSF: a new dynamic memory allocator", ECRTS 2004).

use pleat_types::FrameMemory;

use super::page::{NONE, Page, hfn};
use crate::swap::error::Bug;

/// Lists.
pub(super) const BINS: usize = 64;
/// Bytes of room by which two lists differ.
pub(super) const STEP: u32 = 64;

/// The heads of the lists.
#[derive(Debug)]
pub(super) struct Bins {
    heads: [u32; BINS],
    /// A bit for each list that is not empty.
    filled: u64,
}

/// The list of frames with so much room.
pub(super) const fn bin_of(room: u32) -> usize {
    let bin = (room / STEP) as usize;
    if bin < BINS { bin } else { BINS - 1 }
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self {
            heads: [NONE; BINS],
            filled: 0,
        }
    }

    pub(super) fn head(&self, bin: usize) -> u32 {
        self.heads.get(bin).copied().unwrap_or(NONE)
    }

    /// The fullest frame that surely has room for so many bytes, but for 63 bytes.
    pub(super) fn fitting(&self, length: usize) -> Option<u32> {
        let first = u32::try_from(length.div_ceil(STEP as usize)).ok()?;
        let larger = self.filled & u64::MAX.checked_shl(first)?;
        let bin = usize::try_from(larger.trailing_zeros()).ok()?;
        self.heads.get(bin).copied()
    }

    /// Writes a frame's header and puts it on the list of its room.
    pub(super) fn link<M: FrameMemory>(&mut self, memory: &mut M, page: &mut Page) -> Result<(), Bug> {
        let bin = bin_of(page.room());
        (page.previous, page.next) = (NONE, self.head(bin));
        if page.next != NONE {
            let mut next = Page::load(memory, page.next)?;
            next.previous = page.frame;
            next.store(memory);
        }
        page.store(memory);
        self.set_head(bin, page.frame);
        Ok(())
    }

    /// Takes a frame off the list of so much room.
    pub(super) fn unlink<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        page: &mut Page,
        room: u32,
    ) -> Result<(), Bug> {
        let bin = bin_of(room);
        if page.previous == NONE && self.head(bin) != page.frame {
            return Err(Bug::BrokenFrame(hfn(page.frame)));
        }
        if page.next != NONE {
            let mut next = Page::load(memory, page.next)?;
            next.previous = page.previous;
            next.store(memory);
        }
        if page.previous == NONE {
            self.set_head(bin, page.next);
        } else {
            let mut previous = Page::load(memory, page.previous)?;
            previous.next = page.next;
            previous.store(memory);
        }
        (page.previous, page.next) = (NONE, NONE);
        Ok(())
    }

    /// Writes a frame's header after its room has changed, and puts it on the right list.
    pub(super) fn settle<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        page: &mut Page,
        before: u32,
    ) -> Result<(), Bug> {
        if bin_of(before) == bin_of(page.room()) {
            page.store(memory);
            return Ok(());
        }
        self.unlink(memory, page, before)?;
        self.link(memory, page)
    }

    /// The frames, those with the most room first. After a frame whose header is none comes no other.
    pub(super) fn emptiest_first<M: FrameMemory>(
        &self,
        memory: &M,
    ) -> impl Iterator<Item = Result<Page, Bug>> {
        let mut bin = BINS;
        let mut next = NONE;
        core::iter::from_fn(move || {
            while next == NONE {
                bin = bin.checked_sub(1)?;
                next = self.head(bin);
            }
            let page = Page::load(memory, next);
            match page {
                Ok(page) => next = page.next,
                Err(_) => (bin, next) = (0, NONE),
            }
            Some(page)
        })
    }

    fn set_head(&mut self, bin: usize, frame: u32) {
        if let Some(head) = self.heads.get_mut(bin) {
            *head = frame;
            let bit = 1 << bin;
            self.filled = if frame == NONE {
                self.filled & !bit
            } else {
                self.filled | bit
            };
        }
    }
}
