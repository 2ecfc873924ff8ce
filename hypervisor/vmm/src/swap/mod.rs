//! The swap store and the ledger brought together: whose a frame is while a content goes in or comes out.

mod disk;

use crate::audit::{Audit, weigh};
use crate::frames::FramePool;
use crate::host::Host;
use crate::memory::MemoryError;
use pleat_overcommit::ledger::{FrameState, Key, Owner, Purpose};
use pleat_overcommit::swap::{Bug, Direction, DiskRequest, NotHad, NotKept, Slot, Step, Store};
use pleat_stage2::{PendingFlush, Retired};
use pleat_types::{
    FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, OwnedFrame, Platform, SlotReference, SwapSlot, Tsc,
};

/// The swap store, with the frames that it has.
pub(crate) struct Swap {
    pub(crate) store: Store,
    /// What the disk is to do, and was too busy for.
    waiting: Option<DiskRequest>,
    /// Since when.
    waiting_since: Tsc,
    /// What the disk does, or did last.
    doing: Direction,
    pub(crate) ticks: Ticks,
}

/// What work has taken since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ticks {
    pub(crate) keep: u64,
    /// For the disk's requests, without waiting for it.
    pub(crate) disk_write: u64,
    pub(crate) disk_read: u64,
}

impl Swap {
    /// A store that keeps nothing.
    pub(crate) const EMPTY: Self = Self {
        store: Store::new(),
        waiting: None,
        waiting_since: Tsc(0),
        doing: Direction::Write,
        ticks: Ticks {
            keep: 0,
            disk_write: 0,
            disk_read: 0,
        },
    };

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

    /// Where no frame is free one of the store's own becomes free, if it can do without; pages that leave give it others.
    pub(crate) fn lend(&mut self, frames: &mut FramePool) {
        if frames.counts().free == 0
            && let Some(frame) = self.store.lend()
        {
            frames.release_swap(frame);
        }
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
        let released = self.store.release(memory, reference);
        self.take_freed(frames, released);
    }

    /// Takes a frame that the store has freed, if it has.
    fn take_freed(&mut self, frames: &mut FramePool, freed: Result<Option<Hfn>, Bug>) {
        match freed {
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
    /// Keeps the content of a page that nobody can write to; `page` is the one that alone has it.
    pub(crate) fn keep_content(
        &mut self,
        frame: &FrozenFrame,
        page: Option<Owner>,
    ) -> Result<SlotReference, NotKept> {
        if !self.swap.make_ready(&mut self.frames) {
            return Err(NotKept::NoFrames);
        }
        let key = self.frames.last_key(frame.frame()).unwrap_or(Key(0));
        let begin = self.platform.now();
        let kept = self.swap.store.keep(self.platform.memory(), frame, key, page);
        self.swap.ticks.keep += self.platform.now().since(begin).0;
        kept
    }

    /// What is known of a slot.
    pub(crate) fn slot(&mut self, slot: SwapSlot) -> Result<Slot, MemoryError> {
        let known = self.swap.store.get(self.platform.memory(), slot);
        known.map_err(|_| MemoryError::Bug("a slot that is not there"))
    }

    /// Gives back what a page left that has gone to the swap store: that has the first claim to its frame.
    pub(crate) fn settle_swapped(&mut self, pending: PendingFlush) {
        for retired in pending.settle(|eptp| self.platform.flush(eptp)) {
            match retired {
                Retired::Frame(frame) => self.swap.take_back(&mut self.frames, frame),
                // A page that owned its frame has nothing else.
                _ => self.frames.note_refused(),
            }
        }
    }

    /// The content of a slot.
    pub(crate) fn content(&mut self, slot: SwapSlot) -> Result<&[u8; FRAME_SIZE], MemoryError> {
        let memory = self.platform.memory();
        self.swap
            .store
            .content(memory, slot)
            .map_err(|why| not_had(slot, why))
    }

    /// Fills a frame with the content of a slot.
    pub(crate) fn fill_from_slot(&mut self, slot: SwapSlot, frame: &OwnedFrame) -> Result<(), MemoryError> {
        let memory = self.platform.memory();
        match self.swap.store.content(memory, slot) {
            Ok(content) => {
                memory.write(frame.first().base(), content);
                Ok(())
            }
            Err(why) => Err(not_had(slot, why)),
        }
    }

    /// A page does not name a slot any more.
    pub(crate) fn release_slot(&mut self, reference: SlotReference) {
        let memory = self.platform.memory();
        self.swap.release(memory, &mut self.frames, reference);
    }

    /// The same for a page that came back unchanged: what is on the disk may serve once more.
    pub(crate) fn release_returned(&mut self, reference: SlotReference, page: Owner) {
        let memory = self.platform.memory();
        let released = self.swap.store.release_returned(memory, reference, page);
        self.swap.take_freed(&mut self.frames, released);
    }

    /// Looks whether all of the swap store is accounted for: its frames are on record as its own, and no others are. Says
    /// how many references to slots there are, and a sum over them.
    pub(crate) fn audit_swap(&mut self, audit: &mut Audit) -> (u64, u64) {
        let memory = self.platform.memory();
        let (store, frames) = (&self.swap.store, &self.frames);
        let (mut held, mut disputed) = (0, 0);
        let visited = store.for_each_frame(memory, |frame| {
            held += 1;
            disputed += u64::from(frames.state(frame) != FrameState::Swap);
        });
        if visited.is_err() || disputed > 0 || held != frames.counts().swap {
            audit.find(format_args!(
                "swap: {held} frames, {} on record, {disputed} of them as something else",
                frames.counts().swap
            ));
        }
        if let Err(corruption) = store.audit(memory) {
            audit.find(format_args!("swap: {corruption}"));
        }
        let mut weight = 0_u64;
        let visited = store.for_each_slot(memory, |number, slot| {
            let references = u64::from(slot.references);
            weight = weight.wrapping_add(weigh(u64::from(number)).wrapping_mul(references));
        });
        if visited.is_err() {
            audit.find(format_args!("swap: a slot that nothing has written"));
        }
        (store.slots().references, weight)
    }

    /// Makes the pool of packed contents denser. Whether there may be more to do.
    pub(crate) fn compact_pool(&mut self) -> bool {
        let step = self.swap.store.compact(self.platform.memory());
        self.take_step(step)
    }

    /// Whether there may be more to do after a step.
    fn take_step(&mut self, step: Result<Step, Bug>) -> bool {
        let is_more = matches!(step, Ok(Step::Freed(_) | Step::Moved));
        let freed = step.map(|step| match step {
            Step::Freed(frame) => Some(frame),
            Step::Moved | Step::Nothing => None,
        });
        self.swap.take_freed(&mut self.frames, freed);
        is_more
    }
}

/// What it is to a page that the content of its slot cannot be had.
pub(crate) const fn not_had(slot: SwapSlot, why: NotHad) -> MemoryError {
    match why {
        NotHad::Damaged | NotHad::Lost => MemoryError::Lost(slot),
        NotHad::OnDisk(_) => MemoryError::Away,
        NotHad::Bug(_) => MemoryError::Bug("the swap store"),
    }
}
