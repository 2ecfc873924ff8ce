//! A guest's disk: a base image that nobody writes, and pages of the guest's own over it.
//!
//! The base image is a section of the boot bundle; guests can have the same one. A page of the disk that the guest has
//! written lies in a frame of the guest's own, mapped at a guest-physical address far above its memory
//! ([`crate::space`]): the extended page tables are the sparse index of what was written. A page that was not is
//! `Device` there. What a guest has written ends with the guest.
//!
//! A whole page that the guest discards is `Device` again at once, and its frame is free: it reads as the base image,
//! which is the guest's to read anyway, so it can never be what somebody else wrote. One that it zeroes is
//! `Untouched`, which has no frame either and reads as zeros; beyond the image it is `Device`, which does as well.

use crate::host::Host;
use crate::images::OpenImage;
use crate::memory::{GuestMemory, MemoryError};
use crate::space::Pages;
use pleat_stage2::{Absent, Page};
use pleat_types::{FRAME_SIZE, FrameMemory, Gfn, Gpa, Hfn, Hpa, Platform};

const PAGE: u64 = FRAME_SIZE as u64;

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk {
    base: Hpa,
    /// Size of the base image; the disk may be larger, and reads zeros there.
    base_bytes: u64,
    pages: Pages,
    /// Pages of its own that the guest may have.
    most: u64,
    /// Pages that it has: what is not `Device`.
    overlaid: u64,
    /// Pages of these that it had zeroed, without a frame.
    zeroed: u64,
}

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Written {
    All,
    /// It needs more pages than the guest may have of its own; a part may have been written.
    Full,
}

impl Disk {
    /// A disk of which the guest may have `most` pages of its own.
    pub(crate) const fn new(image: OpenImage, pages: Pages, most: u64) -> Self {
        Self {
            base: image.start,
            base_bytes: image.bytes,
            pages,
            most,
            overlaid: 0,
            zeroed: 0,
        }
    }

    /// Pages that are the guest's own: written, or zeroed over the base image.
    pub(crate) const fn overlaid(&self) -> u64 {
        self.overlaid
    }

    /// Pages of these that it had zeroed and has not written since.
    pub(crate) const fn zeroed(&self) -> u64 {
        self.zeroed
    }

    /// Pages that can become its own.
    pub(crate) const fn most(&self) -> u64 {
        self.most
    }

    const fn has_room(&self, pages: u64) -> bool {
        pages <= self.most.saturating_sub(self.overlaid)
    }

    /// So many pages that were `Device` and `Untouched` are now so many.
    fn note_change(&mut self, before: (u64, u64), after: (u64, u64)) {
        self.overlaid = (self.overlaid + before.0).saturating_sub(after.0);
        self.zeroed = (self.zeroed + after.1).saturating_sub(before.1);
    }

    /// Where a byte of the disk is kept once it is written.
    fn place(&self, at: u64) -> Result<Gpa, MemoryError> {
        let start = self.pages.first.base();
        let place = start
            .checked_add(at)
            .filter(|place| place.gfn() < self.pages.end());
        place.ok_or(MemoryError::Bug("a place beyond the disk's end"))
    }
}

impl<P: Platform> Host<P> {
    /// Reads from a disk; the range may cross pages.
    pub(super) fn read_disk(
        &mut self,
        memory: &mut GuestMemory,
        disk: &Disk,
        at: u64,
        out: &mut [u8],
    ) -> Result<(), MemoryError> {
        let (mut at, mut rest) = (at, out);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at_mut(rest.len().min(bytes_left_in_page(at)));
            let place = disk.place(at)?;
            if self.lookup(memory, place.gfn())?.page == Page::Device {
                self.read_base(disk, at, piece);
            } else {
                self.copy_out(memory, place, piece)?;
            }
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    /// Writes to a disk; the range may cross pages. What was written before memory or room ran short stays.
    pub(super) fn write_disk(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        bytes: &[u8],
    ) -> Result<Written, MemoryError> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(bytes_left_in_page(at)));
            let place = disk.place(at)?;
            match self.lookup(memory, place.gfn())?.page {
                Page::Device if !disk.has_room(1) => return Ok(Written::Full),
                Page::Device => self.overlay(memory, disk, place.gfn(), at - at % PAGE)?,
                Page::Untouched => {
                    self.change_disk(memory, disk, |host, memory| host.make_writable(memory, place))?;
                }
                _ => {}
            }
            self.copy_in(memory, place, piece)?;
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(Written::All)
    }

    /// The guest does not want these bytes any more. What is a part of a page stays, and so does a part of something
    /// large that there is no table to cut with: to free memory takes none.
    pub(super) fn discard_disk(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        bytes: u64,
    ) -> Result<(), MemoryError> {
        let (first, end) = (at.next_multiple_of(PAGE), at + bytes);
        self.drop_pages(memory, disk, first, end - end % PAGE)
    }

    /// These bytes are zeros from now on. Parts of pages are written, whole pages get no frame.
    pub(super) fn zero_disk(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        bytes: u64,
    ) -> Result<Written, MemoryError> {
        let end = at + bytes;
        let first = at.next_multiple_of(PAGE).min(end);
        let last = (end - end % PAGE).max(first);
        // Where whole pages begin that read as zeros without being the guest's own.
        let beyond = disk.base_bytes.next_multiple_of(PAGE).clamp(first, last);
        if self.write_zeros(memory, disk, at, first)? == Written::Full
            || self.blank_pages(memory, disk, first, beyond)? == Written::Full
        {
            return Ok(Written::Full);
        }
        self.drop_pages(memory, disk, beyond, last)?;
        self.write_zeros(memory, disk, last, end)
    }

    /// Writes zeros to a part of a page.
    fn write_zeros(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        end: u64,
    ) -> Result<Written, MemoryError> {
        let bytes = usize::try_from(end - at).map_or(FRAME_SIZE, |bytes| bytes.min(FRAME_SIZE));
        self.write_disk(memory, disk, at, &[0; FRAME_SIZE][..bytes])
    }

    /// Whole pages become `Device`, and what the guest had there goes.
    fn drop_pages(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        end: u64,
    ) -> Result<(), MemoryError> {
        let Some(count) = pages_between(at, end) else {
            return Ok(());
        };
        let first = disk.place(at)?.gfn();
        self.change_disk(memory, disk, |host, memory| {
            host.discard_range(memory, first, count, Absent::Device)
        })
    }

    /// Whole pages over the base image become `Untouched`, and what the guest had there goes.
    fn blank_pages(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        end: u64,
    ) -> Result<Written, MemoryError> {
        let Some(count) = pages_between(at, end) else {
            return Ok(Written::All);
        };
        let first = disk.place(at)?.gfn();
        if !disk.has_room(self.pages_of_base(memory, first, count)?) {
            return Ok(Written::Full);
        }
        self.change_disk(memory, disk, |host, memory| {
            host.blank_range(memory, first, count)
        })?;
        Ok(Written::All)
    }

    /// How many of these pages are not the guest's own.
    fn pages_of_base(&mut self, memory: &GuestMemory, first: Gfn, count: u64) -> Result<u64, MemoryError> {
        let (mut at, end, mut found) = (first, Gfn::new(first.get() + count), 0);
        while at < end {
            let mapping = self.lookup(memory, at)?;
            let next = mapping.end().min(end);
            if mapping.page == Page::Device {
                found += next.get() - at.get();
            }
            at = next;
        }
        Ok(found)
    }

    /// Changes the state of pages of a disk, and counts again what they are, also when only a part was done.
    fn change_disk(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        change: impl FnOnce(&mut Self, &mut GuestMemory) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        let count = |memory: &GuestMemory| (memory.counters().device, memory.counters().untouched);
        let before = count(memory);
        let done = change(self, memory);
        disk.note_change(before, count(memory));
        done
    }

    /// Gives the guest a page of its own with what the base image has at `at`.
    fn overlay(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        gfn: Gfn,
        at: u64,
    ) -> Result<(), MemoryError> {
        let frame = self.frames.allocate_page(memory.guest(), gfn);
        let frame = frame.ok_or(MemoryError::HostShort)?;
        self.fill_from_base(disk, at, frame.first());
        if let Err(error) = self.admit_disk_page(memory, gfn) {
            self.frames.release(frame);
            return Err(error);
        }
        self.map_page(memory, gfn, frame)?;
        disk.overlaid += 1;
        Ok(())
    }

    /// A whole page of the base image into a frame.
    fn fill_from_base(&mut self, disk: &Disk, at: u64, frame: Hfn) {
        let whole = disk.base_bytes >= at + PAGE;
        match disk.base.checked_add(at).filter(|_| whole) {
            // The image starts on a page.
            Some(from) => self.platform.memory().copy_frame(from.hfn(), frame),
            None => {
                let mut page = [0; FRAME_SIZE];
                self.read_base(disk, at, &mut page);
                self.platform.memory().write(frame.base(), &page);
            }
        }
    }

    fn read_base(&mut self, disk: &Disk, at: u64, out: &mut [u8]) {
        let there = disk.base_bytes.saturating_sub(at);
        let there = usize::try_from(there).map_or(out.len(), |there| there.min(out.len()));
        let (image, beyond) = out.split_at_mut(there);
        if let Some(from) = disk.base.checked_add(at)
            && !image.is_empty()
        {
            self.platform.memory().read(from, image);
        }
        beyond.fill(0);
    }
}

/// Whole pages in a range of bytes that begins and ends on one.
fn pages_between(at: u64, end: u64) -> Option<u64> {
    end.checked_sub(at)
        .map(|bytes| bytes / PAGE)
        .filter(|pages| *pages > 0)
}

/// Bytes from there to the end of its page.
#[allow(clippy::cast_possible_truncation)] // below the size of a page
const fn bytes_left_in_page(at: u64) -> usize {
    FRAME_SIZE - (at % PAGE) as usize
}
