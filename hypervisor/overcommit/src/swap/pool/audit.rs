//! The audit of the pool, and walks over it for the host's.

use core::ops::Range;

use pleat_types::{FRAME_SIZE, FrameMemory, Hfn};

use super::bins::{BINS, bin_of};
use super::page::{HEADER, NONE, Page, hfn};
use super::{Place, Pool, PoolCounts};
use crate::swap::error::{Bug, Corruption};

/// A bit for each byte of a frame.
type Covered = [u64; FRAME_SIZE / 64];

impl Pool {
    /// Visits all frames of the pool.
    pub fn for_each_frame<M: FrameMemory>(&self, memory: &M, mut visit: impl FnMut(Hfn)) -> Result<(), Bug> {
        for page in self.pages(memory) {
            visit(hfn(page?.frame));
        }
        Ok(())
    }

    /// Visits all objects: the slot of each, where it is, and how many bytes it has.
    pub fn for_each_object<M: FrameMemory>(
        &self,
        memory: &M,
        mut visit: impl FnMut(u32, Place, usize),
    ) -> Result<(), Bug> {
        for page in self.pages(memory) {
            let page = page?;
            for (index, entry) in page.objects(memory) {
                visit(entry.slot, Place::new(page.frame, index), entry.length as usize);
            }
        }
        Ok(())
    }

    /// Checks every list, header, directory and count.
    pub fn audit<M: FrameMemory>(&self, memory: &M) -> Result<(), Corruption> {
        let mut counts = PoolCounts::default();
        for bin in 0..BINS {
            self.audit_bin(memory, bin, &mut counts)?;
        }
        if counts == self.counts {
            Ok(())
        } else {
            Err(Corruption::Miscounted)
        }
    }

    /// The frames; no more than there are, or the lists have a circle.
    fn pages<M: FrameMemory>(&self, memory: &M) -> impl Iterator<Item = Result<Page, Bug>> {
        let most = usize::try_from(self.counts.frames).unwrap_or(usize::MAX);
        self.bins.emptiest_first(memory).take(most)
    }

    fn audit_bin<M: FrameMemory>(
        &self,
        memory: &M,
        bin: usize,
        counts: &mut PoolCounts,
    ) -> Result<(), Corruption> {
        let broken = Corruption::BrokenBin(u8::try_from(bin).unwrap_or(u8::MAX));
        let (mut frame, mut before) = (self.bins.head(bin), NONE);
        while frame != NONE {
            let page = Page::load(memory, frame).map_err(|_| broken)?;
            let belongs = page.previous == before && bin_of(page.room()) == bin;
            // Of a circle there would be more frames than there are.
            if !belongs || counts.frames == self.counts.frames {
                return Err(broken);
            }
            audit_page(memory, &page).ok_or(Corruption::BrokenFrame(hfn(frame)))?;
            counts.frames += 1;
            counts.objects += u64::from(page.objects);
            counts.bytes += u64::from(page.bytes);
            (before, frame) = (frame, page.next);
        }
        Ok(())
    }
}

/// Whether the directory is what the header says, and no two objects overlap.
fn audit_page<M: FrameMemory>(memory: &M, page: &Page) -> Option<()> {
    let mut covered = [0; FRAME_SIZE / 64];
    let (mut objects, mut bytes, mut entries) = (0, 0, 0);
    for (index, entry) in page.objects(memory) {
        if entry.offset < HEADER || entry.end() > page.top {
            return None;
        }
        cover(&mut covered, entry.offset as usize..entry.end() as usize)?;
        (objects, bytes, entries) = (objects + 1, bytes + entry.length, index + 1);
    }
    let found = (objects, bytes, entries);
    (objects > 0 && found == (page.objects, page.bytes, page.entries)).then_some(())
}

/// Marks bytes, none of which was marked.
fn cover(covered: &mut Covered, bytes: Range<usize>) -> Option<()> {
    let mut from = bytes.start;
    while from < bytes.end {
        let word = covered.get_mut(from / 64)?;
        let count = (64 - from % 64).min(bytes.end - from);
        let mask = (u64::MAX >> (64 - count)) << (from % 64);
        if *word & mask != 0 {
            return None;
        }
        *word |= mask;
        from += count;
    }
    Some(())
}
