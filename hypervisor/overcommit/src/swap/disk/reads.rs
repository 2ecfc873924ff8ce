//! Contents on their way back from the disk.
//!
//! A content that is wanted gets one of a few buffers and keeps it until its last page has it, or another content
//! needs the buffer: the disk has it still. First those go that were given out already. One that arrived and that
//! nobody has asked for may be waited for, or not, if who wanted it has died; so it goes when others were refused
//! [`PATIENCE`] times for its sake. Whoever is refused asks again.
//!
//! There is no readahead. It would need to know which slot a block belongs to, four bytes a block that nothing else
//! needs; and what lies beside a block was cold at the same time, which says little about who is wanted at the same
//! time. Where a measurement says otherwise, [`super::Blocks`] has it near: runs are in the order of eviction.

use arrayvec::ArrayVec;
use pleat_types::Hfn;

use crate::swap::slots::DiskPlace;

/// Buffers.
pub(super) const READS: usize = 8;
/// How often a block is read until its content is given up.
const TRIES: u8 = 3;
/// How often others are refused for a content that nobody asks for.
const PATIENCE: u8 = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nobody's.
    Empty,
    /// To be read.
    Wanted,
    /// Being read.
    Flying,
    /// Being read, and nobody wants it any more.
    Abandoned,
    /// Here, as the disk gave it.
    Arrived,
    /// It was here for somebody: whoever wants it again may find it, or another in its place.
    Had,
    /// It cannot be read.
    Failed,
}

/// A buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub(super) slot: u32,
    pub(super) place: DiskPlace,
    pub(super) state: State,
    /// Attempts that failed.
    tries: u8,
    /// What came first was not its content.
    is_doubted: bool,
    /// How often others were refused for it.
    refused: u8,
    /// The lower, the longer it is here.
    ticket: u32,
}

impl Read {
    const EMPTY: Self = Self {
        slot: 0,
        place: DiskPlace { block: 0, write: 0 },
        state: State::Empty,
        tries: 0,
        is_doubted: false,
        refused: 0,
        ticket: 0,
    };

    /// Whether it is some slot's.
    const fn is_used(&self) -> bool {
        !matches!(self.state, State::Empty | State::Abandoned)
    }

    const fn can_go(&self) -> bool {
        match self.state {
            State::Empty | State::Had => true,
            State::Arrived | State::Failed => self.refused >= PATIENCE,
            State::Wanted | State::Flying | State::Abandoned => false,
        }
    }
}

/// The buffers.
#[derive(Debug)]
pub(super) struct Reads {
    frames: ArrayVec<Hfn, READS>,
    reads: [Read; READS],
    tickets: u32,
}

impl Reads {
    pub(super) const fn new() -> Self {
        Self {
            frames: ArrayVec::new_const(),
            reads: [Read::EMPTY; READS],
            tickets: 0,
        }
    }

    /// Takes its frames. `None` if no more are given than that.
    pub(super) fn begin(&mut self, give: &mut impl FnMut() -> Option<Hfn>) -> Option<()> {
        (0..READS).try_for_each(|_| self.frames.try_push(give()?).ok())
    }

    /// What is known of a slot's content: the buffer and its state.
    pub(super) fn find(&self, slot: u32) -> Option<(usize, State)> {
        let index = self
            .reads
            .iter()
            .position(|read| read.is_used() && read.slot == slot)?;
        Some((index, self.reads[index].state))
    }

    /// A slot's content is to be read. `None` if there is no buffer for it now.
    pub(super) fn want(&mut self, slot: u32, place: DiskPlace) -> Option<()> {
        if self.find(slot).is_some() {
            return Some(());
        }
        let is_here = |read: &&mut Read| matches!(read.state, State::Arrived | State::Failed);
        let free = self.reads.iter_mut().filter(|read| read.can_go());
        let Some(read) = free.min_by_key(|read| (read.state != State::Empty, read.ticket)) else {
            let waiting = self.reads.iter_mut().filter(is_here);
            let oldest = waiting.min_by_key(|read| read.ticket)?;
            oldest.refused = oldest.refused.saturating_add(1);
            return None;
        };
        *read = Read {
            slot,
            place,
            state: State::Wanted,
            ticket: self.tickets,
            ..Read::EMPTY
        };
        self.tickets = self.tickets.wrapping_add(1);
        Some(())
    }

    /// Whether one is to be read.
    pub(super) fn has_wanted(&self) -> bool {
        self.reads.iter().any(|read| read.state == State::Wanted)
    }

    /// The one that has been wanted longest: it flies now. Its buffer, and the block.
    pub(super) fn begin_next(&mut self) -> Option<(usize, u32)> {
        let wanted = self.reads.iter().enumerate();
        let wanted = wanted.filter(|(_, read)| read.state == State::Wanted);
        let (index, _) = wanted.min_by_key(|(_, read)| read.ticket)?;
        self.reads[index].state = State::Flying;
        Some((index, self.reads[index].place.block))
    }

    pub(super) fn frame(&self, index: usize) -> Option<Hfn> {
        self.frames.get(index).copied()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Read> {
        self.reads.get(index)
    }

    /// It was given out.
    pub(super) fn note_had(&mut self, index: usize) {
        self.set(index, State::Had);
    }

    /// It is here.
    pub(super) fn arrive(&mut self, index: usize) {
        self.land(index, State::Arrived);
    }

    /// What has come for this slot is not its content: it is wanted once more, but for one that has been before.
    pub(super) fn read_again(&mut self, slot: u32) -> bool {
        let is_here =
            |read: &&mut Read| matches!(read.state, State::Arrived | State::Had) && read.slot == slot;
        let Some(read) = self
            .reads
            .iter_mut()
            .find(is_here)
            .filter(|read| !read.is_doubted)
        else {
            return false;
        };
        (read.state, read.tries, read.is_doubted) = (State::Wanted, 0, true);
        true
    }

    /// It could not be read: it is tried again, or not.
    pub(super) fn fail(&mut self, index: usize) {
        if let Some(read) = self.reads.get_mut(index) {
            read.tries = read.tries.saturating_add(1);
            let is_last = read.tries >= TRIES;
            self.land(index, if is_last { State::Failed } else { State::Wanted });
        }
    }

    /// Nobody wants this slot's content any more, or what is here of it is of no use.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some((index, state)) = self.find(slot) {
            let is_flying = state == State::Flying;
            self.set(index, if is_flying { State::Abandoned } else { State::Empty });
        }
    }

    /// All that are somebody's.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Read> {
        self.reads.iter().filter(|read| read.is_used())
    }

    /// Visits all frames.
    pub(super) fn for_each_frame(&self, visit: impl FnMut(Hfn)) {
        self.frames.iter().copied().for_each(visit);
    }

    fn land(&mut self, index: usize, state: State) {
        let is_abandoned = self.get(index).is_none_or(|read| read.state == State::Abandoned);
        self.set(index, if is_abandoned { State::Empty } else { state });
    }

    fn set(&mut self, index: usize, state: State) {
        if let Some(read) = self.reads.get_mut(index) {
            read.state = state;
        }
    }
}
