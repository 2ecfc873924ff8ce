//! Pages that leave for a slot, and come back: done in the world of several guests.

use super::op::Op;
use super::world::{Outcome, World, settle};
use crate::error::{Bug, Error};
use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share, SlotReference, SwapSlot};

impl World {
    pub fn perform_swapping(&mut self, who: usize, op: &Op) -> Result<Outcome, Error> {
        match *op {
            Op::SwapOut(gfn, slot) => {
                let guest = &mut self.guests[who];
                let frozen = guest.frozen.remove(&gfn).ok_or(Bug::WrongState(Gfn::new(gfn)))?;
                let reference = self.refer(slot);
                let pending = self.guests[who]
                    .stage2
                    .swap_out(&mut self.memory, frozen, reference)?;
                Ok(settle(pending))
            }
            Op::SwapOutShare(gfn, slot) => {
                let shared = self.guests[who].model.shared_frame(gfn);
                let frame = Hfn::new(shared.unwrap_or(0x123));
                let reference = self.refer(slot);
                let stage2 = &mut self.guests[who].stage2;
                match stage2.swap_out_share(&mut self.memory, Gfn::new(gfn), frame, reference) {
                    Ok(pending) => Ok(settle(pending)),
                    Err(reference) => {
                        self.take_back_reference(&reference);
                        Err(Bug::WrongState(Gfn::new(gfn)).into())
                    }
                }
            }
            Op::SwapIn(gfn, frame) => self.swap_in(who, gfn, frame),
            Op::SwapInShare(gfn, frame) => self.swap_in_share(who, gfn, frame),
            _ => panic!("{op:?}"),
        }
    }

    fn swap_in(&mut self, who: usize, gfn: u64, frame: u64) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let spot = guest.stage2.find(&self.memory, Gfn::new(gfn))?;
        let owned = OwnedFrame::claim(Hfn::new(frame), PageSize::Small);
        match guest.stage2.swap_in(&mut self.memory, &spot, owned) {
            Ok(reference) => {
                assert!(guest.owned.insert((frame, PageSize::Small)));
                self.take_back_reference(&reference);
                Ok(Outcome::default())
            }
            Err((bug, refused)) => {
                assert_eq!(refused.first().get(), frame);
                Err(bug.into())
            }
        }
    }

    fn swap_in_share(&mut self, who: usize, gfn: u64, frame: u64) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let spot = guest.stage2.find(&self.memory, Gfn::new(gfn))?;
        let share = Share::claim(Hfn::new(frame));
        match guest.stage2.swap_in_share(&mut self.memory, &spot, share) {
            Ok(reference) => {
                *self.shares.get_mut(&frame).unwrap() += 1;
                self.take_back_reference(&reference);
                Ok(Outcome::default())
            }
            Err((bug, refused)) => {
                assert_eq!(refused.frame().get(), frame);
                Err(bug.into())
            }
        }
    }

    /// One more page is to name the slot.
    fn refer(&mut self, slot: u32) -> SlotReference {
        *self.slots.entry(slot).or_insert(0) += 1;
        SlotReference::claim(SwapSlot::new(slot))
    }

    /// One page less names it.
    pub fn take_back_reference(&mut self, reference: &SlotReference) {
        let slot = reference.slot().get();
        let count = self.slots.get_mut(&slot).expect("a reference that nobody gave");
        *count -= 1;
        if *count == 0 {
            self.slots.remove(&slot);
        }
    }
}
