//! Moving a part of an image into a guest, page by page.

use super::LoadError;
use crate::host::Host;
use crate::images::{Handover, OpenImage};
use crate::memory::{GuestMemory, MemoryError};
use pleat_types::{FRAME_SIZE, FrameMemory, Gpa, Hfn, Platform};

const PAGE: u64 = FRAME_SIZE as u64;
/// 64-bit words in a page.
const WORDS: usize = FRAME_SIZE / 8;
/// Every so many words are looked at first.
const PROBE_DISTANCE: usize = 32;

/// Bytes of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl<P: Platform> Host<P> {
    /// Puts a part of an image at `to`. Pages of zeros stay untouched, whole pages change hands where
    /// that is allowed, the rest is copied.
    pub(super) fn load_part(
        &mut self,
        memory: &mut GuestMemory,
        image: OpenImage,
        part: Part,
        to: Gpa,
    ) -> Result<(), LoadError> {
        let is_aligned = part.offset % PAGE == to.get() % PAGE;
        let mut done = 0;
        while done < part.bytes {
            let at = Gpa::new(to.get() + done);
            let from = image
                .start
                .checked_add(part.offset + done)
                .ok_or(LoadError::Bug("image position"))?;
            let bytes = (PAGE - at.get() % PAGE).min(part.bytes - done);
            if is_aligned && bytes == PAGE {
                self.load_page(memory, image.handover, from.hfn(), at)?;
            } else {
                self.load_bytes(memory, from, at, bytes)?;
            }
            done += bytes;
        }
        Ok(())
    }

    fn load_page(
        &mut self,
        memory: &mut GuestMemory,
        handover: Handover,
        from: Hfn,
        to: Gpa,
    ) -> Result<(), LoadError> {
        if !self.is_untouched(memory, to)? {
            return self.load_bytes(memory, from.base(), to, PAGE);
        }
        if self.is_zero(from) {
            return Ok(());
        }
        let guest = memory.guest();
        let given = match handover {
            Handover::Give if self.frames.is_bundle(from) => self.frames.give_bundle(from, guest, to.gfn()),
            Handover::Give | Handover::Copy => None,
        };
        let frame = match given {
            Some(frame) => frame,
            None => {
                let frame = self
                    .frames
                    .allocate_page(guest, to.gfn())
                    .ok_or(MemoryError::HostShort)?;
                self.platform.memory().copy_frame(from, frame.first());
                frame
            }
        };
        Ok(self.map_page(memory, to.gfn(), frame)?)
    }

    fn load_bytes(
        &mut self,
        memory: &mut GuestMemory,
        from: pleat_types::Hpa,
        to: Gpa,
        bytes: u64,
    ) -> Result<(), LoadError> {
        let mut piece = [0; FRAME_SIZE];
        let piece = &mut piece[..usize::try_from(bytes).unwrap_or(FRAME_SIZE)];
        self.platform.memory().read(from, piece);
        Ok(self.copy_in(memory, to, piece)?)
    }

    /// Most pages that hold something show it in a few words; only where those are zero the page is
    /// copied and looked at as a whole, which is faster by the word.
    fn is_zero(&mut self, frame: Hfn) -> bool {
        let memory = self.platform.memory();
        if !(0..WORDS)
            .step_by(PROBE_DISTANCE)
            .all(|index| memory.load_entry(frame, index) == 0)
        {
            return false;
        }
        let mut page = [0; FRAME_SIZE];
        memory.read_frame(frame, &mut page);
        page.as_chunks::<16>()
            .0
            .iter()
            .fold(0, |all, chunk| all | u128::from_ne_bytes(*chunk))
            == 0
    }
}
