//! A guest's disk: a base image that nobody writes, and pages of the guest's own over it.
//!
//! The base image is a section of the boot bundle; guests can have the same one. A page of the disk that the guest has
//! written lies in a frame of the guest's own, mapped at a guest-physical address far above its memory
//! ([`crate::space`]): the extended page tables are the sparse index of what was written. A page that was not is
//! `Device` there. What a guest has written ends with the guest.

use crate::host::Host;
use crate::images::OpenImage;
use crate::memory::{GuestMemory, MemoryError};
use crate::space::Pages;
use pleat_stage2::Page;
use pleat_types::{FRAME_SIZE, FrameMemory, Gfn, Gpa, Hfn, Hpa, Platform};

const PAGE: u64 = FRAME_SIZE as u64;

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk {
    base: Hpa,
    /// Size of the base image; the disk may be larger, and reads zeros there.
    base_bytes: u64,
    pages: Pages,
    /// Pages that the guest has written.
    overlaid: u64,
}

impl Disk {
    pub(crate) const fn new(image: OpenImage, pages: Pages) -> Self {
        Self {
            base: image.start,
            base_bytes: image.bytes,
            pages,
            overlaid: 0,
        }
    }

    /// Pages that the guest has written: what the disk costs beside its base image.
    pub(crate) const fn overlaid(&self) -> u64 {
        self.overlaid
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
        memory: &GuestMemory,
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

    /// Writes to a disk; the range may cross pages. What was written before memory ran short stays.
    pub(super) fn write_disk(
        &mut self,
        memory: &mut GuestMemory,
        disk: &mut Disk,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(bytes_left_in_page(at)));
            let place = disk.place(at)?;
            if self.lookup(memory, place.gfn())?.page == Page::Device {
                self.overlay(memory, disk, place.gfn(), at - at % PAGE)?;
            }
            self.copy_in(memory, place, piece)?;
            at += piece.len() as u64;
            rest = behind;
        }
        Ok(())
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

/// Bytes from there to the end of its page.
#[allow(clippy::cast_possible_truncation)] // below the size of a page
const fn bytes_left_in_page(at: u64) -> usize {
    FRAME_SIZE - (at % PAGE) as usize
}
