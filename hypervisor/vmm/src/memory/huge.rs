//! Backing 1 GiB at once, for guests whose operator asked for it.
//!
//! A GiB of zeros takes far longer than a time slice, so the guest that touches it does the work in its
//! own time: its access faults, the fault zeroes until the slice is over, and the same access faults again
//! when the guest has its next slice. Other guests lose nothing, the guest's interrupts are delivered in
//! between, and nothing is mapped before all of it is zero.

use super::kinds::FaultKind;
use super::{Fault, GuestMemory, MemoryError};
use crate::host::Host;
use pleat_bundle::config::Pages;
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{Error, Mapping, Page};
use pleat_types::{Access, FrameMemory, Gfn, Gpa, Hfn, OwnedFrame, PageSize, Platform};

/// Frames that are zeroed between two looks at the clock: 256 KiB, some tens of microseconds.
const FRAMES_AT_ONCE: u64 = 64;
/// Frames that must be free beside the block: the tables above it.
const SPARE: u64 = 3;

/// A block that is being zeroed. The ledger has it as the guest's; no table has it.
#[derive(Debug)]
pub(super) struct Unfinished {
    first: Gfn,
    block: OwnedFrame,
    /// So many of its frames are zero.
    zeroed: u64,
}

impl Unfinished {
    fn covers(&self, gfn: Gfn) -> bool {
        gfn.get().wrapping_sub(self.first.get()) < self.block.size().frames()
    }

    fn is_done(&self) -> bool {
        self.zeroed >= self.block.size().frames()
    }
}

impl GuestMemory {
    /// Frames that are the guest's but not in its tables yet.
    pub(crate) fn unfinished_frames(&self) -> u64 {
        self.unfinished
            .as_ref()
            .map_or(0, |unfinished| unfinished.block.size().frames())
    }
}

impl<P: Platform> Host<P> {
    /// Lets an access succeed that the guest itself made, or does a part of what it needs.
    #[inline(always)] // one of its callers is the path of every fault
    pub(crate) fn guest_fault(&mut self, memory: &mut GuestMemory, gpa: Gpa, access: Access) -> Fault {
        if access == Access::Write && self.part(memory, gpa.gfn()) {
            return Fault::Backed;
        }
        if memory.pages != Pages::Huge {
            return self.fault(memory, gpa, access);
        }
        let Ok(mapping) = self.lookup(memory, gpa.gfn()) else {
            return Fault::Bug("page lookup");
        };
        if memory.unfinished.is_none() && mapping.has_room_for_huge() {
            self.begin_huge(memory, gpa.gfn());
        }
        // What an interrupt handler touches meanwhile comes first, unless that wants 1 GiB too.
        let is_due = |unfinished: &Unfinished| unfinished.covers(gpa.gfn()) || mapping.has_room_for_huge();
        if !memory.unfinished.as_ref().is_some_and(is_due) {
            return self.fault(memory, gpa, access);
        }
        memory.count(FaultKind::HugeUnfinished);
        match self.continue_huge(memory) {
            Ok(()) => Fault::Unfinished,
            Err(MemoryError::HostShort) => Fault::HostShort(Purpose::Demand),
            Err(MemoryError::Unfinished) => Fault::Unfinished,
            Err(MemoryError::Away) => Fault::Away,
            Err(MemoryError::Lost(slot)) => Fault::Lost(slot),
            Err(MemoryError::Hole(_)) => Fault::Hole,
            Err(MemoryError::Bug(place)) => Fault::Bug(place),
        }
    }

    /// Takes a block for the GiB around this page, if there is one; else the page is backed as others are.
    fn begin_huge(&mut self, memory: &mut GuestMemory, gfn: Gfn) {
        let has_room = self.frames.available() >= PageSize::Huge.frames() + SPARE;
        if !self.platform.has_huge_ept() || !has_room {
            return;
        }
        let first = Gfn::new(gfn.get() - gfn.get() % PageSize::Huge.frames());
        let block = self.frames.allocate_huge(memory.guest, first);
        memory.unfinished = block.map(|block| Unfinished {
            first,
            block,
            zeroed: 0,
        });
    }

    /// Zeroes until the slice is over, at least a little, and maps what is done.
    fn continue_huge(&mut self, memory: &mut GuestMemory) -> Result<(), MemoryError> {
        let Some(unfinished) = &mut memory.unfinished else {
            return Ok(());
        };
        while !unfinished.is_done() {
            let start = unfinished.block.first().get() + unfinished.zeroed;
            for frame in start..start + FRAMES_AT_ONCE {
                self.platform.memory().zero_frame(Hfn::new(frame));
            }
            unfinished.zeroed += FRAMES_AT_ONCE;
            if self.platform.now() >= self.slice_end {
                break;
            }
        }
        match memory.unfinished.take_if(|unfinished| unfinished.is_done()) {
            Some(done) => self.map_huge(memory, done),
            None => Ok(()),
        }
    }

    /// Maps a block of zeros. Where something else was mapped meanwhile (Pleat itself wrote to a page)
    /// the block goes back, and the guest's access faults once more for a smaller page. The same where
    /// others took the last frames meanwhile and there is none for a table.
    fn map_huge(&mut self, memory: &mut GuestMemory, done: Unfinished) -> Result<(), MemoryError> {
        let Unfinished { first, block, .. } = done;
        if !self.lookup(memory, first)?.has_room_for_huge() {
            self.frames.release(block);
            return Ok(());
        }
        match self.with_tables(memory, |stage2, tables| stage2.map_huge(tables, first, block))? {
            Ok(()) => {
                memory.count(FaultKind::Huge);
                Ok(())
            }
            Err(refused) => {
                self.frames.release(refused.frame);
                match refused.error {
                    Error::HostShort => Ok(()),
                    error @ Error::Bug(_) => Err(error.into()),
                }
            }
        }
    }

    /// The guest has ended: the block that was on its way goes back.
    pub(super) fn abandon_huge(&mut self, memory: &mut GuestMemory) {
        if let Some(unfinished) = memory.unfinished.take() {
            self.frames.release(unfinished.block);
        }
    }
}

/// What a mapping says about the GiB around it.
trait Room {
    /// All of the GiB is promised memory that nothing has touched.
    fn has_room_for_huge(&self) -> bool;
}

impl Room for Mapping {
    fn has_room_for_huge(&self) -> bool {
        self.page == Page::Untouched && self.level.frames() >= PageSize::Huge.frames()
    }
}

const _: () = assert!(PageSize::Huge.frames().is_multiple_of(FRAMES_AT_ONCE));
