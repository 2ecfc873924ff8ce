//! Pages that leave a guest in batches and ranges: what that means, and how it is done and counted.

use std::collections::BTreeSet;

use super::model::{Model, State, kind, new_cell};
use super::op::Op;
use super::oracle::{FROZEN, View};
use super::world::{Outcome, World, settle};
use crate::codec::Absent;
use crate::discard::Discarded;
use crate::error::Error;
use pleat_types::{Gfn, PageSize};

impl Model {
    pub fn apply_leaving(&mut self, op: &Op) -> Option<()> {
        match op {
            Op::Discard(pages, to) => pages.iter().for_each(|gfn| self.discard(*gfn, *to)),
            Op::Deflate(pages) => pages.iter().for_each(|gfn| self.discard(*gfn, Absent::Untouched)),
            Op::DiscardRange(first, count, to) => self.discard_range(*first, *count, *to)?,
            Op::Promise(first, count) => {
                let range = *first..*first + *count;
                let is_hole = |gfn| self.view(gfn) == View::Absent(0);
                range.clone().all(is_hole).then_some(())?;
                range.for_each(|gfn| self.set_absent(gfn, Absent::Untouched));
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether a page in this state can be changed, and is to be.
    fn is_to_change(view: View, to: Absent) -> Option<bool> {
        let stays_memory = matches!(to, Absent::Untouched | Absent::Ballooned);
        match view {
            View::Mapped { marks, .. } if marks & FROZEN != 0 => None,
            View::Absent(0 | 3) => stays_memory.then_some(false),
            View::Absent(absent) => Some(absent != kind(to)),
            _ => Some(true),
        }
    }

    fn discard_range(&mut self, first: u64, count: u64, to: Absent) -> Option<()> {
        let end = first + count;
        let is_possible = |gfn| Self::is_to_change(self.view(gfn), to).is_some();
        (first..end).all(is_possible).then_some(())?;
        let mut gfn = first;
        while gfn < end {
            let mut frames = 1;
            if Self::is_to_change(self.view(gfn), to) == Some(true) {
                self.cut(gfn, end);
                if let Some((key, _)) = self.cell(gfn) {
                    frames = key.1.frames();
                    self.cells.remove(&key);
                }
                (gfn..gfn + frames).for_each(|gfn| self.set_absent(gfn, to));
            }
            gfn += frames;
        }
        Some(())
    }

    /// One page, out of whatever holds it.
    fn discard(&mut self, gfn: u64, to: Absent) {
        self.cut(gfn, gfn + 1);
        self.set_absent(gfn, to);
    }

    /// Splits what holds a page until it lies before `end`.
    fn cut(&mut self, gfn: u64, end: u64) {
        while let Some(((first, size), _)) = self.cell(gfn)
            && size != PageSize::Small
            && (first < gfn || first + size.frames() > end)
        {
            self.split(gfn).expect("a large page that can be split");
        }
    }

    fn set_absent(&mut self, gfn: u64, to: Absent) {
        self.unseen.remove(&gfn);
        let state = match to {
            Absent::Untouched => {
                self.cells.remove(&(gfn, PageSize::Small));
                return;
            }
            Absent::Ballooned => State::Ballooned,
            Absent::Hole => State::Unplugged,
            Absent::Device => panic!("not in these tests"),
        };
        self.cells.insert((gfn, PageSize::Small), new_cell(state));
    }

    /// The blocks that are split when the pages in this range leave.
    fn blocks_cut_by(&self, first: u64, end: u64) -> BTreeSet<u64> {
        let ends = [first, end - 1].into_iter();
        ends.filter(|gfn| {
            self.cell(*gfn).is_some_and(|((base, size), _)| {
                size != PageSize::Small && (base < first || base + size.frames() > end)
            })
        })
        .collect()
    }
}

impl World {
    pub fn perform_leaving(&mut self, who: usize, op: &Op) -> Result<Outcome, Error> {
        match op {
            Op::Discard(pages, to) => self.discard(who, pages, *to, op),
            Op::Deflate(pages) => self.discard(who, pages, Absent::Untouched, op),
            Op::DiscardRange(first, count, to) => self.discard_range(who, *first, *count, *to),
            Op::Promise(first, count) => {
                let stage2 = &mut self.guests[who].stage2;
                stage2.promise(&mut self.memory, Gfn::new(*first), *count)?;
                Ok(Outcome::default())
            }
            _ => panic!("{op:?}"),
        }
    }

    fn discard(&mut self, who: usize, pages: &[u64], to: Absent, op: &Op) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let gfns: std::vec::Vec<_> = pages.iter().map(|gfn| Gfn::new(*gfn)).collect();
        let is_deflate = matches!(op, Op::Deflate(_));
        let done = if is_deflate {
            guest.stage2.deflate(&mut self.memory, &gfns)?
        } else {
            guest.stage2.discard(&mut self.memory, &gfns, to)?
        };
        let changed = self.check_counts(who, pages, to, is_deflate, &done);
        for gfn in &changed {
            self.split_owned(who, *gfn, *gfn + 1);
        }
        self.guests[who].effective = Some(Op::Discard(changed, to));
        Ok(settle(done.pending))
    }

    /// Goes through the batch page by page, believes the tables only which pages were kept, and wants a reason for
    /// that. Returns the pages that have changed.
    fn check_counts(
        &self,
        who: usize,
        pages: &[u64],
        to: Absent,
        is_deflate: bool,
        done: &Discarded,
    ) -> std::vec::Vec<u64> {
        let guest = &self.guests[who];
        let mut model = guest.model.clone();
        let (mut changed, mut kept, mut refused) = (std::vec::Vec::new(), 0, 0);
        for gfn in pages {
            let view = model.view(*gfn);
            let is_ram = !matches!(view, View::Absent(0 | 3));
            let is_wanted = if is_deflate {
                view == View::Absent(2)
            } else {
                is_ram
            };
            if !is_wanted {
                refused += 1;
                continue;
            }
            if view == View::Absent(kind(to)) {
                continue;
            }
            let now = super::oracle::view(&self.memory, guest.stage2.root(), *gfn);
            if now == View::Absent(kind(to)) {
                changed.push(*gfn);
                model.discard(*gfn, to);
            } else {
                kept += 1;
                let is_frozen = matches!(view, View::Mapped { marks, .. } if marks & FROZEN != 0);
                let (_, _, _, level) = super::oracle::place(&self.memory, guest.stage2.root(), *gfn).unwrap();
                let is_short = self.memory.allocations_left == Some(0) && level > 0;
                assert!(is_frozen || is_short, "{gfn:#x} is kept: {view:x?}");
            }
        }
        let counts = (changed.len() as u64, kept, refused);
        assert_eq!(
            (done.released, done.kept, done.refused),
            counts,
            "{pages:?} {to:?}"
        );
        changed
    }

    fn discard_range(&mut self, who: usize, first: u64, count: u64, to: Absent) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let done = guest
            .stage2
            .discard_range(&mut self.memory, Gfn::new(first), count, to)?;
        let next = done.next.get();
        assert!(first < next && next <= first + count);
        let is_changed = |gfn: &u64| Model::is_to_change(guest.model.view(*gfn), to).unwrap();
        let changed = (first..next).filter(is_changed).count();
        assert_eq!(done.released, changed as u64);
        self.split_owned(who, first, next);
        self.guests[who].effective = Some(Op::DiscardRange(first, next - first, to));
        Ok(settle(done.pending))
    }

    /// The ends of a range have cut the blocks that they lie in.
    fn split_owned(&mut self, who: usize, first: u64, end: u64) {
        let guest = &mut self.guests[who];
        // Once for each size.
        let mut model = guest.model.clone();
        loop {
            let cut = model.blocks_cut_by(first, end);
            let Some(gfn) = cut.first() else { break };
            let ((base, size), _) = model.cell(*gfn).unwrap();
            let View::Mapped { frame, .. } = model.view(base) else {
                panic!("{base:#x} is not mapped")
            };
            model.split(*gfn).unwrap();
            let part = if size == PageSize::Huge {
                PageSize::Large
            } else {
                PageSize::Small
            };
            // A page before this one may have cut it.
            if guest.owned.remove(&(frame, size)) {
                let parts = (0..512).map(|n| (frame + n * part.frames(), part));
                guest.owned.extend(parts);
            }
        }
    }
}
