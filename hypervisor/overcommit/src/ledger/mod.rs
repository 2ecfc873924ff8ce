//! The ledger of host frames: one record each, and a buddy allocator over them.
//!
//! Every frame is in exactly one class at any time, and the classes add up to all memory (rule 6); an
//! [audit](Ledger::audit) checks this and the free lists against the records. What a guest's page owns
//! leaves the ledger as an [`OwnedFrame`], which cannot be copied, and comes back as one; the record
//! remembers the page, so that a frame that comes back twice, or was never given, is found.
//!
//! The allocator's largest block is 2 MiB. A block of 1 GiB is 512 of those in a row, found when somebody
//! asks for it and owned as one.
//!
//! Boot images lie in memory before the ledger does. Their frames are a class of their own and
//! [become](Ledger::give_bundle) the guest's without a copy.

mod audit;
mod buddy;
mod error;
mod record;
mod regions;
mod reshape;
#[cfg(test)]
mod tests;

pub use error::{Bug, Corruption, Error};
pub use record::{FrameRecord, HUGE_ORDER, MAX_ORDER, Owner};
pub use regions::Region;

use buddy::{Buddy, at};
use pleat_types::{FRAME_SIZE, GuestId, Hfn, OwnedFrame, PageSize};
use record::State;

/// Frames by class; they add up to `total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All frames of memory that were added.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// The hypervisor itself.
    pub image: u64,
    /// Records and other tables of Pleat's own.
    pub metadata: u64,
    /// The boot bundle, as far as it is still held.
    pub bundle: u64,
    /// Extended page tables.
    pub tables: u64,
    /// State of virtual processors.
    pub vcpus: u64,
    /// Owned by a page of a guest.
    pub guests: u64,
    /// The zero frame.
    pub zero: u64,
}

impl Counts {
    /// The sum of all classes; equal to `total` unless frames were lost.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.free
            + self.image
            + self.metadata
            + self.bundle
            + self.tables
            + self.vcpus
            + self.guests
            + self.zero
    }
}

/// What a frame is wanted for (rule 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To give a guest more: leaves the reserve alone.
    Demand,
    /// To break a share, or to split what is to be reclaimed: may use the reserve.
    Relief,
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameState {
    /// Not memory, or memory that was never added.
    Reserved,
    /// Free.
    Free,
    /// An extended page table of this guest.
    Table(GuestId),
    /// Owned by this page; part of a block of this size.
    Guest(Owner, PageSize),
    /// State of a virtual processor of this guest.
    Vcpu(GuestId),
    /// The boot bundle.
    Bundle,
    /// The hypervisor itself.
    Image,
    /// Records and the like.
    Metadata,
    /// The zero frame.
    Zero,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger<'m> {
    records: &'m mut [FrameRecord],
    buddy: Buddy,
    counts: Counts,
    reserve: u64,
}

/// How many frames of memory the records for `frames` host frames take.
#[must_use]
pub const fn metadata_frames(frames: u64) -> u64 {
    frames.div_ceil((FRAME_SIZE / size_of::<FrameRecord>()) as u64)
}

impl<'m> Ledger<'m> {
    /// A ledger of the frames from 0 on, as many as there are records; all are reserved until
    /// [`Ledger::add_region`] says otherwise.
    pub fn new(records: &'m mut [FrameRecord]) -> Result<Self, Bug> {
        if u32::try_from(records.len()).is_err() {
            return Err(Bug::TooManyFrames);
        }
        records.fill(FrameRecord::RESERVED);
        Ok(Self {
            records,
            buddy: Buddy::new(),
            counts: Counts::default(),
            reserve: 0,
        })
    }

    /// Keeps this many free frames for [`Purpose::Relief`].
    pub const fn set_reserve(&mut self, frames: u64) {
        self.reserve = frames;
    }

    /// Frames by class.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Free frames that a guest can still be given.
    #[must_use]
    pub const fn available(&self) -> u64 {
        self.counts.free.saturating_sub(self.reserve)
    }

    /// How many free blocks of 2^order frames there are.
    #[must_use]
    pub fn free_blocks(&self, order: u8) -> u32 {
        if order > MAX_ORDER {
            0
        } else {
            self.buddy.blocks(order)
        }
    }

    /// What a frame is.
    #[must_use]
    pub fn state(&self, frame: Hfn) -> FrameState {
        let Some((head, record)) = self.block_of(frame) else {
            return FrameState::Reserved;
        };
        match record.state() {
            None | Some(State::Reserved | State::Tail) => FrameState::Reserved,
            Some(State::Free) => FrameState::Free,
            Some(State::Table) => FrameState::Table(record.guest()),
            Some(State::Vcpu) => FrameState::Vcpu(record.guest()),
            Some(State::Bundle) => FrameState::Bundle,
            Some(State::Image) => FrameState::Image,
            Some(State::Metadata) => FrameState::Metadata,
            Some(State::Zero) => FrameState::Zero,
            Some(State::Guest) => {
                let size = match record.order() {
                    HUGE_ORDER => PageSize::Huge,
                    MAX_ORDER => PageSize::Large,
                    _ => PageSize::Small,
                };
                let first = record.owner();
                let offset = frame.get() - u64::from(head);
                let gfn = first.gfn.checked_add(offset).unwrap_or(first.gfn);
                FrameState::Guest(Owner { gfn, ..first }, size)
            }
        }
    }

    /// A frame for a page of a guest. Its bytes are those of its last use: zero them.
    pub fn allocate(&mut self, owner: Owner, purpose: Purpose) -> Result<OwnedFrame, Error> {
        let record = FrameRecord::owned(owner, 0)?;
        let frame = self.take(record, purpose)?;
        Ok(OwnedFrame::claim(frame, PageSize::Small))
    }

    /// A block of 2 MiB for 512 pages of a guest from `owner` on. Zero it.
    pub fn allocate_large(&mut self, owner: Owner, purpose: Purpose) -> Result<OwnedFrame, Error> {
        owner
            .nth((1 << MAX_ORDER) - 1)
            .and_then(|last| FrameRecord::owned(last, 0))?;
        let record = FrameRecord::owned(owner, MAX_ORDER)?;
        let frame = self.take(record, purpose)?;
        Ok(OwnedFrame::claim(frame, PageSize::Large))
    }

    /// A block of 1 GiB for 2^18 pages of a guest from `owner` on. Zero it.
    ///
    /// The allocator does not keep such blocks apart: this looks at the largest blocks in order of
    /// address until 512 free ones make an aligned run. The work is at most one look at each 2 MiB of
    /// memory, and none when there are not 512 of them; so this is for rare requests.
    pub fn allocate_huge(&mut self, owner: Owner, purpose: Purpose) -> Result<OwnedFrame, Error> {
        owner
            .nth((1 << HUGE_ORDER) - 1)
            .and_then(|last| FrameRecord::owned(last, 0))?;
        let record = FrameRecord::owned(owner, HUGE_ORDER)?;
        let frame = self.take(record, purpose)?;
        Ok(OwnedFrame::claim(frame, PageSize::Huge))
    }

    /// A frame for a table of this guest.
    pub fn allocate_table(&mut self, guest: GuestId, purpose: Purpose) -> Result<Hfn, Error> {
        self.take(FrameRecord::single(State::Table, guest.0), purpose)
    }

    /// A frame for the state of a virtual processor of this guest.
    pub fn allocate_vcpu(&mut self, guest: GuestId) -> Result<Hfn, Error> {
        self.take(FrameRecord::single(State::Vcpu, guest.0), Purpose::Demand)
    }

    /// The frame that all zero pages share; the caller zeroes it. It is never released.
    pub fn allocate_zero(&mut self) -> Result<Hfn, Error> {
        self.take(FrameRecord::single(State::Zero, 0), Purpose::Demand)
    }

    /// A frame for Pleat's own records; never released.
    pub fn allocate_metadata(&mut self) -> Result<Hfn, Error> {
        self.take(FrameRecord::single(State::Metadata, 0), Purpose::Demand)
    }

    /// Takes back what a page of a guest owned. No translation to it may be left.
    pub fn release(&mut self, frame: OwnedFrame) -> Result<(), Bug> {
        let order = order_of(frame.first(), frame.size())?;
        self.give(frame.first(), State::Guest, order)
    }

    /// Takes back a table. No processor may know it any more.
    pub fn release_table(&mut self, frame: Hfn) -> Result<(), Bug> {
        self.give(frame, State::Table, 0)
    }

    /// Takes back the state of a virtual processor.
    pub fn release_vcpu(&mut self, frame: Hfn) -> Result<(), Bug> {
        self.give(frame, State::Vcpu, 0)
    }

    /// Takes back a frame of the boot bundle that nobody needs any more.
    pub fn release_bundle(&mut self, frame: Hfn) -> Result<(), Bug> {
        self.give(frame, State::Bundle, 0)
    }

    /// Gives a frame of the boot bundle, or a block of it, with its content to a page of a guest.
    pub fn give_bundle(&mut self, first: Hfn, size: PageSize, owner: Owner) -> Result<OwnedFrame, Bug> {
        let order = order_of(first, size)?;
        let record = FrameRecord::owned(owner, order)?;
        owner
            .nth((1 << order) - 1)
            .and_then(|last| FrameRecord::owned(last, 0))?;
        let head = self.index(first)?;
        let block = head..head + (1 << order);
        for frame in block.clone() {
            self.expect(frame, State::Bundle, 0)?;
        }
        self.records[at(block.start)..at(block.end)].fill(FrameRecord::single(State::Tail, 0));
        self.records[at(head)] = record;
        self.uncount(State::Bundle, size.frames());
        self.count(State::Guest, size.frames());
        Ok(OwnedFrame::claim(first, size))
    }

    /// Takes a block as large as the record says, for what it says.
    fn take(&mut self, record: FrameRecord, purpose: Purpose) -> Result<Hfn, Error> {
        let frames = 1 << record.order();
        let open = match purpose {
            Purpose::Demand => self.available(),
            Purpose::Relief => self.counts.free,
        };
        if open < frames {
            return Err(Error::HostShort);
        }
        let block = match record.order() {
            HUGE_ORDER => self.buddy.take_run(self.records, HUGE_ORDER),
            order => self.buddy.take(self.records, order),
        };
        let block = block.ok_or(Error::HostShort)?;
        self.records[at(block)] = record;
        self.uncount(State::Free, frames);
        record
            .state()
            .into_iter()
            .for_each(|state| self.count(state, frames));
        Ok(Hfn::new(u64::from(block)))
    }

    fn give(&mut self, frame: Hfn, state: State, order: u8) -> Result<(), Bug> {
        let block = self.index(frame)?;
        self.expect(block, state, order)?;
        match order {
            HUGE_ORDER => self.buddy.give_run(self.records, block, order),
            _ => self.buddy.give(self.records, block, order),
        }
        self.uncount(state, 1 << order);
        self.count(State::Free, 1 << order);
        Ok(())
    }

    fn index(&self, frame: Hfn) -> Result<u32, Bug> {
        let index = u32::try_from(frame.get()).map_err(|_| Bug::NotManaged(frame))?;
        if at(index) < self.records.len() {
            Ok(index)
        } else {
            Err(Bug::NotManaged(frame))
        }
    }

    /// The record, if it is that of a block of this order and state.
    fn expect(&self, block: u32, state: State, order: u8) -> Result<&FrameRecord, Bug> {
        let matches = |record: &&FrameRecord| record.is(state) && record.order() == order;
        let record = self.records.get(at(block)).filter(matches);
        record.ok_or(Bug::NotThat(Hfn::new(u64::from(block))))
    }

    /// The block that holds a frame: for a tail, the nearest multiple of a power of two before it that
    /// is not a tail.
    fn block_of(&self, frame: Hfn) -> Option<(u32, &FrameRecord)> {
        let frame = self.index(frame).ok()?;
        (0..=MAX_ORDER).chain([HUGE_ORDER]).find_map(|order| {
            let head = frame & !((1 << order) - 1);
            let record = self.records.get(at(head))?;
            (!record.is(State::Tail) && record.order() >= order).then_some((head, record))
        })
    }
}

/// The order of a block of this size that starts at this frame.
fn order_of(first: Hfn, size: PageSize) -> Result<u8, Bug> {
    match size {
        PageSize::Small => Ok(0),
        PageSize::Large if first.large_base() == first => Ok(MAX_ORDER),
        PageSize::Huge if first.get().is_multiple_of(1 << HUGE_ORDER) => Ok(HUGE_ORDER),
        PageSize::Large | PageSize::Huge => Err(Bug::BadBlock(first)),
    }
}
