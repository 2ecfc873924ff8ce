//! The table of swap slots: one for each content, whoever has it.
//!
//! Pages that shared a frame share a slot, so a content is stored once, and is loaded once for all of them when its
//! key is still in the index of contents. The number of a slot is what an absent entry of a guest's tables holds.
//!
//! A slot that was never used is the next after the last one that was; one that was freed is in a list through the
//! records. So nothing has to be prepared when a frame is added, and the table has the lowest numbers in use.

mod audit;
mod clean;
mod directory;
mod oldest;
mod record;

use pleat_types::{FrameMemory, Hfn};

use super::error::{Bug, Error};
use directory::Directory;
use record::{Record, Spot};

pub use directory::MAX_SLOTS;
pub use record::{DiskPlace, Location, MAX_REFERENCES, Slot, StagedPlace};

/// Slots by the kind of place that their content is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotCounts {
    /// One word.
    pub filled: u64,
    /// In the pool.
    pub packed: u64,
    /// On the disk.
    pub disk: u64,
    /// On the way there.
    pub staged: u64,
    /// On the disk, and no page's.
    pub clean: u64,
    /// The pages that have all these contents.
    pub references: u64,
}

impl SlotCounts {
    /// Slots that are in use.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        self.filled + self.packed + self.disk + self.staged + self.clean
    }

    const fn kind(&mut self, location: Location) -> &mut u64 {
        match location {
            Location::Filled(_) => &mut self.filled,
            Location::Packed(_) => &mut self.packed,
            Location::Disk(_) => &mut self.disk,
            Location::Staged(_) => &mut self.staged,
            Location::Clean(_) => &mut self.clean,
        }
    }

    fn add(&mut self, location: Location) {
        *self.kind(location) += 1;
    }

    fn subtract(&mut self, location: Location) {
        let count = self.kind(location);
        *count = count.saturating_sub(1);
    }
}

/// What became of a slot when a page left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what the last page leaves has to be freed"]
pub enum Released {
    /// Others have its content.
    Kept,
    /// It is free, and nobody needs what is here any more.
    Last(Location),
}

/// The table.
#[derive(Debug)]
pub struct Slots {
    directory: Directory,
    /// The first slot that was never used.
    fresh: u32,
    /// The first free one before that, plus one.
    free: u32,
    counts: SlotCounts,
    /// Where the search for the oldest in the pool goes on.
    hand: u32,
}

impl Slots {
    /// A table without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            directory: Directory::new(),
            fresh: 0,
            free: 0,
            counts: SlotCounts {
                filled: 0,
                packed: 0,
                disk: 0,
                staged: 0,
                clean: 0,
                references: 0,
            },
            hand: 0,
        }
    }

    /// What is in it.
    #[must_use]
    pub const fn counts(&self) -> &SlotCounts {
        &self.counts
    }

    /// How many slots can be allocated before a frame is needed. Who adds one while there still are some never needs two
    /// for one page: one for its slot and one for its content.
    #[must_use]
    pub fn room(&self) -> u32 {
        // Slots that were freed are as good as those that were never used.
        let used = u32::try_from(self.counts.slots()).unwrap_or(u32::MAX);
        self.directory.capacity().saturating_sub(used)
    }

    /// Whether there is no room for one more slot. One frame may not be enough to change that: two are needed for
    /// the first slots, and now and then later.
    #[must_use]
    pub const fn needs_frame(&self) -> bool {
        self.free == 0 && self.fresh == self.directory.capacity()
    }

    /// Takes a frame, for good. It must not be mapped. [`Error::Full`] if the table is as large as it gets; the
    /// frame is still the caller's then.
    pub fn add_frame<M: FrameMemory>(&mut self, memory: &mut M, frame: Hfn) -> Result<(), Error> {
        self.directory.add(memory, frame)
    }

    /// How many frames the table took.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.directory.frames()
    }

    /// Visits all frames that the table took.
    pub fn for_each_frame<M: FrameMemory>(&self, memory: &M, visit: impl FnMut(Hfn)) {
        self.directory.for_each(memory, visit);
    }

    /// Puts a content into a free slot; the number of that.
    pub fn allocate<M: FrameMemory>(&mut self, memory: &mut M, slot: Slot) -> Result<u32, Error> {
        let is_clean = matches!(slot.location, Location::Clean(_));
        if slot.references == 0 || slot.references > MAX_REFERENCES || is_clean {
            return Err(Bug::BadReferences(slot.references).into());
        }
        let number = self.take(memory)?;
        self.spot(memory, number)?.store(memory, Record::Used(slot));
        self.counts.add(slot.location);
        self.counts.references += u64::from(slot.references);
        Ok(number)
    }

    /// What is in a slot.
    pub fn get<M: FrameMemory>(&self, memory: &M, number: u32) -> Result<Slot, Bug> {
        self.used(memory, number).map(|(_, slot)| slot)
    }

    /// Notes that a content is somewhere else now; where it was.
    pub fn set_location<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        number: u32,
        location: Location,
    ) -> Result<Location, Bug> {
        let (spot, slot) = self.used(memory, number)?;
        if matches!(location, Location::Clean(_)) {
            return Err(Bug::BrokenSlot(number));
        }
        spot.store(memory, Record::Used(Slot { location, ..slot }));
        self.counts.subtract(slot.location);
        self.counts.add(location);
        Ok(slot.location)
    }

    /// One page more has this content.
    pub fn add_reference<M: FrameMemory>(&mut self, memory: &mut M, number: u32) -> Result<(), Error> {
        let (spot, slot) = self.used(memory, number)?;
        if slot.references == MAX_REFERENCES {
            return Err(Error::TooManyReferences);
        }
        let references = slot.references + 1;
        spot.store(memory, Record::Used(Slot { references, ..slot }));
        self.counts.references += 1;
        Ok(())
    }

    /// One page less has this content. If it was the last one the slot is free.
    pub fn release_reference<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        number: u32,
    ) -> Result<Released, Bug> {
        let (spot, slot) = self.used(memory, number)?;
        self.counts.references = self.counts.references.saturating_sub(1);
        if slot.references > 1 {
            let references = slot.references - 1;
            spot.store(memory, Record::Used(Slot { references, ..slot }));
            return Ok(Released::Kept);
        }
        self.vacate(memory, spot, number, slot.location);
        Ok(Released::Last(slot.location))
    }

    /// A slot is free from now on.
    fn vacate<M: FrameMemory>(&mut self, memory: &mut M, spot: Spot, number: u32, location: Location) {
        spot.store(memory, Record::Free(self.free));
        self.free = number + 1;
        self.counts.subtract(location);
    }

    /// The number of a free slot, which is none any more.
    fn take<M: FrameMemory>(&mut self, memory: &M) -> Result<u32, Error> {
        if let Some(number) = self.free.checked_sub(1) {
            let Some(Record::Free(next)) = self.spot(memory, number)?.load(memory) else {
                return Err(Bug::BrokenSlot(number).into());
            };
            self.free = next;
            return Ok(number);
        }
        if self.needs_frame() {
            return Err(Error::Full);
        }
        let number = self.fresh;
        self.fresh += 1;
        Ok(number)
    }

    /// Where the record of a slot lies that was used at least once.
    fn spot<M: FrameMemory>(&self, memory: &M, number: u32) -> Result<Spot, Bug> {
        let spot = self.directory.find(memory, number);
        spot.filter(|_| number < self.fresh).ok_or(Bug::NoSlot(number))
    }

    /// The slot of a content that some page has.
    fn used<M: FrameMemory>(&self, memory: &M, number: u32) -> Result<(Spot, Slot), Bug> {
        let (spot, slot) = self.any(memory, number)?;
        if slot.references > 0 {
            Ok((spot, slot))
        } else {
            Err(Bug::NoSlot(number))
        }
    }

    /// A slot that is not free.
    fn any<M: FrameMemory>(&self, memory: &M, number: u32) -> Result<(Spot, Slot), Bug> {
        let spot = self.spot(memory, number)?;
        match spot.load(memory) {
            Some(Record::Used(slot)) => Ok((spot, slot)),
            Some(Record::Free(_)) => Err(Bug::NoSlot(number)),
            None => Err(Bug::BrokenSlot(number)),
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}
