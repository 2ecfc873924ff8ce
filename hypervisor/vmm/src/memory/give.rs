//! Pages that a guest gives away by itself, and pages that it gets beyond what it began with.

use super::kinds::Need as _;
use super::{GuestMemory, MemoryError, Tables};
use crate::host::Host;
use core::mem;
use pleat_bundle::config::Pages;
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{Absent, Error, RangeDiscarded, Stage2};
use pleat_types::{Gfn, Gpa, Platform};

impl<P: Platform> Host<P> {
    /// Takes what backs these pages; each becomes `to`. One flush for all of them. Pages that are no RAM are left alone,
    /// and so is a part of a large page if there is no frame for the table that it would take: the guest keeps it
    /// backed, and nothing is wrong.
    pub(crate) fn discard(
        &mut self,
        memory: &mut GuestMemory,
        pages: &[Gfn],
        to: Absent,
    ) -> Result<(), MemoryError> {
        let discarded =
            self.with_relief_tables(memory, |stage2, tables| stage2.discard(tables, pages, to))??;
        self.settle(discarded.pending);
        Ok(())
    }

    /// The same for a range, of which some may be taken before memory for a table runs out.
    pub(crate) fn discard_range(
        &mut self,
        memory: &mut GuestMemory,
        first: Gfn,
        count: u64,
        to: Absent,
    ) -> Result<(), MemoryError> {
        self.in_pieces(
            memory,
            Purpose::Relief,
            (first, count),
            |stage2, tables, at, left| stage2.discard_range(tables, at, left, to),
        )
    }

    /// Takes what backs a range; all of it becomes Untouched, pages of a device as well. Those can take tables, and free
    /// nothing: so there is none of the reserve for it.
    pub(crate) fn blank_range(
        &mut self,
        memory: &mut GuestMemory,
        first: Gfn,
        count: u64,
    ) -> Result<(), MemoryError> {
        self.in_pieces(
            memory,
            Purpose::Demand,
            (first, count),
            |stage2, tables, at, left| stage2.blank_range(tables, at, left),
        )
    }

    /// Does something to a range, and gives back after each piece what came out.
    fn in_pieces(
        &mut self,
        memory: &mut GuestMemory,
        purpose: Purpose,
        (first, count): (Gfn, u64),
        act: impl Fn(&mut Stage2, &mut Tables<'_, P::Memory>, Gfn, u64) -> Result<RangeDiscarded, Error>,
    ) -> Result<(), MemoryError> {
        let end = first.get().saturating_add(count);
        let mut at = first;
        while at.get() < end {
            let left = end - at.get();
            let piece =
                self.with_tables_for(purpose, memory, |stage2, tables| act(stage2, tables, at, left))??;
            self.settle(piece.pending);
            at = piece.next;
        }
        Ok(())
    }

    /// Pages of the balloon become untouched.
    pub(crate) fn deflate_pages(
        &mut self,
        memory: &mut GuestMemory,
        pages: &[Gfn],
    ) -> Result<(), MemoryError> {
        let deflated = self.with_tables(memory, |stage2, tables| stage2.deflate(tables, pages))??;
        self.settle(deflated.pending);
        Ok(())
    }

    /// Makes RAM of pages that were none.
    pub(crate) fn plug(
        &mut self,
        memory: &mut GuestMemory,
        first: Gfn,
        count: u64,
    ) -> Result<(), MemoryError> {
        Ok(self.with_tables(memory, |stage2, tables| stage2.promise(tables, first, count))??)
    }

    /// A page of a disk is about to be mapped.
    pub(crate) fn admit_disk_page(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        self.with_tables(memory, |stage2, tables| {
            stage2.reclassify(tables, gfn, Absent::Device, Absent::Untouched)
        })??;
        Ok(())
    }

    /// Sees to it that a device can write to a page. That gives the page no more than itself: a device's driver could
    /// have 2 MiB zeroed for each of a few bytes.
    pub(crate) fn make_writable(&mut self, memory: &mut GuestMemory, at: Gpa) -> Result<(), MemoryError> {
        let pages = mem::replace(&mut memory.pages, Pages::Small);
        let made = self.writable_frame(memory, at);
        memory.pages = pages;
        made.map(drop)
    }

    /// What a write to a page needs a frame for.
    pub(crate) fn purpose_of_write(&mut self, memory: &GuestMemory, gfn: Gfn) -> Purpose {
        let mapping = self.lookup(memory, gfn);
        mapping.map_or(Purpose::Demand, |mapping| mapping.purpose_of_write())
    }
}
