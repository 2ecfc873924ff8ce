//! The record of one host frame: 16 bytes that say what it is and whose.

use pleat_types::{FRAME_SIZE, Gfn, GuestId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::error::Bug;

/// The largest block of the allocator: 2^9 frames, 2 MiB.
pub const MAX_ORDER: u8 = 9;
/// The order of a block that backs 1 GiB: a run of 2^9 largest blocks, owned as one. The allocator has
/// no free lists of it.
pub const HUGE_ORDER: u8 = 18;
/// No frame: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// One frame's record. All bytes zero is a valid one, for memory that is not ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameRecord {
    /// Free: the next free block of this order. Owned by a guest: the page number.
    link: u32,
    /// Free: the previous free block. Owned by a guest: a checksum of the content when it was last
    /// looked at, with which merging tells calm pages from busy ones.
    other: u32,
    /// Whose frame, table or processor state it is.
    guest: u16,
    /// The age in generations, for reclaim.
    generation: u16,
    state: u8,
    /// The size of the block that starts here.
    order: u8,
    /// So that there are no bytes without a name.
    unused: u16,
}

const _: () = assert!(size_of::<FrameRecord>() == 16);
// All metadata together may be 0.5 % of the memory that it manages.
const _: () = assert!(size_of::<FrameRecord>() * 200 <= FRAME_SIZE);

/// What a frame is, as its record has it. Which block a [`State::Tail`] belongs to is in the block's
/// first record, so that splitting and merging blocks touches two records and not all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Reserved,
    Free,
    Tail,
    Table,
    Guest,
    Vcpu,
    Bundle,
    Image,
    Metadata,
    Zero,
}

impl State {
    const ALL: [Self; 10] = [
        Self::Reserved,
        Self::Free,
        Self::Tail,
        Self::Table,
        Self::Guest,
        Self::Vcpu,
        Self::Bundle,
        Self::Image,
        Self::Metadata,
        Self::Zero,
    ];
}

/// The page of a guest that owns a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Owner {
    /// The guest.
    pub guest: GuestId,
    /// Its page; the first one for a large block.
    pub gfn: Gfn,
}

impl Owner {
    /// The owner of the n-th frame of a block.
    pub(super) fn nth(self, n: u32) -> Result<Self, Bug> {
        let gfn = self.gfn.checked_add(u64::from(n)).ok_or(Bug::BadOwner(self))?;
        Ok(Self { gfn, ..self })
    }
}

impl FrameRecord {
    /// A record for memory that is not ours.
    pub const RESERVED: Self = Self::single(State::Reserved, 0);

    /// Uses plain memory as records. `None` if it is not aligned to 4 bytes or not a whole number of
    /// records.
    #[must_use]
    pub fn slice_from(bytes: &mut [u8]) -> Option<&mut [Self]> {
        <[Self]>::mut_from_bytes(bytes).ok()
    }

    /// A frame for itself that nobody, or a guest as a whole, owns.
    pub(super) const fn single(state: State, guest: u16) -> Self {
        Self {
            link: 0,
            other: 0,
            guest,
            generation: 0,
            state: state as u8,
            order: 0,
            unused: 0,
        }
    }

    pub(super) const fn free(order: u8, next: u32, previous: u32) -> Self {
        Self {
            link: next,
            other: previous,
            order,
            ..Self::single(State::Free, 0)
        }
    }

    /// A block that a page, or a large page, of a guest owns.
    pub(super) fn owned(owner: Owner, order: u8) -> Result<Self, Bug> {
        let link = u32::try_from(owner.gfn.get()).map_err(|_| Bug::BadOwner(owner))?;
        Ok(Self {
            link,
            order,
            ..Self::single(State::Guest, owner.guest.0)
        })
    }

    /// `None` for a record that this crate never wrote.
    pub(super) fn state(&self) -> Option<State> {
        State::ALL.into_iter().find(|state| *state as u8 == self.state)
    }

    pub(super) fn is(&self, state: State) -> bool {
        self.state == state as u8
    }

    pub(super) const fn order(&self) -> u8 {
        self.order
    }

    pub(super) const fn next(&self) -> u32 {
        self.link
    }

    pub(super) const fn previous(&self) -> u32 {
        self.other
    }

    pub(super) const fn set_next(&mut self, next: u32) {
        self.link = next;
    }

    pub(super) const fn set_previous(&mut self, previous: u32) {
        self.other = previous;
    }

    pub(super) const fn guest(&self) -> GuestId {
        GuestId(self.guest)
    }

    /// The owner, of a record whose state is Guest.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            guest: self.guest(),
            gfn: Gfn::new(u64::from(self.link)),
        }
    }
}
