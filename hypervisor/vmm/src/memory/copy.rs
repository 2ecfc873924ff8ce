//! Bytes in and out of a guest's memory, page by page.

use super::{Fault, GuestMemory, MemoryError};
use crate::host::Host;
use pleat_stage2::Page;
use pleat_types::{Access, FRAME_SIZE, FrameMemory, Gpa, Hfn, Platform};

impl<P: Platform> Host<P> {
    /// Copies bytes of the guest out; what it never touched reads as zeros and stays untouched.
    pub(crate) fn copy_out(
        &mut self,
        memory: &mut GuestMemory,
        start: Gpa,
        out: &mut [u8],
    ) -> Result<(), MemoryError> {
        let mut at = start;
        let mut rest = out;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at_mut(rest.len().min(FRAME_SIZE - at.frame_offset()));
            match self.lookup(memory, at.gfn())?.page {
                Page::Unique(frame) | Page::Frozen(frame) | Page::Shared(frame) => {
                    let from = frame.base().checked_add(at.frame_offset() as u64);
                    self.platform
                        .memory()
                        .read(from.ok_or(MemoryError::Hole(at))?, piece);
                }
                Page::Swapped(slot) => {
                    let content = self.content(slot).inspect_err(|error| memory.want(at, *error))?;
                    piece.copy_from_slice(&content[at.frame_offset()..][..piece.len()]);
                }
                Page::Untouched | Page::Zero | Page::Ballooned => piece.fill(0),
                Page::Hole | Page::Device => return Err(MemoryError::Hole(at)),
            }
            at = at.checked_add(piece.len() as u64).ok_or(MemoryError::Hole(at))?;
            rest = behind;
        }
        Ok(())
    }

    /// Copies bytes into the guest, backing what it never touched.
    pub(crate) fn copy_in(
        &mut self,
        memory: &mut GuestMemory,
        start: Gpa,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let mut at = start;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(FRAME_SIZE - at.frame_offset()));
            let frame = self.writable_frame(memory, at)?;
            let to = frame
                .base()
                .checked_add(at.frame_offset() as u64)
                .ok_or(MemoryError::Hole(at))?;
            self.platform.memory().write(to, piece);
            self.note_written(memory, at.gfn())?;
            at = at.checked_add(piece.len() as u64).ok_or(MemoryError::Hole(at))?;
            rest = behind;
        }
        Ok(())
    }

    /// The frame of a page that can be written, after what it takes.
    pub(super) fn writable_frame(&mut self, memory: &mut GuestMemory, at: Gpa) -> Result<Hfn, MemoryError> {
        if let Page::Unique(frame) = self.lookup(memory, at.gfn())?.page {
            return Ok(frame);
        }
        // A GiB that is being zeroed comes first; a device's write begins none.
        let fault = if memory.unfinished.is_some() {
            self.guest_fault(memory, at, Access::Write)
        } else {
            self.fault(memory, at, Access::Write)
        };
        match fault {
            Fault::Backed => {}
            Fault::Unfinished => return Err(MemoryError::Unfinished),
            Fault::HostShort(_) => return Err(MemoryError::HostShort),
            Fault::Away => return Err(MemoryError::Away),
            Fault::Lost(slot) => return Err(MemoryError::Lost(slot)),
            Fault::Hole | Fault::Device => return Err(MemoryError::Hole(at)),
            Fault::Bug(place) => return Err(MemoryError::Bug(place)),
        }
        match self.lookup(memory, at.gfn())?.page {
            Page::Unique(frame) => Ok(frame),
            _ => Err(MemoryError::Bug("a written page without a frame")),
        }
    }
}
