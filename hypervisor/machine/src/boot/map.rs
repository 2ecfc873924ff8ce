//! What is where in physical memory.

use arrayvec::ArrayVec;
use pleat_bundle::handover::{BootInfo, REGION_RAM};
use pleat_types::{FRAME_SIZE, Hfn, Hpa};

use crate::frames::{FrameRange, MAX_RANGES};
use crate::paging;

/// Memory below this is left alone: real-mode data of firmware, and room to start other processors.
const LOW_RESERVE: u64 = 0x1_0000;

/// What is where; all in whole frames.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    /// RAM, ascending; everything below lies in it.
    pub usable: ArrayVec<FrameRange, MAX_RANGES>,
    /// Pleat itself.
    pub image: FrameRange,
    /// Records about frames, and the symbols.
    pub metadata: FrameRange,
    /// The boot bundle.
    pub bundle: FrameRange,
}

const NOTHING: FrameRange = FrameRange { first: Hfn::new(0), count: 0 };

impl MemoryMap {
    /// The map that the loader gave, cut to what is mapped and in whole frames.
    pub fn new(info: &BootInfo, limit: u64) -> Result<Self, &'static str> {
        let mut usable = ArrayVec::new();
        for region in info.regions().iter().filter(|region| region.kind == REGION_RAM) {
            let first = region.base.max(LOW_RESERVE).div_ceil(FRAME_SIZE as u64);
            let end = (region.base + region.bytes).min(limit) / FRAME_SIZE as u64;
            if first < end {
                usable
                    .try_push(FrameRange { first: Hfn::new(first), count: end - first })
                    .map_err(|_| "the memory map has too many ranges")?;
            }
        }
        let (start, end) = paging::image_range();
        let image = FrameRange {
            first: Hpa::new(start).hfn(),
            count: (end - start).div_ceil(FRAME_SIZE as u64),
        };
        let map = Self { usable, image, metadata: NOTHING, bundle: NOTHING };
        if !map.is_usable(start, end - start) {
            return Err("the memory that Pleat was loaded to is not in the memory map");
        }
        Ok(map)
    }

    /// The first address above all RAM.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.usable.iter().map(|range| (range.first.get() + range.count) * FRAME_SIZE as u64).max().unwrap_or(0)
    }

    /// All of this range is RAM.
    #[must_use]
    pub fn is_usable(&self, base: u64, bytes: u64) -> bool {
        let Some(end) = base.checked_add(bytes) else { return false };
        let (first, end) = (base / FRAME_SIZE as u64, end.div_ceil(FRAME_SIZE as u64));
        self.usable.iter().any(|range| range.first.get() <= first && end <= range.first.get() + range.count)
    }

    pub(super) fn set_bundle(&mut self, base: u64, bytes: u64) {
        self.bundle =
            FrameRange { first: Hpa::new(base).hfn(), count: bytes.div_ceil(FRAME_SIZE as u64) };
    }

    /// What may hold guests' memory, tables and images: RAM less Pleat and its records.
    #[must_use]
    pub fn managed(&self) -> ArrayVec<FrameRange, MAX_RANGES> {
        let mut ranges = self.usable.clone();
        for hole in [self.image, self.metadata] {
            cut(&mut ranges, hole);
        }
        ranges
    }

    /// Sets `frames` more frames of metadata aside: the first time at the top of the largest range that
    /// is free of all else, later right below.
    fn place_metadata(&mut self, frames: u64) -> Hfn {
        let mut free = self.managed();
        cut(&mut free, self.bundle);
        let below = |range: &&FrameRange| range.first.get() + range.count == self.metadata.first.get();
        let room = match self.metadata.count {
            0 => free.iter().max_by_key(|range| range.count),
            _ => free.iter().find(below),
        };
        let room = room.copied().unwrap_or(NOTHING);
        assert!(room.count > frames, "too little memory for its own records");
        let first = Hfn::new(room.first.get() + room.count - frames);
        self.metadata = FrameRange { first, count: self.metadata.count + frames };
        first
    }

    /// Memory for `count` records that live as long as Pleat.
    pub fn claim_records<T: Copy + 'static>(&mut self, count: usize, blank: T) -> &'static mut [T] {
        let bytes = (count * size_of::<T>()) as u64;
        let first = self.place_metadata(bytes.div_ceil(FRAME_SIZE as u64));
        let records = first.base().get() as *mut T;
        assert!(align_of::<T>() <= FRAME_SIZE, "frames are aligned for every record");
        for index in 0..count {
            // SAFETY: within the frames that were just set aside, which are RAM, mapped, and no one's.
            unsafe { records.add(index).write(blank) };
        }
        // SAFETY: all records are initialised, and the frames are handed out once only.
        unsafe { core::slice::from_raw_parts_mut(records, count) }
    }
}

/// Takes a range out of a list of ranges.
fn cut(ranges: &mut ArrayVec<FrameRange, MAX_RANGES>, hole: FrameRange) {
    let (from, to) = (hole.first.get(), hole.first.get() + hole.count);
    for range in core::mem::take(ranges) {
        let (first, end) = (range.first.get(), range.first.get() + range.count);
        for (first, end) in [(first, end.min(from)), (first.max(to), end)] {
            if first < end {
                ranges.push(FrameRange { first: Hfn::new(first), count: end - first });
            }
        }
    }
}
