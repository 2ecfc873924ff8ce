//! The host's frames, as guests use them.

use pleat_overcommit::ledger::{Corruption, Counts, FrameRecord, FrameState, Ledger, Owner, Purpose, Region};
use pleat_stage2::{Held, TableMemory};
use pleat_types::{FrameMemory, Gfn, GuestId, Hfn, OwnedFrame, PageSize};

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

/// The ledger, and what happened to it.
#[derive(Debug)]
pub(crate) struct FramePool {
    ledger: Ledger<'static>,
    zero: Hfn,
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
        Some(Self {
            ledger,
            zero,
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

    /// A frame for a page; its content is old.
    pub(crate) fn allocate_page(&mut self, guest: GuestId, gfn: Gfn) -> Option<OwnedFrame> {
        self.ledger.allocate(Owner { guest, gfn }, Purpose::Demand).ok()
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
        let done = self.ledger.release(frame).is_ok();
        self.note(done);
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

    /// What the ledger says about itself.
    pub(crate) fn audit(&self) -> Result<(), Corruption> {
        self.ledger.audit()
    }

    /// Operations that the ledger refused.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Frames of all classes that are charged to a guest.
    pub(crate) fn charged_to(&self, guest: GuestId) -> u64 {
        self.ledger.charged_to(guest)
    }

    /// Whether the ledger has on record what a guest's tables hold.
    pub(crate) fn is_on_record(&self, guest: GuestId, held: Held) -> bool {
        match held {
            // Nothing shares a frame yet.
            Held::Share { .. } => false,
            Held::Table(table) => self.ledger.state(table) == FrameState::Table(guest),
            Held::Page { gfn, frame, size } => {
                self.ledger.state(frame) == FrameState::Guest(Owner { guest, gfn }, size)
            }
        }
    }

    fn note(&mut self, is_done: bool) {
        self.refused += u64::from(!is_done);
    }
}

/// Where a guest's tables lie: frames of the pool.
pub(crate) struct Tables<'a, M: FrameMemory> {
    pub(crate) memory: &'a mut M,
    pub(crate) frames: &'a mut FramePool,
    pub(crate) guest: GuestId,
}

impl<M: FrameMemory> TableMemory for Tables<'_, M> {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.memory.load_entry(table, index)
    }

    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.memory.store_entry(table, index, value);
    }

    fn allocate_table(&mut self) -> Option<Hfn> {
        self.frames
            .ledger
            .allocate_table(self.guest, Purpose::Demand)
            .ok()
    }

    fn free_table(&mut self, table: Hfn) {
        self.frames.release_table(table);
    }
}
