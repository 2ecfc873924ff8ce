//! A store with a disk in the test's own memory.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use crate::ledger::{Key, Owner};
use crate::swap::tests::Numbers;
use crate::swap::tests::memory::Memory;
use crate::swap::{Coming, Direction, DiskError, DiskPlan, DiskRequest, NotHad, NotKept, Step, Store};
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Gfn, GuestId, Hfn, SlotReference, SwapSlot};

pub type Page = [u8; FRAME_SIZE];

/// The frame that pages give up.
const PAGE: Hfn = Hfn::new(0);

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// What was asked for; bad blocks fail.
    Done,
    /// Only so many blocks.
    Torn(usize),
    /// Success is reported and nothing was written.
    LostWrite,
    /// A bit of the first block flips on its way from the disk.
    Flipped(usize),
    /// This, and nothing was moved.
    Failed(DiskError),
}

/// The disk.
pub struct FakeDisk {
    pub blocks: Vec<Page>,
    pub bad: BTreeSet<u32>,
    pub pending: Option<DiskRequest>,
}

impl FakeDisk {
    /// Moves the blocks of a request up to the first that cannot be.
    fn perform(&mut self, memory: &mut Memory, request: &DiskRequest, fate: Fate) -> Result<(), DiskError> {
        let count = match fate {
            Fate::Failed(error) => return Err(error),
            Fate::LostWrite if request.direction == Direction::Write => return Ok(()),
            Fate::Torn(count) => count,
            Fate::Done | Fate::LostWrite | Fate::Flipped(_) => usize::MAX,
        };
        for (n, (block, frame)) in (request.first..).zip(&request.frames).enumerate() {
            if self.bad.contains(&block) {
                return Err(DiskError::BadSector);
            }
            if n == count {
                return Err(DiskError::Transfer);
            }
            let block = &mut self.blocks[usize::try_from(block).unwrap()];
            match request.direction {
                Direction::Read => memory.overwrite(*frame, block),
                Direction::Write => memory.read_frame(*frame, block),
            }
        }
        if let (Fate::Flipped(bit), Direction::Read) = (fate, request.direction) {
            memory.flip(request.frames[0], bit);
        }
        Ok(())
    }
}

/// All of it.
pub struct World {
    pub store: Store,
    pub memory: Memory,
    pub disk: FakeDisk,
    free: Vec<Hfn>,
}

impl World {
    /// A pool of so many frames, and a disk of so many blocks; 0 is none.
    pub fn new(pool: u64, blocks: u32, clean_frames: usize) -> Self {
        let frames = 400;
        let mut world = Self {
            store: Store::new(),
            memory: Memory::new(frames),
            disk: FakeDisk {
                blocks: vec![[0xdd; FRAME_SIZE]; usize::try_from(blocks).unwrap()],
                bad: BTreeSet::new(),
                pending: None,
            },
            free: (1..frames as u64).rev().map(Hfn::new).collect(),
        };
        world.store.begin([1; 32], pool);
        if blocks > 0 {
            let plan = DiskPlan { blocks, clean_frames };
            let before = world.free.len();
            let free = &mut world.free;
            world
                .store
                .begin_disk(&mut world.memory, [2; 32], plan, || free.pop())
                .unwrap();
            assert_eq!(before - world.free.len(), plan.frames());
        }
        world
    }

    pub fn keep(&mut self, content: &Page, page: Option<Owner>) -> Result<SlotReference, NotKept> {
        while self.store.wants_frame()
            && let Some(frame) = self.free.pop()
        {
            self.store.offer(frame).unwrap();
        }
        self.memory.overwrite(PAGE, content);
        self.store
            .keep(&mut self.memory, &FrozenFrame::claim(PAGE), Key(0), page)
    }

    pub fn content(&mut self, slot: SwapSlot) -> Result<Page, NotHad> {
        self.store.content(&self.memory, slot).copied()
    }

    pub fn want(&mut self, slot: SwapSlot) -> Coming {
        self.store.want(&self.memory, slot).unwrap()
    }

    pub fn release(&mut self, reference: SlotReference) {
        let freed = self.store.release(&mut self.memory, reference).unwrap();
        self.free.extend(freed);
    }

    pub fn release_returned(&mut self, reference: SlotReference, page: Owner) {
        let freed = self
            .store
            .release_returned(&mut self.memory, reference, page)
            .unwrap();
        self.free.extend(freed);
    }

    pub fn write_back(&mut self) -> Step {
        let step = self.store.write_back(&mut self.memory).unwrap();
        if let Step::Freed(frame) = step {
            self.free.push(frame);
        }
        step
    }

    pub fn compact(&mut self) {
        if let Step::Freed(frame) = self.store.compact(&mut self.memory).unwrap() {
            self.free.push(frame);
        }
    }

    /// Gives the disk the next request, if there is one; which.
    pub fn issue(&mut self) -> Option<DiskRequest> {
        let request = self.store.next_request(&mut self.memory).unwrap()?;
        assert!(self.disk.pending.is_none(), "one request at a time");
        self.disk.pending = Some(request.clone());
        Some(request)
    }

    /// The request that is under way ends.
    pub fn finish(&mut self, fate: Fate) {
        let Some(request) = self.disk.pending.take() else {
            return;
        };
        let result = self.disk.perform(&mut self.memory, &request, fate);
        self.store.finished(&mut self.memory, result).unwrap();
        self.store.audit(&self.memory).unwrap();
    }

    /// The disk does all that is due, and what is waiting.
    pub fn settle(&mut self) {
        self.finish(Fate::Done);
        self.store.hurry();
        while self.issue().is_some() {
            self.finish(Fate::Done);
        }
    }

    /// Reads it from wherever it is.
    pub fn fetch(&mut self, slot: SwapSlot) -> Result<Page, NotHad> {
        loop {
            while self.want(slot) != Coming::Here {
                self.issue();
                self.finish(Fate::Done);
            }
            match self.content(slot) {
                // It is read a second time.
                Err(NotHad::OnDisk(_)) => {}
                had => return had,
            }
        }
    }

    pub fn audit(&self) {
        self.store.audit(&self.memory).unwrap();
        let mut frames = BTreeSet::new();
        let visit = |frame| assert!(frames.insert(frame), "{frame} is there twice");
        self.store.for_each_frame(&self.memory, visit).unwrap();
        assert_eq!(frames.len() + self.free.len() + 1, 400, "a frame is lost");
        assert!(self.free.iter().all(|frame| !frames.contains(frame)));
    }
}

/// Nobody can pack it.
pub fn noise(seed: u64) -> Page {
    Numbers(seed).bytes(FRAME_SIZE).try_into().unwrap()
}

/// It packs to a little less than half: two fit in a frame.
pub fn half(seed: u64) -> Page {
    partly(seed, FRAME_SIZE / 2 - 160)
}

/// It packs to a little more than so many bytes.
pub fn partly(seed: u64, noisy: usize) -> Page {
    let mut page = noise(seed);
    page[noisy..].fill(7);
    page
}

pub fn page(guest: u16, gfn: u64) -> Owner {
    Owner {
        guest: GuestId(guest),
        gfn: Gfn::new(gfn),
    }
}
