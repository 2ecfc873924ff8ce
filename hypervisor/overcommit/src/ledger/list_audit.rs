//! The audit of the slab frames and of the lists of sharers in them.
//!
//! Each chunk in use must belong to one list. To find that out without memory for marks, and without
//! looking at all records for each chunk, both sides are summed up as hashes: of the chunks that slab
//! frames have in use, and of those that lists are made of. The sums are equal if these are the same.

use pleat_types::{FrameMemory, Hfn};

use super::Ledger;
use super::buddy::at;
use super::error::Corruption;
use super::record::{FrameRecord, NONE, State};
use super::slab::{Chunk, Class, next_free};

/// What the audit has seen of slab frames so far.
#[derive(Default)]
pub(super) struct SlabTally {
    /// Slab frames with room, by class.
    with_room: [u32; Class::COUNT],
    /// Slab frames as often as they have chunks in use, less as often as a list is in them.
    balance: Balance,
    shares: u64,
}

impl SlabTally {
    /// The sum of the sharers of all frames.
    pub(super) const fn shares(&self) -> u64 {
        self.shares
    }
}

/// A sum of hashes, from which others were subtracted.
#[derive(Default)]
struct Balance(u64);

impl Balance {
    fn add(&mut self, what: u64, times: u64) {
        self.0 = self.0.wrapping_add(hash(what).wrapping_mul(times));
    }

    fn subtract(&mut self, what: u64) {
        self.0 = self.0.wrapping_sub(hash(what));
    }

    fn check(&self) -> Result<(), Corruption> {
        if self.0 == 0 {
            Ok(())
        } else {
            Err(Corruption::BrokenSlabs)
        }
    }
}

/// A number from which every bit of the result depends: the finalizer of SplitMix64 (Steele, Lea, Flood,
/// OOPSLA 2014).
const fn hash(what: u64) -> u64 {
    let what = what.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let what = (what ^ (what >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let what = (what ^ (what >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    what ^ (what >> 31)
}

const fn place(frame: u32, slot: u32) -> u64 {
    (frame as u64) << 32 | slot as u64
}

impl Ledger<'_> {
    /// What the records alone say about slab frames and lists. Of a list of several frames they know the
    /// first one, so those are left to [`Ledger::audit_lists`].
    pub(super) fn tally_slabs(
        &self,
        frame: u32,
        record: &FrameRecord,
        tally: &mut SlabTally,
    ) -> Result<(), Corruption> {
        let hfn = Hfn::new(u64::from(frame));
        let bad = Corruption::BadRecord(hfn);
        if record.is(State::SharerList) {
            let class = record.list_class().ok_or(bad)?;
            let (used, chunks) = (record.used(), class.chunks());
            if used == 0 || used > chunks {
                return Err(bad);
            }
            tally.with_room[at(class.number())] += u32::from(used < chunks);
            if used == chunks && (record.next(), record.previous()) != (NONE, NONE) {
                return Err(bad);
            }
            if class != Class::LAST {
                tally.balance.add(u64::from(frame), u64::from(used));
            }
        }
        if !record.is(State::Shared) {
            return Ok(());
        }
        tally.shares += u64::from(record.sharers());
        if let Some(chunk) = record.chunk() {
            self.slab(chunk).map_err(|_| Corruption::BrokenSharers(hfn))?;
            if chunk.class != Class::LAST {
                tally.balance.subtract(u64::from(chunk.frame));
            }
        }
        Ok(())
    }

    pub(super) fn audit_slabs(&self, tally: &SlabTally) -> Result<(), Corruption> {
        for class in Class::all() {
            let expected = tally.with_room[at(class.number())];
            if self.slabs_with_room(class, expected) != Some(expected) {
                return Err(Corruption::BrokenSlabs);
            }
        }
        tally.balance.check()
    }

    /// The length of the list of slab frames with room, if all on it have some and point back. No more
    /// than `most` are on it, or it is a circle.
    fn slabs_with_room(&self, class: Class, most: u32) -> Option<u32> {
        let (mut frame, mut before, mut length) = (self.slabs.head(class), NONE, 0);
        while frame != NONE {
            let record = self.records.get(at(frame))?;
            let is_slab = record.is(State::SharerList) && record.list_class() == Some(class);
            let belongs = is_slab && record.used() < class.chunks() && record.previous() == before;
            if !belongs || length == most {
                return None;
            }
            (before, frame, length) = (frame, record.next(), length + 1);
        }
        Some(length)
    }

    /// Checks all lists of sharers and all free chunks in the memory of the slab frames. Every shared
    /// frame must have a list by now, with as many pages as share it, or more. To be called after
    /// [`Ledger::audit`] has found nothing.
    pub fn audit_lists<M: FrameMemory>(&self, memory: &M) -> Result<(), Corruption> {
        let mut balance = Balance::default();
        for (frame, record) in (0..).zip(self.records.iter()) {
            if record.is(State::SharerList) {
                self.audit_free_chunks(memory, frame, record, &mut balance)?;
            }
            if record.is(State::Shared) {
                let broken = Corruption::BrokenSharers(Hfn::new(u64::from(frame)));
                self.audit_list(memory, record, &mut balance).ok_or(broken)?;
            }
        }
        balance.check()
    }

    fn audit_free_chunks<M: FrameMemory>(
        &self,
        memory: &M,
        frame: u32,
        record: &FrameRecord,
        balance: &mut Balance,
    ) -> Result<(), Corruption> {
        let broken = Corruption::BrokenSlab(Hfn::new(u64::from(frame)));
        let class = record.list_class().ok_or(broken)?;
        let slots = (0..class.chunks()).map(|n| n * class.granules());
        slots.for_each(|slot| balance.add(place(frame, slot), 1));
        let mut slot = record.first_free();
        for _ in record.used()..class.chunks() {
            if !class.is_slot(slot) {
                return Err(broken);
            }
            // One that is met twice leaves another one unmet: the balance shows that.
            balance.subtract(place(frame, slot));
            slot = next_free(memory, Chunk { frame, slot, class });
        }
        // What ends the list of free chunks is no slot, also when there are none.
        if class.is_slot(slot) { Err(broken) } else { Ok(()) }
    }

    fn audit_list<M: FrameMemory>(
        &self,
        memory: &M,
        record: &FrameRecord,
        balance: &mut Balance,
    ) -> Option<()> {
        let head = record.chunk()?;
        let list = self.list(memory, head).ok()?;
        let is_filled = list.pages(memory).count() == at(list.length());
        let used = head.length(memory);
        let is_tail_empty = (used..head.class.elements()).all(|n| head.get(memory, n).is_none());
        list.chunks()
            .for_each(|chunk| balance.subtract(place(chunk.frame, chunk.slot)));
        let is_long_enough = list.length() >= record.sharers();
        (is_filled && is_tail_empty && is_long_enough).then_some(())
    }
}
