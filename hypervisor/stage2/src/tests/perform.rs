//! The operations, done.

use std::vec;
use std::vec::Vec;

use arrayvec::ArrayVec;

use super::memory::FakeMemory;
use super::model::Swept;
use super::op::{Offer, Op, Way, ZERO, owe};
use super::oracle::{self, AGE, View};
use super::world::{Outcome, World, settle};
use crate::age::Ages;
use crate::codec::Level;
use crate::error::{Bug, Error, Refused};
use crate::flush::Retired;
use crate::share::Parted;
use crate::table::Page;
use pleat_types::{Gfn, Hfn, OwnedFrame, PageSize, Share};

impl World {
    pub fn perform(&mut self, who: usize, op: &Op) -> Result<Outcome, Error> {
        let memory = &mut self.memory;
        let stage2 = &mut self.guests[who].stage2;
        match *op {
            Op::Zero(gfn) => stage2.map_zero(memory, Gfn::new(gfn)).map(done),
            Op::Unique(gfn, frame, way) => self.map_unique(who, gfn, frame, way),
            Op::Block(gfn, frame, size) => {
                let frame = OwnedFrame::claim(Hfn::new(frame), size);
                let key = (frame.first().get(), size);
                let result = match size {
                    PageSize::Huge => stage2.map_huge(memory, Gfn::new(gfn), frame),
                    _ => stage2.map_large(memory, Gfn::new(gfn), frame),
                };
                self.own(who, key, result.map(done))
            }
            Op::Split(gfn) => self.split(who, gfn),
            Op::Collapse(gfn) => self.collapse(who, gfn),
            Op::Gather(first, block) => self.gather(who, first, block),
            Op::Fold(gfn, size) => stage2.fold(memory, Gfn::new(gfn), size).map(settle),
            Op::Unmap(gfn, size, to) => stage2.unmap(memory, Gfn::new(gfn), size, to).map(settle),
            Op::Reclassify(gfn, from, to) => stage2.reclassify(memory, Gfn::new(gfn), from, to).map(done),
            Op::Use(gfn, is_write) => Ok(self.touch(who, gfn, is_write)),
            Op::Age(budget) => Ok(self.age(who, budget)),
            Op::Sweep(from, end) => Ok(self.sweep(who, from, end)),
            Op::TakeAccessed(gfn) => Ok(self.take_accessed(who, gfn)),
            Op::MarkWritten(gfn) => Ok(stage2.mark_written(memory, Gfn::new(gfn)).map(done)?),
            Op::OweCalm(gfn) => Ok(stage2.owe_calm(memory, Gfn::new(gfn)).map(done)?),
            Op::Freeze(gfn) => {
                let (frozen, pending) = stage2.freeze(memory, Gfn::new(gfn))?;
                assert_eq!(
                    (frozen.gfn().get(), frozen.vouch().frame()),
                    (gfn, frozen.frame())
                );
                self.guests[who].frozen.insert(gfn, frozen);
                Ok(settle(pending))
            }
            Op::Discard(..) | Op::Deflate(_) | Op::DiscardRange(..) | Op::Promise(..) => {
                self.perform_leaving(who, op)
            }
            Op::SwapOut(..) | Op::SwapOutShare(..) | Op::SwapIn(..) | Op::SwapInShare(..) => {
                self.perform_swapping(who, op)
            }
            _ => self.perform_sharing(who, op),
        }
    }

    fn perform_sharing(&mut self, who: usize, op: &Op) -> Result<Outcome, Error> {
        let memory = &mut self.memory;
        let guest = &mut self.guests[who];
        let mut frozen = |gfn| guest.frozen.remove(&gfn).ok_or(Bug::WrongState(Gfn::new(gfn)));
        match *op {
            Op::Thaw(gfn) => Ok(guest.stage2.thaw(memory, frozen(gfn)?).map(done)?),
            Op::Share(gfn) => {
                let frame = guest.stage2.share(memory, frozen(gfn)?)?;
                assert!(guest.owned.remove(&(frame.first().get(), frame.size())));
                assert_eq!(self.shares.insert(frame.first().get(), 1), None);
                Ok(Outcome::default())
            }
            Op::MergeInto(gfn, frame) => {
                let share = Share::claim(Hfn::new(frame));
                let pending = guest.stage2.merge_into(memory, frozen(gfn)?, share)?;
                *self.shares.get_mut(&frame).unwrap() += 1;
                Ok(settle(pending))
            }
            Op::MergeIntoZero(gfn) => {
                let pending = guest.stage2.merge_into_zero(memory, frozen(gfn)?)?;
                Ok(settle(pending))
            }
            Op::Part(gfn, offer) => self.part(who, gfn, offer),
            _ => panic!("{op:?}"),
        }
    }

    fn part(&mut self, who: usize, gfn: u64, offer: Offer) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let mut told = None;
        let parting = guest
            .stage2
            .part(&mut self.memory, Gfn::new(gfn), |memory, shared| {
                assert!(memory.take_log().is_empty(), "stored before there was a copy");
                told = Some(shared.get());
                offered(offer, shared)
            });
        assert_eq!(told, guest.model.shared_frame(gfn));
        let parting = parting.ok_or(Bug::WrongState(Gfn::new(gfn)))?;
        let mut flushed = None;
        let share = parting.settle(|eptp| flushed = Some(eptp));
        assert_eq!(Some(share.frame().get()), told);
        if let Offer::Copy(frame) = offer {
            assert_eq!(flushed, Some(guest.stage2.eptp()));
            assert!(guest.owned.insert((frame, PageSize::Small)));
            return Ok(Outcome {
                is_flushed: true,
                retired: vec![Retired::Share(share)],
            });
        }
        assert_eq!(flushed, None);
        assert!(guest.owned.insert((share.frame().get(), PageSize::Small)));
        self.take_back_share(share.frame());
        assert!(!self.shares.contains_key(&share.frame().get()));
        Ok(Outcome::default())
    }

    fn gather(&mut self, who: usize, first: u64, block: u64) -> Result<Outcome, Error> {
        let (memory, guest) = (&mut self.memory, &mut self.guests[who]);
        let expected = guest.model.owned_frames(first);
        let gfn = Gfn::new(first);
        assert_eq!(guest.stage2.is_gatherable(memory, gfn)?, expected.is_some());
        let mut found = Vec::new();
        let visit = |_: &mut FakeMemory, frame: Hfn| found.push(frame.get());
        assert_eq!(guest.stage2.gather(memory, gfn, visit)?, expected.is_some());
        assert!(memory.take_log().is_empty(), "stored before there was a copy");
        assert_eq!(found, expected.unwrap_or_default());
        let frame = OwnedFrame::claim(Hfn::new(block), PageSize::Large);
        let result = guest.stage2.replace_by_block(memory, gfn, frame);
        self.own(who, (block, PageSize::Large), result.map(settle))
    }

    fn map_unique(&mut self, who: usize, gfn: u64, frame: u64, way: Way) -> Result<Outcome, Error> {
        let (memory, stage2) = (&mut self.memory, &mut self.guests[who].stage2);
        let frame = OwnedFrame::claim(Hfn::new(frame), PageSize::Small);
        let key = (frame.first().get(), frame.size());
        let result = match way {
            Way::Walk => stage2.map_unique(memory, Gfn::new(gfn), frame),
            Way::Spot => {
                let spot = stage2.find(memory, Gfn::new(gfn))?;
                stage2.map_unique_at(memory, spot, frame)
            }
        };
        self.own(who, key, result.map(settle))
    }

    fn own(
        &mut self,
        who: usize,
        key: (u64, PageSize),
        result: Result<Outcome, Refused>,
    ) -> Result<Outcome, Error> {
        match result {
            Ok(outcome) => {
                assert!(self.guests[who].owned.insert(key));
                Ok(outcome)
            }
            Err(refused) => {
                assert_eq!((refused.frame.first().get(), refused.frame.size()), key);
                Err(refused.error)
            }
        }
    }

    fn split(&mut self, who: usize, gfn: u64) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let whole = guest.stage2.lookup(&self.memory, Gfn::new(gfn)).unwrap();
        let outcome = settle(guest.stage2.split(&mut self.memory, Gfn::new(gfn))?);
        let Page::Unique(frame) = whole.page else {
            panic!("{whole:?}")
        };
        let (size, part) = match whole.level.page_size() {
            Some(PageSize::Huge) => (PageSize::Huge, PageSize::Large),
            _ => (PageSize::Large, PageSize::Small),
        };
        let first = frame.get() - gfn % size.frames();
        assert!(guest.owned.remove(&(first, size)));
        let parts = (0..512).map(|n| (first + n * part.frames(), part));
        guest.owned.extend(parts);
        Ok(outcome)
    }

    fn collapse(&mut self, who: usize, gfn: u64) -> Result<Outcome, Error> {
        let guest = &mut self.guests[who];
        let outcome = settle(guest.stage2.collapse(&mut self.memory, Gfn::new(gfn))?);
        let first = Gfn::new(gfn - gfn % 512);
        let mapping = guest.stage2.lookup(&self.memory, first).unwrap();
        let Page::Unique(first) = mapping.page else {
            panic!("{mapping:?}")
        };
        (0..512).for_each(|n| assert!(guest.owned.remove(&(first.get() + n, PageSize::Small))));
        guest.owned.insert((first.get(), PageSize::Large));
        Ok(outcome)
    }

    /// The processor's part: it sets bits where the mapping allows the access, unless it holds a
    /// translation that says that they are set.
    fn touch(&mut self, who: usize, gfn: u64, is_write: bool) -> Outcome {
        let guest = &mut self.guests[who];
        let is_cached = match guest.cached.get(&gfn) {
            Some(View::Mapped {
                is_writable, dirty, ..
            }) => !is_write || (*is_writable && *dirty),
            _ => false,
        };
        if is_cached {
            return Outcome::default();
        }
        let root = guest.stage2.root();
        for (table, index) in oracle::links(&self.memory, root, gfn).collect::<Vec<_>>() {
            self.memory.set_bits(table, index, 0x100);
        }
        let (table, index, _, _) = oracle::place(&self.memory, root, gfn).expect("broken tables");
        self.memory
            .set_bits(table, index, if is_write { 0x300 } else { 0x100 });
        guest.cached.insert(gfn, oracle::view(&self.memory, root, gfn));
        Outcome::default()
    }

    fn age(&mut self, who: usize, budget: usize) -> Outcome {
        let guest = &self.guests[who];
        let mut ages = Ages::default();
        let mut outcome = Outcome::default();
        let mut next = Some(Gfn::new(0));
        while let Some(first) = next {
            let memory = &mut self.memory;
            let aged = guest.stage2.age(memory, first, budget, &mut ages).unwrap();
            next = aged.next;
            outcome.is_flushed |= settle(aged.pending).is_flushed;
        }
        let mut model = guest.model.clone();
        model.apply(&Op::Age(budget));
        assert_eq!(ages, model.ages());
        outcome
    }

    fn sweep(&mut self, who: usize, from: u64, end: u64) -> Outcome {
        let guest = &mut self.guests[who];
        let mut outcome = Outcome::default();
        let mut swept = Swept::default();
        let mut next = Some(Gfn::new(from));
        while let Some(first) = next {
            let mut calm = ArrayVec::new();
            let owe = |frame: Hfn| owe(frame.get());
            let end = Gfn::new(end);
            let sweep = guest
                .stage2
                .sweep(&mut self.memory, first, end, &mut calm, owe)
                .unwrap();
            assert!(sweep.next.is_none() || calm.is_full());
            next = sweep.next;
            swept.looked_at += sweep.looked_at;
            swept.written += sweep.written;
            swept.rewritten += sweep.rewritten;
            swept.owing += sweep.owing;
            swept.calm.extend(calm);
            outcome.is_flushed |= settle(sweep.pending).is_flushed;
        }
        guest.swept = swept;
        outcome
    }

    fn take_accessed(&mut self, who: usize, gfn: u64) -> Outcome {
        let stage2 = &self.guests[who].stage2;
        let at = |memory: &FakeMemory| oracle::place_at(memory, stage2.root(), gfn, 1).unwrap();
        let (table, index, raw, level) = at(&self.memory);
        let expected = match (raw & 7, raw & 0x80) {
            (0, _) => false,
            (_, 0) => raw & 0x100 != 0,
            _ => raw & 0x200 != 0 || raw >> 52 & !AGE != 0,
        };
        let touched = stage2.take_accessed(&mut self.memory, Gfn::new(gfn)).unwrap();
        let reach = Level::ALL[usize::try_from(level).unwrap()].frames();
        assert_eq!(touched.is_touched, expected);
        assert_eq!(touched.next.get(), gfn - gfn % reach + reach);
        let (_, _, now, _) = at(&self.memory);
        let is_link = raw & 0x87 == 7;
        assert_eq!(now, if is_link { raw & !0x100 } else { raw });
        assert_eq!(self.memory.raw(table, index), Some(now));
        // What the caller does after the last region.
        Outcome {
            is_flushed: true,
            retired: Vec::new(),
        }
    }
}

fn offered(offer: Offer, shared: Hfn) -> Option<Parted> {
    let copy = |frame, size| Some(Parted::Copy(OwnedFrame::claim(Hfn::new(frame), size)));
    match offer {
        Offer::Copy(frame) => copy(frame, PageSize::Small),
        Offer::Same => Some(Parted::Same),
        Offer::Large(frame) => copy(frame, PageSize::Large),
        Offer::Original => copy(shared.get(), PageSize::Small),
        Offer::Zero => copy(ZERO, PageSize::Small),
        Offer::Nothing => None,
    }
}

fn done((): ()) -> Outcome {
    Outcome::default()
}
