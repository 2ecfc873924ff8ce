//! A request that is being worked on, step by step.

use super::super::device::Trouble;
use super::super::hands::{Denied, Hands, Plugged};
use super::Region;
use super::request::{Answer, Kind, State};

/// Blocks that are looked at or plugged in one step: each can have 512 pages to be looked at.
const BLOCKS_MAX: u64 = 8;
/// Blocks that are unplugged in one step: unlike a plugged one each may have 512 frames to be given back.
const UNPLUG_MAX: u64 = 2;

/// What is being done with the blocks of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Are they what the request needs?
    Check,
    /// It is done to them.
    Act,
    /// There was no memory for all of them: those done so far are unplugged again.
    Undo,
}

/// A request about blocks of the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Job {
    kind: Kind,
    first: u64,
    count: u64,
    phase: Phase,
    /// Blocks through with this phase; those left of it when undoing.
    done: u64,
    /// What the blocks checked so far are.
    seen: Option<Plugged>,
}

impl Job {
    /// The blocks must be within the region.
    pub(super) const fn new(kind: Kind, first: u64, count: u64) -> Self {
        let phase = match kind {
            Kind::UnplugAll => Phase::Act,
            _ => Phase::Check,
        };
        Self {
            kind,
            first,
            count,
            phase,
            done: 0,
            seen: None,
        }
    }

    /// Goes on, and says what to answer when there is nothing left.
    ///
    /// # Errors
    /// No host memory: everything done so far is kept, and the same call goes on.
    pub(super) fn step<H: Hands>(
        &mut self,
        region: &mut Region,
        requested: u64,
        hands: &mut H,
    ) -> Result<Option<Answer>, Trouble> {
        match (self.phase, self.kind) {
            (Phase::Check, _) => Ok(self.check(region, requested, hands)),
            (Phase::Act, Kind::Plug) => Ok(self.plug(region, hands)),
            (Phase::Act, Kind::UnplugAll) => self.unplug_all(region, hands),
            (Phase::Act, _) => self.unplug(region, hands),
            (Phase::Undo, _) => self.undo(region, hands),
        }
    }

    /// Looks at the next blocks; behind the last one the request is answered or begun.
    fn check<H: Hands>(&mut self, region: &Region, requested: u64, hands: &mut H) -> Option<Answer> {
        let count = (self.count - self.done).min(BLOCKS_MAX);
        let (first, frames) = region.frames(self.first + self.done, count);
        let seen = hands.plugged(first, frames);
        let seen = match self.seen {
            Some(before) if before != seen => Plugged::Some,
            _ => seen,
        };
        self.seen = Some(seen);
        self.done += count;
        match (self.kind, seen) {
            (Kind::Plug, Plugged::All | Plugged::Some) | (Kind::Unplug, Plugged::None | Plugged::Some) => {
                Some(Answer::Error)
            }
            (Kind::State, Plugged::Some) => Some(Answer::AckState(State::Mixed)),
            _ if self.done < self.count => None,
            (Kind::State, Plugged::All) => Some(Answer::AckState(State::Plugged)),
            (Kind::State, Plugged::None) => Some(Answer::AckState(State::Unplugged)),
            // Blocks that are plugged already are an error in any case, so that this comes last (5.15.6.3.2).
            (Kind::Plug, _) if region.plugged + self.count > requested => Some(Answer::Nack),
            _ => {
                self.phase = Phase::Act;
                self.done = 0;
                None
            }
        }
    }

    /// Plugs the next blocks.
    ///
    /// Without memory the answer is BUSY, which is there for requests that "can currently not be processed" (5.15.6.3.2)
    /// and makes Linux try again later. To keep the request until there is memory would be wrong: Linux waits for its
    /// answer and does nothing else meanwhile, so that just when memory is short the guest could not be asked to unplug
    /// some. NACK would be wrong too: Linux takes it for a change of `requested_size` and asks again at once.
    fn plug<H: Hands>(&mut self, region: &mut Region, hands: &mut H) -> Option<Answer> {
        let count = (self.count - self.done).min(BLOCKS_MAX);
        let (first, frames) = region.frames(self.first + self.done, count);
        match hands.plug(first, frames) {
            Ok(()) => {
                region.plugged += count;
                self.done += count;
                (self.done == self.count).then_some(Answer::Ack)
            }
            Err(Denied::NoRam | Denied::HostShort) if self.done == 0 => Some(Answer::Busy),
            Err(Denied::NoRam | Denied::HostShort) => {
                self.phase = Phase::Undo;
                None
            }
        }
    }

    fn undo<H: Hands>(&mut self, region: &mut Region, hands: &mut H) -> Result<Option<Answer>, Trouble> {
        for _ in 0..UNPLUG_MAX {
            let Some(last) = self.done.checked_sub(1) else {
                break;
            };
            unplug_block(region, self.first + last, hands)?;
            self.done = last;
        }
        Ok((self.done == 0).then_some(Answer::Busy))
    }

    /// Unplugs the next blocks. Unlike [`Self::plug`] it cannot be undone, since the content is gone; so it waits for the
    /// memory that it may need for page tables, to give back more.
    fn unplug<H: Hands>(&mut self, region: &mut Region, hands: &mut H) -> Result<Option<Answer>, Trouble> {
        for _ in 0..UNPLUG_MAX {
            if self.done >= self.count {
                break;
            }
            unplug_block(region, self.first + self.done, hands)?;
            self.done += 1;
        }
        Ok((self.done >= self.count).then_some(Answer::Ack))
    }

    fn unplug_all<H: Hands>(
        &mut self,
        region: &mut Region,
        hands: &mut H,
    ) -> Result<Option<Answer>, Trouble> {
        let mut unplugged = 0;
        for _ in 0..BLOCKS_MAX {
            if self.done >= self.count || unplugged >= UNPLUG_MAX {
                break;
            }
            let many = (self.count - self.done).min(BLOCKS_MAX);
            if self.done.is_multiple_of(BLOCKS_MAX) && is_empty(region, self.done, many, hands) {
                self.done += many;
                continue;
            }
            if !is_empty(region, self.done, 1, hands) {
                unplug_block(region, self.done, hands)?;
                unplugged += 1;
            }
            self.done += 1;
        }
        Ok((self.done >= self.count).then_some(Answer::Ack))
    }
}

fn is_empty<H: Hands>(region: &Region, block: u64, count: u64, hands: &mut H) -> bool {
    let (first, frames) = region.frames(block, count);
    hands.plugged(first, frames) == Plugged::None
}

/// Unplugs a block, as the owner sees it; the number of plugged ones follows.
fn unplug_block<H: Hands>(region: &mut Region, block: u64, hands: &mut H) -> Result<(), Trouble> {
    let (first, frames) = region.frames(block, 1);
    match hands.unplug(first, frames) {
        Ok(()) => {
            region.plugged = region.plugged.saturating_sub(1);
            Ok(())
        }
        Err(Denied::HostShort) => Err(Trouble::HostShort),
        Err(Denied::NoRam) => Err(Trouble::Guest("a plugged block that is not all RAM")),
    }
}
