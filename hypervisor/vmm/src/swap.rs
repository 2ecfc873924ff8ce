//! The swap store and the ledger brought together: whose a frame is while a content goes in or comes out.

use crate::frames::FramePool;
use crate::host::Host;
use crate::memory::MemoryError;
use pleat_overcommit::ledger::{Key, Purpose};
use pleat_overcommit::swap::{NotHad, NotKept, Step, Store};
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, OwnedFrame, Platform, SlotReference, SwapSlot};

/// The swap store, with the frames that it has.
pub(crate) struct Swap {
    pub(crate) store: Store,
}

impl Swap {
    /// A store that keeps nothing.
    pub(crate) const EMPTY: Self = Self { store: Store::new() };

    /// Sees to it that the next content can be kept. The frames may come from the reserve: this is how memory is freed.
    pub(crate) fn make_ready(&mut self, frames: &mut FramePool) -> bool {
        while self.store.wants_frame() {
            let Some(frame) = frames.allocate_swap(Purpose::Relief) else {
                break;
            };
            if let Err(frame) = self.store.offer(frame) {
                frames.release_swap(frame);
            }
        }
        self.store.is_ready()
    }

    /// A page has left its frame, and no translation to it is left.
    pub(crate) fn take_back(&mut self, frames: &mut FramePool, frame: OwnedFrame) {
        if !self.store.wants_frame() {
            return frames.release(frame);
        }
        if let Some(frame) = frames.donate_to_swap(frame)
            && let Err(frame) = self.store.offer(frame)
        {
            frames.release_swap(frame);
        }
    }

    /// A page does not name a slot any more. A mistake that this finds is counted as the ledger's are: the audit says
    /// so.
    pub(crate) fn release<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frames: &mut FramePool,
        reference: SlotReference,
    ) {
        match self.store.release(memory, reference) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                if let Err(frame) = self.store.offer(frame) {
                    frames.release_swap(frame);
                }
            }
            Err(_) => frames.note_refused(),
        }
    }
}

impl<P: Platform> Host<P> {
    /// Keeps the content of a page that nobody can write to.
    pub(crate) fn keep_content(&mut self, frame: &FrozenFrame) -> Result<SlotReference, NotKept> {
        if !self.swap.make_ready(&mut self.frames) {
            return Err(NotKept::NoFrames);
        }
        let key = self.frames.last_key(frame.frame()).unwrap_or(Key(0));
        self.swap.store.keep(self.platform.memory(), frame, key)
    }

    /// The content of a slot.
    pub(crate) fn content(&mut self, slot: SwapSlot) -> Result<&[u8; FRAME_SIZE], MemoryError> {
        let memory = self.platform.memory();
        self.swap.store.content(memory, slot).map_err(|error| match error {
            NotHad::Damaged => MemoryError::Damaged(slot),
            NotHad::OnDisk(_) => MemoryError::Away,
            NotHad::Bug(_) => MemoryError::Bug("the swap store"),
        })
    }

    /// Fills a frame with the content of a slot.
    pub(crate) fn fill_from_slot(&mut self, slot: SwapSlot, frame: &OwnedFrame) -> Result<(), MemoryError> {
        let memory = self.platform.memory();
        match self.swap.store.content(memory, slot) {
            Ok(content) => {
                memory.write(frame.first().base(), content);
                Ok(())
            }
            Err(NotHad::Damaged) => Err(MemoryError::Damaged(slot)),
            Err(NotHad::OnDisk(_)) => Err(MemoryError::Away),
            Err(NotHad::Bug(_)) => Err(MemoryError::Bug("the swap store")),
        }
    }

    /// A page does not name a slot any more.
    pub(crate) fn release_slot(&mut self, reference: SlotReference) {
        let memory = self.platform.memory();
        self.swap.release(memory, &mut self.frames, reference);
    }

    /// Makes the pool of packed contents denser. Whether there may be more to do.
    pub(crate) fn compact_pool(&mut self) -> bool {
        match self.swap.store.compact(self.platform.memory()) {
            Ok(Step::Freed(frame)) => {
                if let Err(frame) = self.swap.store.offer(frame) {
                    self.frames.release_swap(frame);
                }
                true
            }
            Ok(Step::Moved) => true,
            Ok(Step::Nothing) => false,
            Err(_) => {
                self.frames.note_refused();
                false
            }
        }
    }
}
