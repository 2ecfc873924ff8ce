//! The record of one host frame: 12 bytes that say what it is and whose.
//!
//! ```text
//!             link               other            rest, from bit 0 on
//! free        next free block    previous one     state 4, -, order 5
//! guest       page number        key              state 4, indexed 1, order 5, guest 10, changes 3
//! table, vcpu -                  -                state 4, -, -, guest 10
//! shared      slab frame of list key              state 4, indexed 1, slot 9, class 4, count 14
//! swap        -                  -                state 4
//! list        next with room     previous one     state 4, -, used 10, first free 10, class 4
//! ```
//!
//! Nine bits are left in a guest's record. (Its age is in the page's entry.)

use pleat_types::{FRAME_SIZE, Gfn, GuestId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::content::Key;
use super::error::Bug;
use super::slab::{Chunk, Class};
pub(super) use super::state::State;

/// The largest block of the allocator: 2^9 frames, 2 MiB.
pub const MAX_ORDER: u8 = 9;
/// The order of a block that backs 1 GiB: a run of 2^9 largest blocks, owned as one. The allocator has
/// no free lists of it.
pub const HUGE_ORDER: u8 = 18;
/// How many pages can have one frame in common.
pub const MAX_SHARERS: u32 = COUNT.mask();
/// No frame: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// One frame's record. All bytes zero is a valid one, for memory that is not ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FrameRecord {
    link: u32,
    other: u32,
    rest: u32,
}

const _: () = assert!(size_of::<FrameRecord>() == 12);
// All metadata together may be 0.5 % of the memory that it manages.
const _: () = assert!(size_of::<FrameRecord>() * 200 <= FRAME_SIZE);

/// Some bits of a record.
#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const fn new(shift: u32, bits: u32) -> Self {
        Self { shift, bits }
    }

    /// The largest value.
    const fn mask(self) -> u32 {
        (1 << self.bits) - 1
    }

    /// A value in its place; the value must fit.
    const fn put(self, value: u32) -> u32 {
        (value & self.mask()) << self.shift
    }

    const fn get(self, rest: u32) -> u32 {
        (rest >> self.shift) & self.mask()
    }

    const fn with(self, rest: u32, value: u32) -> u32 {
        rest & !self.put(self.mask()) | self.put(value)
    }
}

const STATE: Field = Field::new(0, 4);
const INDEXED: Field = Field::new(4, 1);
const ORDER: Field = Field::new(5, 5);
const GUEST: Field = Field::new(10, 10);
const CHANGES: Field = Field::new(20, 3);
const SLOT: Field = Field::new(5, 9);
const CLASS: Field = Field::new(14, 4);
const COUNT: Field = Field::new(18, 14);
const USED: Field = Field::new(5, 10);
const FIRST_FREE: Field = Field::new(15, 10);
const LIST_CLASS: Field = Field::new(25, 4);

/// What means something in a guest's record, and in that of a slab frame.
const GUEST_BITS: u32 = STATE.put(STATE.mask())
    | INDEXED.put(INDEXED.mask())
    | ORDER.put(ORDER.mask())
    | GUEST.put(GUEST.mask())
    | CHANGES.put(CHANGES.mask());
const LIST_BITS: u32 = STATE.put(STATE.mask())
    | USED.put(USED.mask())
    | FIRST_FREE.put(FIRST_FREE.mask())
    | LIST_CLASS.put(LIST_CLASS.mask());

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

    /// The owner of a frame so far into a block that the ledger has on record: its last page fits.
    pub(super) const fn at_offset(self, frames: u64) -> Self {
        let gfn = Gfn::new(self.gfn.get() + frames);
        Self { gfn, ..self }
    }
}

impl FrameRecord {
    /// A record for memory that is not ours.
    pub const RESERVED: Self = Self::single(State::Reserved);

    /// Uses plain memory as records. `None` if it is not aligned to 4 bytes or not a whole number of
    /// records.
    #[must_use]
    pub fn slice_from(bytes: &mut [u8]) -> Option<&mut [Self]> {
        <[Self]>::mut_from_bytes(bytes).ok()
    }

    /// A frame for itself that nobody owns.
    pub(super) const fn single(state: State) -> Self {
        Self {
            link: 0,
            other: 0,
            rest: STATE.put(state.number()),
        }
    }

    /// A frame for itself that a guest as a whole owns.
    pub(super) const fn of_guest(state: State, guest: GuestId) -> Result<Self, Bug> {
        if guest.0 as u32 > GUEST.mask() {
            return Err(Bug::BadGuest(guest));
        }
        let mut record = Self::single(state);
        record.rest |= GUEST.put(guest.0 as u32);
        Ok(record)
    }

    pub(super) const fn free(order: u8, next: u32, previous: u32) -> Self {
        Self {
            link: next,
            other: previous,
            rest: STATE.put(State::Free.number()) | ORDER.put(order as u32),
        }
    }

    /// A block that a page, or a large page, of a guest owns.
    pub(super) fn owned(owner: Owner, order: u8) -> Result<Self, Bug> {
        let link = u32::try_from(owner.gfn.get()).map_err(|_| Bug::BadOwner(owner))?;
        let guest = u32::from(owner.guest.0);
        if guest > GUEST.mask() {
            return Err(Bug::BadOwner(owner));
        }
        let state = STATE.put(State::Guest.number());
        Ok(Self {
            link,
            other: 0,
            rest: state | ORDER.put(u32::from(order)) | GUEST.put(guest),
        })
    }

    /// A frame with one sharer, made from the record of a page's own: the key and whether it is in the
    /// index stay.
    pub(super) const fn shared(self) -> Self {
        let indexed = INDEXED.put(INDEXED.get(self.rest));
        let no_list = CLASS.put(CLASS.mask());
        Self {
            link: NONE,
            other: self.other,
            rest: STATE.put(State::Shared.number()) | indexed | no_list | COUNT.put(1),
        }
    }

    /// The record of a page's own frame, made from that of a shared one: the inverse of
    /// [`FrameRecord::shared`].
    pub(super) fn unshared(self, owner: Owner) -> Result<Self, Bug> {
        let mut record = Self::owned(owner, 0)?;
        record.other = self.other;
        record.rest |= INDEXED.put(INDEXED.get(self.rest));
        Ok(record)
    }

    /// A slab frame on no list, all of whose chunks are free.
    pub(super) const fn list(class: Class) -> Self {
        let (state, class) = (State::SharerList.number(), class.number());
        Self {
            link: NONE,
            other: NONE,
            rest: STATE.put(state) | LIST_CLASS.put(class),
        }
    }

    /// `None` for a record that this crate never wrote.
    pub(super) fn state(&self) -> Option<State> {
        State::ALL.get(STATE.get(self.rest) as usize).copied()
    }

    /// Whether an operation writes such a record: nothing is set that has no meaning in its state.
    pub(super) fn is_regular(&self) -> bool {
        let Some(state) = self.state() else {
            return false;
        };
        match state {
            State::Free => *self == Self::free(self.order(), self.link, self.other),
            State::Guest if self.order() == 0 => self.rest & !GUEST_BITS == 0,
            State::Guest => Self::owned(self.owner(), self.order()) == Ok(*self),
            State::Table | State::Vcpu => Self::of_guest(state, self.guest()) == Ok(*self),
            State::Shared => self.sharers() > 0 && (self.chunk().is_some() || self.link == NONE),
            State::SharerList => self.rest & !LIST_BITS == 0 && self.list_class().is_some(),
            _ => *self == Self::single(state),
        }
    }

    pub(super) const fn is(&self, state: State) -> bool {
        STATE.get(self.rest) == state.number()
    }

    /// Whether this is the first record of a block in one of the states that know an order (or of a
    /// single frame in one of the other ones, for order 0) which is not in the index. In one comparison:
    /// it is asked for each frame that comes back.
    pub(super) const fn is_block(&self, state: State, order: u8) -> bool {
        let mask = STATE.put(STATE.mask()) | INDEXED.put(1) | ORDER.put(ORDER.mask());
        self.rest & mask == STATE.put(state.number()) | ORDER.put(order as u32)
    }

    /// The order of a block; 0 for what is never one.
    #[allow(clippy::cast_possible_truncation)] // five bits
    pub(super) const fn order(&self) -> u8 {
        if self.is(State::Shared) || self.is(State::SharerList) {
            return 0;
        }
        ORDER.get(self.rest) as u8
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

    /// The guest, of a record whose state is Guest, Table or Vcpu.
    #[allow(clippy::cast_possible_truncation)] // ten bits
    pub(super) const fn guest(&self) -> GuestId {
        GuestId(GUEST.get(self.rest) as u16)
    }

    /// The owner, of a record whose state is Guest.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            guest: self.guest(),
            gfn: Gfn::new(u64::from(self.link)),
        }
    }

    /// Whether content can be on record here: a page's own frame, not a larger block, or a shared one.
    pub(super) const fn has_content(&self) -> bool {
        self.is(State::Shared) || (self.is(State::Guest) && self.order() == 0)
    }

    pub(super) const fn is_indexed(&self) -> bool {
        INDEXED.get(self.rest) != 0
    }

    pub(super) const fn index(&mut self) {
        self.rest |= INDEXED.put(1);
    }

    pub(super) const fn unindex(&mut self) {
        self.rest &= !INDEXED.put(1);
    }

    /// The key, of a record that has content.
    pub(super) const fn key(&self) -> Key {
        Key(self.other)
    }

    pub(super) const fn set_key(&mut self, key: Key) {
        self.other = key.0;
    }

    /// How often the content was seen to change, of a record whose state is Guest.
    #[allow(clippy::cast_possible_truncation)] // three bits
    pub(super) const fn changes(&self) -> u8 {
        CHANGES.get(self.rest) as u8
    }

    /// Notes the number, or the largest that there is room for.
    pub(super) fn set_changes(&mut self, changes: u8) {
        let changes = u32::from(changes).min(CHANGES.mask());
        self.rest = CHANGES.with(self.rest, changes);
    }

    /// The number of sharers, of a record whose state is Shared.
    pub(super) const fn sharers(&self) -> u32 {
        COUNT.get(self.rest)
    }

    pub(super) const fn set_sharers(&mut self, sharers: u32) {
        self.rest = COUNT.with(self.rest, sharers);
    }

    /// The chunk that holds the list of sharers, of a record whose state is Shared. `None` if there is
    /// no list yet.
    pub(super) fn chunk(&self) -> Option<Chunk> {
        let class = Class::from_number(CLASS.get(self.rest))?;
        Some(Chunk {
            frame: self.link,
            slot: SLOT.get(self.rest),
            class,
        })
    }

    pub(super) const fn set_chunk(&mut self, chunk: Chunk) {
        self.link = chunk.frame;
        self.rest = SLOT.with(CLASS.with(self.rest, chunk.class.number()), chunk.slot);
    }

    /// The size of the chunks of a slab frame. `None` for a number that this crate never wrote.
    pub(super) fn list_class(&self) -> Option<Class> {
        Class::from_number(LIST_CLASS.get(self.rest))
    }

    /// How many chunks of a slab frame are in use.
    pub(super) const fn used(&self) -> u32 {
        USED.get(self.rest)
    }

    pub(super) const fn set_used(&mut self, used: u32) {
        self.rest = USED.with(self.rest, used);
    }

    /// The first free chunk of a slab frame; any number that is no slot when there is none.
    pub(super) const fn first_free(&self) -> u32 {
        FIRST_FREE.get(self.rest)
    }

    pub(super) const fn set_first_free(&mut self, slot: u32) {
        self.rest = FIRST_FREE.with(self.rest, slot);
    }
}
