//! Giving a page what it needs.

use super::kinds::{FaultKind, fresh_kind};
use super::{GuestMemory, MemoryError};
use crate::frames::Tables;
use crate::host::Host;
use pleat_bundle::config::Pages;
use pleat_stage2::{Absent, Error, PendingFlush, Refused, Spot, Stage2};
use pleat_types::{FrameMemory, Gfn, Hfn, LARGE_FRAMES, OwnedFrame, PageSize, Platform};

impl<P: Platform> Host<P> {
    pub(super) fn map_zero(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        self.with_tables(memory, |stage2, tables| stage2.map_zero(tables, gfn))??;
        memory.count(FaultKind::Zero);
        Ok(())
    }

    pub(super) fn deflate(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        let change = |stage2: &mut Stage2, tables: &mut Tables<'_, P::Memory>| {
            stage2.reclassify(tables, gfn, Absent::Ballooned, Absent::Untouched)
        };
        self.with_tables(memory, change)??;
        memory.count(FaultKind::Deflated);
        Ok(())
    }

    /// A frame of zeros for a page, or 2 MiB of them.
    pub(super) fn map_fresh(
        &mut self,
        memory: &mut GuestMemory,
        gfn: Gfn,
        spot: Spot,
        largest: PageSize,
    ) -> Result<(), MemoryError> {
        let is_large_wanted = memory.pages != Pages::Small && largest != PageSize::Small;
        if is_large_wanted && self.map_fresh_large(memory, gfn.large_base())? {
            return Ok(());
        }
        let kind = fresh_kind(spot.mapping());
        let frame = match kind {
            // It may have given a frame back for that.
            FaultKind::ZeroBroken => self.frames.allocate_relief(memory.guest, gfn),
            _ => self.frame_for(memory, gfn).ok(),
        };
        let frame = frame.ok_or(MemoryError::HostShort)?;
        self.platform.memory().zero_frame(frame.first());
        let mapped = self.with_tables(memory, |stage2, tables| stage2.map_unique_at(tables, spot, frame))?;
        self.settle_mapped(mapped)?;
        memory.count(kind);
        Ok(())
    }

    /// A frame for a page that has none; its content is old.
    pub(crate) fn frame_for(&mut self, memory: &GuestMemory, gfn: Gfn) -> Result<OwnedFrame, MemoryError> {
        let frame = match self.frames.allocate_page(memory.guest, gfn) {
            None if memory.is_below_reservation() => self.frames.allocate_pledged(memory.guest, gfn),
            frame => frame,
        };
        frame.ok_or(MemoryError::HostShort)
    }

    /// Whether 2 MiB of zeros could be mapped. They are an extra: when they leave no frame for the tables
    /// they go back, and there is room for a small page.
    fn map_fresh_large(&mut self, memory: &mut GuestMemory, first: Gfn) -> Result<bool, MemoryError> {
        let Some(block) = self.frames.allocate_large(memory.guest, first) else {
            return Ok(false);
        };
        for offset in 0..LARGE_FRAMES {
            self.platform
                .memory()
                .zero_frame(Hfn::new(block.first().get() + offset));
        }
        match self.with_tables(memory, |stage2, tables| stage2.map_large(tables, first, block))? {
            Ok(()) => {
                memory.count(FaultKind::Large);
                Ok(true)
            }
            Err(refused) => {
                self.frames.release(refused.frame);
                match refused.error {
                    Error::HostShort => Ok(false),
                    error @ Error::Bug(_) => Err(error.into()),
                }
            }
        }
    }

    /// Maps a frame that was filled for the guest. It goes back to the pool if that fails.
    pub(crate) fn map_page(
        &mut self,
        memory: &mut GuestMemory,
        gfn: Gfn,
        frame: OwnedFrame,
    ) -> Result<(), MemoryError> {
        let mapped = self.with_tables(memory, |stage2, tables| stage2.map_unique(tables, gfn, frame))?;
        self.settle_mapped(mapped)?;
        self.note_written(memory, gfn)
    }

    /// The end of mapping a frame: the flush, or the frame's way back.
    fn settle_mapped(&mut self, mapped: Result<PendingFlush, Refused>) -> Result<(), MemoryError> {
        match mapped {
            Ok(pending) => {
                self.settle(pending);
                Ok(())
            }
            Err(refused) => {
                self.frames.release(refused.frame);
                Err(refused.error.into())
            }
        }
    }

    /// Pleat itself has written to a page that the guest owns: no processor sets the dirty flag for that.
    pub(super) fn note_written(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        self.with_fixed_tables(memory, |stage2, tables| stage2.mark_written(tables, gfn))??;
        memory.look.due.add(gfn);
        Ok(())
    }
}
