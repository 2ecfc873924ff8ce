//! The host's frames, as guests use them.

mod audit;
mod sharing;
mod swap;
mod tables;

pub(crate) use tables::{FixedTables, Tables};

use core::mem;

use pleat_overcommit::ledger::{Counts, FrameRecord, FrameState, Ledger, Owner, Purpose, Region, Row};
use pleat_overcommit::merge::Index;
use pleat_types::{Gfn, GuestId, Hfn, OwnedFrame, PageSize};

/// A contiguous range of host frames and what it is at boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootRegion {
    /// Its first frame.
    pub first: Hfn,
    /// How many frames.
    pub frames: u64,
    /// What it is.
    pub class: Region,
}

/// Of all frames so many go to the reserve for breaking shares, at the most.
const RESERVE_PART: u64 = 256;

/// What memory was wanted for, and how much there was for that, which was not enough. What counts is how much there
/// is, not that some was given back: a fault that fails gives back what it had taken, and two guests would wake each
/// other for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shortage {
    purpose: Purpose,
    too_few: u64,
}

/// The ledger, and what happened to it.
#[derive(Debug)]
pub(crate) struct FramePool {
    ledger: Ledger<'static>,
    zero: Hfn,
    /// Where frames are found by their content.
    index: Index,
    /// Frames that are kept for breaking shares.
    relief: u64,
    /// Frames that guests below their reservations are still to get: nobody else gets them.
    pledged: u64,
    /// Operations that the ledger refused: bugs, which the audit reports.
    refused: u64,
}

impl FramePool {
    /// The pool over these regions: usable ones first, then what is cut out of them. `None` when they
    /// contradict each other or there is not one free frame.
    pub(crate) fn new(
        records: &'static mut [FrameRecord],
        regions: &[BootRegion],
        bundle: BootRegion,
    ) -> Option<Self> {
        let mut ledger = Ledger::new(records).ok()?;
        let usable = |region: &&BootRegion| region.class == Region::Usable;
        let cut_out = |region: &&BootRegion| matches!(region.class, Region::Image | Region::Metadata);
        let cut_out = regions.iter().filter(cut_out).chain([&bundle]);
        for region in regions.iter().filter(usable).chain(cut_out) {
            ledger
                .add_region(region.first, region.frames, region.class)
                .ok()?;
        }
        let zero = ledger.allocate_zero().ok()?;
        let index = Index::new(u64::from(ledger.frames()))?;
        Some(Self {
            ledger,
            zero,
            index,
            relief: 0,
            pledged: 0,
            refused: 0,
        })
    }

    /// The frame that all zero pages share.
    pub(crate) const fn zero(&self) -> Hfn {
        self.zero
    }

    /// Frames by class.
    pub(crate) const fn counts(&self) -> &Counts {
        self.ledger.counts()
    }

    /// Frames that a guest can be given.
    pub(crate) const fn available(&self) -> u64 {
        self.ledger.available()
    }

    /// Frames that there are for this.
    const fn open_to(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Demand => self.ledger.available(),
            Purpose::Relief => self.ledger.counts().free,
        }
    }

    /// How little there is now for this.
    pub(crate) const fn shortage(&self, purpose: Purpose) -> Shortage {
        Shortage {
            purpose,
            too_few: self.open_to(purpose),
        }
    }

    /// Whether who found too little then may find enough now.
    pub(crate) const fn is_better_than(&self, then: Shortage) -> bool {
        self.open_to(then.purpose) > then.too_few
    }

    /// Keeps as many frames as there are merged pages that can be written, those that map the zero frame among them,
    /// up to a limit; and those that guests are still to get of their reservations.
    pub(crate) fn adjust_reserve(&mut self, zero_pages: u64, pledged: u64) {
        let counts = self.ledger.counts();
        let saved = self.ledger.shares().saturating_sub(counts.shared) + zero_pages;
        self.relief = saved.min(counts.total / RESERVE_PART);
        self.pledged = pledged;
        self.ledger.set_reserve(self.relief + pledged);
    }

    /// A frame for a page; its content is old.
    pub(crate) fn allocate_page(&mut self, guest: GuestId, gfn: Gfn) -> Option<OwnedFrame> {
        self.ledger.allocate(Owner { guest, gfn }, Purpose::Demand).ok()
    }

    /// The same for a guest that has less than its reservation: of what is kept for such guests.
    #[cold]
    pub(crate) fn allocate_pledged(&mut self, guest: GuestId, gfn: Gfn) -> Option<OwnedFrame> {
        if self.pledged == 0 || self.ledger.counts().free <= self.relief {
            return None;
        }
        let frame = self.allocate_relief(guest, gfn)?;
        self.pledged -= 1;
        self.ledger.set_reserve(self.relief + self.pledged);
        Some(frame)
    }

    /// A frame for the copy that ends a share; its content is old. May be one of the reserve.
    #[inline(always)]
    pub(crate) fn allocate_relief(&mut self, guest: GuestId, gfn: Gfn) -> Option<OwnedFrame> {
        self.ledger.allocate(Owner { guest, gfn }, Purpose::Relief).ok()
    }

    /// 2 MiB for the pages from `first` on; their content is old.
    pub(crate) fn allocate_large(&mut self, guest: GuestId, first: Gfn) -> Option<OwnedFrame> {
        self.ledger
            .allocate_large(Owner { guest, gfn: first }, Purpose::Demand)
            .ok()
    }

    /// 1 GiB for the pages from `first` on; its content is old.
    pub(crate) fn allocate_huge(&mut self, guest: GuestId, first: Gfn) -> Option<OwnedFrame> {
        self.ledger
            .allocate_huge(Owner { guest, gfn: first }, Purpose::Demand)
            .ok()
    }

    /// A frame for the state of a virtual processor.
    pub(crate) fn allocate_vcpu(&mut self, guest: GuestId) -> Option<Hfn> {
        self.ledger.allocate_vcpu(guest).ok()
    }

    /// Takes back what a page owned; no translation to it is left.
    pub(crate) fn release(&mut self, frame: OwnedFrame) {
        self.unindex(frame.first());
        let done = self.ledger.release(frame).is_ok();
        self.note(done);
    }

    /// Takes back what pages owned that lie side by side.
    pub(crate) fn release_row(&mut self, row: Row) {
        let done = self.ledger.release_row(row).is_ok();
        self.note(done);
    }

    /// Adds a frame that a page owned to those that go back together; these go when it does not lie beside them.
    #[inline]
    pub(crate) fn release_with(&mut self, row: &mut Row, frame: OwnedFrame) {
        self.unindex(frame.first());
        if let Err(frame) = row.push(frame) {
            self.release_row(mem::replace(row, Row::EMPTY));
            if let Err(block) = row.push(frame) {
                let done = self.ledger.release(block).is_ok();
                self.note(done);
            }
        }
    }

    /// Takes back a table.
    pub(crate) fn release_table(&mut self, table: Hfn) {
        let done = self.ledger.release_table(table).is_ok();
        self.note(done);
    }

    /// Takes back the state of a virtual processor.
    pub(crate) fn release_vcpu(&mut self, frame: Hfn) {
        let done = self.ledger.release_vcpu(frame).is_ok();
        self.note(done);
    }

    /// What a frame is.
    pub(crate) fn state(&self, frame: Hfn) -> FrameState {
        self.ledger.state(frame)
    }

    /// Whether this frame still belongs to the boot bundle.
    pub(crate) fn is_bundle(&self, frame: Hfn) -> bool {
        self.ledger.state(frame) == FrameState::Bundle
    }

    /// Gives a frame of the boot bundle back, if it still belongs to it.
    pub(crate) fn release_bundle(&mut self, frame: Hfn) {
        if self.is_bundle(frame) {
            let done = self.ledger.release_bundle(frame).is_ok();
            self.note(done);
        }
    }

    /// Makes a frame of the boot bundle the page's own, with its content.
    pub(crate) fn give_bundle(&mut self, frame: Hfn, guest: GuestId, gfn: Gfn) -> Option<OwnedFrame> {
        self.ledger
            .give_bundle(frame, PageSize::Small, Owner { guest, gfn })
            .ok()
    }

    fn note(&mut self, is_done: bool) {
        self.refused += u64::from(!is_done);
    }
}
