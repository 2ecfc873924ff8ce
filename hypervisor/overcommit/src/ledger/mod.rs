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
mod content;
mod counts;
mod error;
mod list;
mod list_audit;
mod record;
#[cfg(feature = "refusals")]
pub mod refusals;
mod regions;
mod reshape;
mod row;
mod sharers;
mod shares;
mod slab;
mod state;
mod swap;
#[cfg(test)]
mod tests;

pub use content::Key;
pub use counts::Counts;
pub use error::{Bug, Corruption, Error};
pub use record::{FrameRecord, HUGE_ORDER, MAX_ORDER, MAX_SHARERS, Owner};
pub use regions::Region;
pub use row::Row;
pub use sharers::NOTED_AT_ONCE;
pub use shares::{Company, Released, Several};

use buddy::{Buddy, at};
use pleat_types::{FRAME_SIZE, GuestId, Hfn, OwnedFrame, PageSize};
use record::State;
use slab::Slabs;

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
    /// Mapped by equal pages.
    Shared {
        /// How many.
        sharers: u32,
    },
    /// Lists of the pages that share a frame.
    SharerList,
    /// The swap store's.
    Swap,
}

/// The ledger.
#[derive(Debug)]
pub struct Ledger<'m> {
    records: &'m mut [FrameRecord],
    buddy: Buddy,
    slabs: Slabs,
    counts: Counts,
    /// The sum of the sharers of all shared frames.
    shares: u64,
    reserve: u64,
}

/// How many frames of memory the records for `frames` host frames take; some lie across two.
#[must_use]
pub const fn metadata_frames(frames: u64) -> u64 {
    (frames * size_of::<FrameRecord>() as u64).div_ceil(FRAME_SIZE as u64)
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
            slabs: Slabs::new(),
            counts: Counts::default(),
            shares: 0,
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
            Some(State::Shared) => FrameState::Shared {
                sharers: record.sharers(),
            },
            Some(State::SharerList) => FrameState::SharerList,
            Some(State::Swap) => FrameState::Swap,
            Some(State::Guest) => {
                let size = match record.order() {
                    HUGE_ORDER => PageSize::Huge,
                    MAX_ORDER => PageSize::Large,
                    _ => PageSize::Small,
                };
                FrameState::Guest(record.owner().at_offset(frame.get() - u64::from(head)), size)
            }
        }
    }

    /// A frame for a page of a guest. Its bytes are those of its last use: zero them.
    #[inline]
    pub fn allocate(&mut self, owner: Owner, purpose: Purpose) -> Result<OwnedFrame, Error> {
        let record = FrameRecord::owned(owner, 0)?;
        let frame = self.take(record, State::Guest, 0, purpose)?;
        Ok(OwnedFrame::claim(frame, PageSize::Small))
    }

    /// A block of 2 MiB for 512 pages of a guest from `owner` on. Zero it.
    pub fn allocate_large(&mut self, owner: Owner, purpose: Purpose) -> Result<OwnedFrame, Error> {
        let record = owned_block(owner, MAX_ORDER)?;
        let frame = self.take(record, State::Guest, MAX_ORDER, purpose)?;
        Ok(OwnedFrame::claim(frame, PageSize::Large))
    }

    /// A block of 1 GiB for 2^18 pages of a guest from `owner` on. Zero it.
    ///
    /// The allocator does not keep such blocks apart: this looks at the largest blocks in order of
    /// address until 512 free ones make an aligned run. The work is at most one look at each 2 MiB of
    /// memory, and none when there are not 512 of them; so this is for rare requests.
    pub fn allocate_huge(&mut self, owner: Owner, purpose: Purpose) -> Result<OwnedFrame, Error> {
        let record = owned_block(owner, HUGE_ORDER)?;
        let frame = self.take(record, State::Guest, HUGE_ORDER, purpose)?;
        Ok(OwnedFrame::claim(frame, PageSize::Huge))
    }

    /// A frame for a table of this guest.
    pub fn allocate_table(&mut self, guest: GuestId, purpose: Purpose) -> Result<Hfn, Error> {
        let record = FrameRecord::of_guest(State::Table, guest)?;
        self.take(record, State::Table, 0, purpose)
    }

    /// A frame for the state of a virtual processor of this guest.
    pub fn allocate_vcpu(&mut self, guest: GuestId) -> Result<Hfn, Error> {
        let record = FrameRecord::of_guest(State::Vcpu, guest)?;
        self.take(record, State::Vcpu, 0, Purpose::Demand)
    }

    /// The frame that all zero pages share; the caller zeroes it. It is never released.
    pub fn allocate_zero(&mut self) -> Result<Hfn, Error> {
        self.take(FrameRecord::single(State::Zero), State::Zero, 0, Purpose::Demand)
    }

    /// A frame for Pleat's own records; never released.
    pub fn allocate_metadata(&mut self) -> Result<Hfn, Error> {
        let record = FrameRecord::single(State::Metadata);
        self.take(record, State::Metadata, 0, Purpose::Demand)
    }

    /// Takes back what a page of a guest owned. No translation to it may be left, and it must not be in the
    /// index of contents. A part of a larger block may come back, because the mapping of that was split: the
    /// rest is owned in parts from then on.
    #[inline]
    pub fn release(&mut self, frame: OwnedFrame) -> Result<(), Bug> {
        let first = frame.first();
        let order = order_of(first, frame.size())?;
        let given = match order {
            0 => self.give(first, State::Guest, 0),
            order => self.give(first, State::Guest, order),
        };
        given.or_else(|bug| self.release_part(first, order, bug))
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
        let record = owned_block(owner, order)?;
        let head = self.index(first)?;
        let block = head..head + (1 << order);
        for frame in block.clone() {
            self.expect(frame, State::Bundle, 0)?;
        }
        self.records[at(block.start)..at(block.end)].fill(FrameRecord::single(State::Tail));
        self.records[at(head)] = record;
        self.uncount(State::Bundle, size.frames());
        self.count(State::Guest, size.frames());
        Ok(OwnedFrame::claim(first, size))
    }

    /// Takes a block for what the record says, which is of this state and order. They are known where this
    /// is called, and nothing is left of the cases then: a frame is taken in many a fault.
    #[inline]
    fn take(&mut self, record: FrameRecord, state: State, order: u8, purpose: Purpose) -> Result<Hfn, Error> {
        let frames = 1 << order;
        let open = match purpose {
            Purpose::Demand => self.available(),
            Purpose::Relief => self.counts.free,
        };
        if open < frames {
            return Err(Error::HostShort);
        }
        #[cfg(feature = "refusals")]
        if refusals::is_next() {
            return Err(Error::HostShort);
        }
        let block = match order {
            HUGE_ORDER => self.buddy.take_run(self.records, HUGE_ORDER),
            order => self.buddy.take(self.records, order),
        };
        let block = block.ok_or(Error::HostShort)?;
        self.records[at(block)] = record;
        self.recount(State::Free, state, frames);
        Ok(Hfn::new(u64::from(block)))
    }

    /// Puts back a block of this state and order.
    #[inline]
    fn give(&mut self, frame: Hfn, state: State, order: u8) -> Result<(), Bug> {
        let block = self.index(frame)?;
        self.expect(block, state, order)?;
        match order {
            HUGE_ORDER => self.buddy.give_run(self.records, block, order),
            _ => self.buddy.give(self.records, block, order),
        }
        self.recount(state, State::Free, 1 << order);
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

    /// The record, if it is that of a block of this order and state that is not in the index of contents.
    #[inline]
    fn expect(&self, block: u32, state: State, order: u8) -> Result<&FrameRecord, Bug> {
        match self.records.get(at(block)) {
            Some(record) if record.is_block(state, order) => Ok(record),
            _ => Err(self.unexpected(block, state)),
        }
    }

    #[cold]
    fn unexpected(&self, block: u32, state: State) -> Bug {
        let frame = Hfn::new(u64::from(block));
        let record = self.records.get(at(block));
        let is_indexed = record.is_some_and(|record| record.is(state) && record.is_indexed());
        if is_indexed && state == State::Guest {
            Bug::Indexed(frame)
        } else {
            Bug::NotThat(frame)
        }
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

/// The record of a block, all pages of which must fit one.
fn owned_block(owner: Owner, order: u8) -> Result<FrameRecord, Bug> {
    FrameRecord::owned(owner.nth((1 << order) - 1)?, 0)?;
    FrameRecord::owned(owner, order)
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
