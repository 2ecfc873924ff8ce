//! The model of frames that pages share, and of contents that are in none.

use super::model::{Cell, Model, State, new_cell};
use super::op::{Offer, Op};
use pleat_types::PageSize;

impl Model {
    pub(super) fn apply_swapping(&mut self, op: &Op) -> Option<()> {
        let (Op::SwapOut(gfn, _) | Op::SwapOutShare(gfn, _) | Op::SwapIn(gfn, _) | Op::SwapInShare(gfn, _)) =
            *op
        else {
            return None;
        };
        let new = match (op, self.cells.get(&(gfn, PageSize::Small))?.state) {
            (Op::SwapOut(_, slot), State::Frozen(_)) | (Op::SwapOutShare(_, slot), State::Shared(_)) => {
                State::Swapped(*slot)
            }
            (Op::SwapIn(_, frame), State::Swapped(_)) => State::Owned(*frame),
            (Op::SwapInShare(_, frame), State::Swapped(_)) => State::Shared(*frame),
            _ => return None,
        };
        self.unseen.remove(&gfn);
        let is_back = !matches!(new, State::Swapped(_));
        let cell = Cell {
            accessed: is_back,
            ..new_cell(new)
        };
        self.cells.insert((gfn, PageSize::Small), cell);
        Some(())
    }

    pub(super) fn apply_sharing(&mut self, op: &Op) -> Option<()> {
        let (Op::Freeze(gfn)
        | Op::Thaw(gfn)
        | Op::Share(gfn)
        | Op::MergeInto(gfn, _)
        | Op::MergeIntoZero(gfn)
        | Op::Part(gfn, _)) = *op
        else {
            return None;
        };
        let old = *self.cells.get(&(gfn, PageSize::Small))?;
        let merged = |state| Cell {
            accessed: old.accessed,
            age: old.age,
            ..new_cell(state)
        };
        let new = match (op, old.state) {
            (Op::Freeze(_), State::Owned(frame)) => Cell {
                state: State::Frozen(frame),
                ..old
            },
            (Op::Thaw(_), State::Frozen(frame)) => Cell {
                state: State::Owned(frame),
                ..old
            },
            (Op::Share(_), State::Frozen(frame)) => merged(State::Shared(frame)),
            (Op::MergeInto(_, frame), State::Frozen(_)) => merged(State::Shared(*frame)),
            (Op::MergeIntoZero(_), State::Frozen(_)) => merged(State::Zero),
            (Op::Part(_, Offer::Copy(frame)), State::Shared(_)) => new_cell(State::Owned(*frame)),
            (Op::Part(_, Offer::Same), State::Shared(frame)) => merged(State::Owned(frame)),
            _ => return None,
        };
        if !matches!(new.state, State::Owned(_) | State::Frozen(_)) {
            self.unseen.remove(&gfn);
        }
        self.cells.insert((gfn, PageSize::Small), new);
        Some(())
    }
}
