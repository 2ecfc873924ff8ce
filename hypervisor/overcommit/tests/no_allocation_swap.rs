//! The swap store is what the hypervisor falls back on when there is no memory: packing, storing, loading,
//! compacting, writing to a disk, reading from it and auditing ask nobody for any. Counted, over everything that it can do.

#![forbid(unsafe_code)]

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use pleat_overcommit::ledger::Owner;
use pleat_overcommit::merge::Key;
use pleat_overcommit::swap::{
    self, Cipher, Coming, Compressor, Content, Direction, DiskError, DiskPlace, DiskPlan, Error,
    Fingerprinter, Location, Place, Pool, Released, Slot, Slots, StagedPlace, Step, fill, unpack,
};
use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Gfn, GuestId, Hfn, Hpa, SlotReference};

const FRAMES: usize = 64;

/// Frames, and a stack of those that are free.
struct Memory<const FRAMES: usize> {
    frames: Box<[[u8; FRAME_SIZE]; FRAMES]>,
    free: [Hfn; FRAMES],
    count: usize,
}

fn at(frame: Hfn) -> usize {
    usize::try_from(frame.get()).unwrap()
}

impl<const FRAMES: usize> Memory<FRAMES> {
    fn new() -> Self {
        Self {
            frames: Box::new([[0; FRAME_SIZE]; FRAMES]),
            free: core::array::from_fn(|frame| Hfn::new(frame as u64)),
            count: FRAMES,
        }
    }

    fn take(&mut self) -> Option<Hfn> {
        self.count = self.count.checked_sub(1)?;
        Some(self.free[self.count])
    }

    fn give(&mut self, frame: Hfn) {
        self.free[self.count] = frame;
        self.count += 1;
    }
}

impl<const FRAMES: usize> FrameMemory for Memory<FRAMES> {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]) {
        *out = self.frames[at(frame)];
    }

    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE] {
        &self.frames[at(frame.frame())]
    }

    fn zero_frame(&mut self, frame: Hfn) {
        self.frames[at(frame)].fill(0);
    }

    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        self.frames[at(to)] = self.frames[at(from)];
    }

    fn read(&self, from: Hpa, out: &mut [u8]) {
        let frame = &self.frames[at(from.hfn())];
        out.copy_from_slice(&frame[from.frame_offset()..][..out.len()]);
    }

    fn write(&mut self, to: Hpa, bytes: &[u8]) {
        let frame = &mut self.frames[at(to.hfn())];
        frame[to.frame_offset()..][..bytes.len()].copy_from_slice(bytes);
    }

    fn load_entry(&self, table: Hfn, entry: usize) -> u64 {
        let (words, _) = self.frames[at(table)].as_chunks::<8>();
        u64::from_le_bytes(words[entry])
    }

    fn store_entry(&mut self, table: Hfn, entry: usize, value: u64) {
        let (words, _) = self.frames[at(table)].as_chunks_mut::<8>();
        words[entry] = value.to_le_bytes();
    }
}

/// The store as a host would have it: in statics.
struct Store {
    compressor: Compressor,
    pool: Pool,
    slots: Slots,
    fingerprinter: Fingerprinter,
    memory: Memory<FRAMES>,
}

/// The n-th page: one word, or words that look random up to somewhere.
fn page(n: usize) -> [u8; FRAME_SIZE] {
    let mut page = [0; FRAME_SIZE];
    fill(n as u64, &mut page);
    let noise = n * 97 % (FRAME_SIZE + 1);
    for (at, byte) in page[..noise].iter_mut().enumerate() {
        let mixed = (at + 1).wrapping_mul((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        *byte = mixed.to_be_bytes()[0];
    }
    page
}

impl Store {
    /// Stores the n-th page; `None` without room.
    fn store(&mut self, n: usize) -> Option<u32> {
        let page = page(n);
        while self.slots.needs_frame() {
            let frame = self.memory.take()?;
            self.slots.add_frame(&mut self.memory, frame).unwrap();
        }
        let mut slot = Slot {
            location: Location::Filled(0),
            references: 2,
            stamp: 0,
            key: Key(0),
            fingerprint: self.fingerprinter.of(&page),
        };
        let number = self.slots.allocate(&mut self.memory, slot).ok()?;
        slot.location = match self.compressor.pack(&page) {
            Content::Filled(word) => Location::Filled(word),
            Content::Incompressible => Location::Disk(DiskPlace {
                block: number,
                write: 0,
            }),
            Content::Packed(bytes) => {
                let mut donor = self.memory.take();
                let stored = self.pool.store(&mut self.memory, number, bytes, &mut donor);
                if let Some(frame) = donor {
                    self.memory.give(frame);
                }
                match stored {
                    Ok(place) => Location::Packed(place),
                    Err(Error::Full) => Location::Staged(StagedPlace { buffer: 0, write: 0 }),
                    Err(error) => panic!("{error}"),
                }
            }
        };
        self.slots
            .set_location(&mut self.memory, number, slot.location)
            .unwrap();
        Some(number)
    }

    /// Loads the content of a slot and frees it.
    fn load(&mut self, number: u32) {
        let (mut page, mut packed) = ([0; FRAME_SIZE], [0; FRAME_SIZE]);
        let slot = self.slots.get(&self.memory, number).unwrap();
        match slot.location {
            Location::Filled(word) => fill(word, &mut page),
            Location::Packed(place) => {
                let length = self.pool.load(&self.memory, place, &mut packed).unwrap();
                unpack(&packed[..length], &mut page).unwrap();
                self.free(place);
            }
            Location::Disk(_) | Location::Staged(_) | Location::Clean(_) => page = [0; FRAME_SIZE],
        }
        if matches!(slot.location, Location::Filled(_) | Location::Packed(_)) {
            assert_eq!(self.fingerprinter.of(&page), slot.fingerprint);
        }
        let released = [(); 2].map(|()| self.slots.release_reference(&mut self.memory, number));
        assert_eq!(released, [Ok(Released::Kept), Ok(Released::Last(slot.location))]);
    }

    fn free(&mut self, place: Place) {
        if let Some(frame) = self.pool.free(&mut self.memory, place).unwrap() {
            self.memory.give(frame);
        }
    }

    fn compact(&mut self) {
        let slots = &mut self.slots;
        while let Step::Freed(frame) = self
            .pool
            .compact(&mut self.memory, |memory, slot, _, to| {
                slots.set_location(memory, slot, Location::Packed(to)).map(|_| ())
            })
            .unwrap()
        {
            self.memory.give(frame);
        }
    }

    fn audit(&self) {
        self.pool.audit(&self.memory).unwrap();
        self.slots.audit(&self.memory).unwrap();
        let mut frames = 0;
        self.pool.for_each_frame(&self.memory, |_| frames += 1).unwrap();
        self.slots.for_each_frame(&self.memory, |_| frames += 1);
        assert_eq!(frames + self.memory.count, FRAMES);
    }
}

/// Fills it until it is full, frees every third and every other content, compacts, fills it again, empties it.
fn use_it(store: &mut Store, numbers: &mut [Option<u32>; 300]) {
    for round in 0..3 {
        for (n, number) in numbers.iter_mut().enumerate() {
            if number.is_none() {
                *number = store.store(n + round);
            }
        }
        for step in [3, 2] {
            for number in numbers.iter_mut().step_by(step) {
                if let Some(number) = number.take() {
                    store.load(number);
                }
            }
            store.compact();
            store.audit();
        }
    }
    for number in numbers.iter_mut().filter_map(Option::take) {
        store.load(number);
    }
    store.audit();
}

fn encrypt() {
    let mut cipher = Cipher::new([1; 32]);
    let mut page = page(5);
    let nonce = cipher.encrypt(&mut page);
    cipher.decrypt(nonce, black_box(&mut page));
}

#[test]
fn the_swap_store_takes_no_memory() {
    let mut store = Box::new(Store {
        compressor: Compressor::new(),
        pool: Pool::new(),
        slots: Slots::new(),
        fingerprinter: Fingerprinter::new([2; 32]),
        memory: Memory::new(),
    });
    let mut numbers = [None; 300];
    let taken = measure(|| {
        use_it(&mut store, &mut numbers);
        encrypt();
    });
    assert_eq!(taken, AllocationInfo::default());
    assert_eq!(store.pool.counts().frames, 0);
}

/// The store as a whole, with a disk in memory.
struct Whole {
    store: swap::Store,
    memory: Memory<DISK_FRAMES>,
    disk: Box<[[u8; FRAME_SIZE]; BLOCKS]>,
    /// So many blocks cannot be written.
    failures: u32,
}

const DISK_FRAMES: usize = 160;
const BLOCKS: usize = 100;
/// The page that is given up: the first frame that is taken is the last one.
const PAGE: Hfn = Hfn::new(DISK_FRAMES as u64 - 1);

impl Whole {
    fn keep(&mut self, owner: Owner, n: usize) -> Option<SlotReference> {
        while self.store.wants_frame() {
            let Some(frame) = self.memory.take() else {
                break;
            };
            self.store.offer(frame).unwrap();
        }
        let frame = FrozenFrame::claim(PAGE);
        self.memory.write(PAGE.base(), &page(n));
        self.store
            .keep(&mut self.memory, &frame, Key(0), Some(owner))
            .ok()
    }

    /// The disk does what is due.
    fn work(&mut self) {
        self.store.hurry();
        while let Some(request) = self.store.next_request(&mut self.memory).unwrap() {
            let mut result = Ok(());
            for (block, frame) in (request.first as usize..).zip(&request.frames) {
                if self.failures > 0 && request.direction == Direction::Write {
                    self.failures -= 1;
                    result = Err(DiskError::BadSector);
                } else if request.direction == Direction::Read {
                    self.memory.write(frame.base(), &self.disk[block]);
                } else {
                    self.memory.read_frame(*frame, &mut self.disk[block]);
                }
            }
            self.store.finished(&mut self.memory, result).unwrap();
        }
        while self.store.wants_write_back() {
            match self.store.write_back(&mut self.memory).unwrap() {
                Step::Freed(frame) => self.memory.give(frame),
                Step::Moved => {}
                Step::Nothing => break,
            }
        }
    }

    fn give_back(&mut self, owner: Owner, n: usize, reference: SlotReference) {
        let slot = reference.slot();
        while self.store.want(&self.memory, slot).unwrap() != Coming::Here {
            self.work();
        }
        if let Ok(content) = self.store.content(&self.memory, slot) {
            assert!(*content == page(n));
        }
        let freed = self
            .store
            .release_returned(&mut self.memory, reference, owner)
            .unwrap();
        freed.into_iter().for_each(|frame| self.memory.give(frame));
    }

    /// Pages go and come back, the same twice and then others.
    fn use_it(&mut self, held: &mut [Option<(SlotReference, usize)>; 150]) {
        for round in 0..4 {
            for (n, held) in held.iter_mut().enumerate() {
                if held.is_none() {
                    let content = n + round / 2 * 31;
                    *held = self.keep(owner(n), content).map(|reference| (reference, content));
                    self.work();
                }
            }
            self.failures = u32::try_from(round * 2).unwrap();
            for (n, held) in held.iter_mut().enumerate().step_by(2) {
                if let Some((reference, content)) = held.take() {
                    self.give_back(owner(n), content, reference);
                }
            }
            self.store.audit(&self.memory).unwrap();
        }
    }
}

fn owner(n: usize) -> Owner {
    Owner {
        guest: GuestId(1),
        gfn: Gfn::new(n as u64),
    }
}

#[test]
fn the_disk_tier_takes_no_memory() {
    let mut whole = Box::new(Whole {
        store: swap::Store::new(),
        memory: Memory::new(),
        disk: Box::new([[0; FRAME_SIZE]; BLOCKS]),
        failures: 0,
    });
    assert_eq!(whole.memory.take(), Some(PAGE));
    let mut held = [const { None }; 150];
    let taken = measure(|| {
        let Whole { store, memory, .. } = &mut *whole;
        let plan = DiskPlan {
            blocks: 100,
            clean_frames: 1,
        };
        store.begin([1; 32], 8);
        let mut free: [Option<Hfn>; 80] = core::array::from_fn(|_| memory.take());
        let mut free = free.iter_mut();
        let begun = store.begin_disk(memory, [2; 32], plan, || free.next().and_then(Option::take));
        assert_eq!(begun, Some(()));
        whole.use_it(&mut held);
    });
    assert_eq!(taken, AllocationInfo::default());
    let (work, disk) = (whole.store.work(), whole.store.disk_work());
    assert!(work.written_back > 0 && disk.writes > 0 && disk.reads > 0 && disk.clean_hits > 0);
    assert!(disk.bad_sectors > 0 && whole.store.blocks().bad > 0);
}
