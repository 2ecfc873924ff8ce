//! The host's frames, as guests use them.

use crate::audit::{Depth, Holdings, weigh};
use pleat_overcommit::ledger::{
    Bug, Company, Corruption, Counts, Error, FrameRecord, FrameState, Key, Ledger, Owner, Purpose, Region,
    Several,
};
use pleat_overcommit::merge::{Index, Inserted, Mismatch};
use pleat_stage2::{Held, TableMemory};
use pleat_types::{FrameMemory, Gfn, GuestId, Hfn, OwnedFrame, PageSize, Share};

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
    /// up to a limit.
    pub(crate) fn adjust_reserve(&mut self, zero_pages: u64) {
        let counts = self.ledger.counts();
        let saved = self.ledger.shares().saturating_sub(counts.shared) + zero_pages;
        self.ledger.set_reserve(saved.min(counts.total / RESERVE_PART));
    }

    /// A frame for a page; its content is old.
    pub(crate) fn allocate_page(&mut self, guest: GuestId, gfn: Gfn) -> Option<OwnedFrame> {
        self.ledger.allocate(Owner { guest, gfn }, Purpose::Demand).ok()
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

    /// The frame that a page owned is one that equal pages have in common.
    pub(crate) fn share(&mut self, frame: OwnedFrame) {
        let done = self.ledger.share(frame).is_ok();
        self.note(done);
    }

    /// One more page maps this frame.
    pub(crate) fn add_share(&mut self, frame: Hfn) -> Result<Share, Error> {
        self.ledger.add_share(frame)
    }

    /// One page less maps it; with the last one it goes back to the pool.
    pub(crate) fn release_share<M: FrameMemory>(&mut self, memory: &mut M, share: Share) {
        if self.ledger.sharers(share.frame()) == 1 {
            self.unindex(share.frame());
        }
        let done = self.ledger.release_share(memory, share).is_ok();
        self.note(done);
    }

    /// Who shares a frame.
    #[inline]
    pub(crate) fn company(&self, frame: Hfn) -> Company {
        self.ledger.company(frame)
    }

    /// One page less maps it, of several.
    #[inline]
    pub(crate) fn part(&mut self, several: Several, share: Share) {
        self.ledger.part(several, share);
    }

    /// The only page that still maps it owns it from now on.
    pub(crate) fn own_share<M: FrameMemory>(&mut self, memory: &mut M, share: Share, owner: Owner) {
        let done = self.ledger.own_share(memory, share, owner).is_ok();
        self.note(done);
    }

    /// How many pages map a shared frame.
    pub(crate) fn sharers(&self, frame: Hfn) -> u32 {
        self.ledger.sharers(frame)
    }

    /// Mappings of shared frames.
    pub(crate) const fn shares(&self) -> u64 {
        self.ledger.shares()
    }

    /// The page that was first noted to share a frame.
    pub(crate) fn any_sharer<M: FrameMemory>(&self, memory: &M, frame: Hfn) -> Option<Owner> {
        self.ledger.any_sharer(memory, frame)
    }

    /// Writes down that these pages share a frame. `freed` is used if that takes memory, and goes back otherwise.
    pub(crate) fn note_sharers<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        frame: Hfn,
        pages: &[Owner],
        freed: OwnedFrame,
        is_live: impl FnMut(&mut M, Owner) -> bool,
    ) -> Result<(), Bug> {
        self.unindex(freed.first());
        if let Some(freed) = self.ledger.note_sharers(memory, frame, pages, freed, is_live)? {
            self.release(freed);
        }
        Ok(())
    }

    /// Frames that had this key when they were looked at last.
    pub(crate) fn with_key(&self, key: Key) -> impl Iterator<Item = Hfn> {
        self.index.find(&self.ledger, key)
    }

    /// Lets a frame be found by its key.
    pub(crate) fn index(&mut self, frame: Hfn, key: Key) -> Inserted {
        self.index.insert(&mut self.ledger, frame, key)
    }

    /// It is not found any more.
    pub(crate) fn unindex(&mut self, frame: Hfn) {
        self.index.remove(&mut self.ledger, frame);
    }

    /// Its key, if it can be found by one.
    pub(crate) fn key(&self, frame: Hfn) -> Option<Key> {
        self.ledger.key(frame)
    }

    /// Its key when it was looked at last.
    pub(crate) fn last_key(&self, frame: Hfn) -> Option<Key> {
        self.ledger.last_key(frame)
    }

    /// The mapping of a block was split.
    pub(crate) fn split(&mut self, first: Hfn, size: PageSize) {
        let done = self.ledger.split(first, size).is_ok();
        self.note(done);
    }

    /// The mappings of a block's parts were put together. Its parts are not found any more.
    pub(crate) fn join(&mut self, first: Hfn, size: PageSize) {
        (first.get()..first.get() + size.frames()).for_each(|frame| self.unindex(Hfn::new(frame)));
        let done = self.ledger.join(first, size).is_ok();
        self.note(done);
    }

    /// Frames in the index.
    pub(crate) fn indexed(&self) -> u64 {
        self.index.len() as u64
    }

    /// How often a page's content has been found changed.
    pub(crate) fn changes(&self, frame: Hfn) -> u8 {
        self.ledger.changes(frame)
    }

    /// Notes how often a page's content has been found changed.
    pub(crate) fn set_changes(&mut self, frame: Hfn, changes: u8) {
        let done = self.ledger.set_changes(frame, changes).is_ok();
        self.note(done);
    }

    /// Bytes of what exists for merging only: the index and the lists of sharers.
    pub(crate) fn merge_metadata_bytes(&self) -> u64 {
        let lists = self.ledger.counts().lists * pleat_types::FRAME_SIZE as u64;
        self.index.bytes() as u64 + lists
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

    /// What the index says about itself.
    pub(crate) fn audit_index(&self) -> Result<(), Mismatch> {
        self.index.audit(&self.ledger)
    }

    /// What the records say about shared frames.
    pub(crate) fn shared_on_record(&self) -> Holdings {
        let mut held = Holdings::default();
        self.ledger.for_each_shared(|frame, sharers| {
            held.shares += u64::from(sharers);
            let weight = weigh(frame).wrapping_mul(u64::from(sharers));
            held.weight = held.weight.wrapping_add(weight);
        });
        held
    }

    /// What the ledger says about itself.
    pub(crate) fn audit<M: FrameMemory>(&self, memory: &M, depth: Depth) -> Result<(), Corruption> {
        self.ledger.audit()?;
        match depth {
            Depth::Records => Ok(()),
            Depth::Lists => self.ledger.audit_lists(memory),
        }
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
    pub(crate) fn is_on_record<M: FrameMemory>(
        &self,
        memory: &M,
        guest: GuestId,
        held: Held,
        depth: Depth,
    ) -> bool {
        match held {
            Held::Share { frame, .. } if depth == Depth::Records => self.ledger.sharers(frame) > 0,
            Held::Share { gfn, frame } => self.is_sharer(memory, frame, Owner { guest, gfn }),
            Held::Table(table) => self.ledger.state(table) == FrameState::Table(guest),
            Held::Page { gfn, frame, size } => {
                self.ledger.state(frame) == FrameState::Guest(Owner { guest, gfn }, size)
            }
        }
    }

    /// Whether the list of a frame's sharers has this page. Of long lists this is not asked: an audit that walks
    /// the list for each of its pages would take for ever.
    fn is_sharer<M: FrameMemory>(&self, memory: &M, frame: Hfn, page: Owner) -> bool {
        const LONG: u32 = 64;
        let FrameState::Shared { sharers } = self.ledger.state(frame) else {
            return false;
        };
        let mut is_noted = sharers > LONG;
        if !is_noted {
            let walk = self
                .ledger
                .for_each_sharer(memory, frame, |other| is_noted |= other == page);
            return is_noted && walk.is_ok();
        }
        true
    }

    fn note(&mut self, is_done: bool) {
        self.refused += u64::from(!is_done);
    }
}

/// A guest's tables where none can be added: to look something up, or to change an entry that is there.
pub(crate) struct FixedTables<'a, M: FrameMemory>(pub(crate) &'a mut M);

impl<M: FrameMemory> TableMemory for FixedTables<'_, M> {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.0.load_entry(table, index)
    }

    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.0.store_entry(table, index, value);
    }

    fn allocate_table(&mut self) -> Option<Hfn> {
        None
    }

    /// None was allocated.
    fn free_table(&mut self, _: Hfn) {}
}

/// Where a guest's tables lie: frames of the pool.
pub(crate) struct Tables<'a, M: FrameMemory> {
    pub(crate) memory: &'a mut M,
    pub(crate) frames: &'a mut FramePool,
    pub(crate) guest: GuestId,
    /// What new tables are for.
    pub(crate) purpose: Purpose,
}

impl<M: FrameMemory> TableMemory for Tables<'_, M> {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.memory.load_entry(table, index)
    }

    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.memory.store_entry(table, index, value);
    }

    fn allocate_table(&mut self) -> Option<Hfn> {
        self.frames.ledger.allocate_table(self.guest, self.purpose).ok()
    }

    fn free_table(&mut self, table: Hfn) {
        self.frames.release_table(table);
    }
}
