//! What the records say, for who compares it with what the guests' tables say.

use super::FramePool;
use crate::audit::{Depth, Holdings, weigh};
use pleat_bundle::config::MAX_GUESTS;
use pleat_overcommit::ledger::{Corruption, FrameState, Owner};
use pleat_overcommit::merge::Mismatch;
use pleat_stage2::Held;
use pleat_types::{FrameMemory, GuestId, Hfn};

impl FramePool {
    /// What the index says about itself.
    pub(crate) fn audit_index(&self) -> Result<(), Mismatch> {
        self.index.audit(&self.ledger)
    }

    /// What the records say about shared frames.
    pub(crate) fn shared_on_record(&self) -> Holdings {
        let mut held = Holdings::default();
        self.ledger.for_each_shared(|frame, sharers| {
            held.shares += u64::from(sharers);
            let weight = weigh(frame.get()).wrapping_mul(u64::from(sharers));
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

    /// Frames of all classes that are charged to each guest.
    pub(crate) fn charges(&self) -> [u64; MAX_GUESTS] {
        let mut charges = [0; MAX_GUESTS];
        self.ledger.for_each_charge(|guest, frames| {
            if let Some(charge) = charges.get_mut(usize::from(guest.0)) {
                *charge += frames;
            }
        });
        charges
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
            // The swap store says how many there are, and which.
            Held::Slot { .. } => true,
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
}
