//! What is where in physical memory.

use arrayvec::ArrayVec;
use pleat_bundle::handover::{BootInfo, REGION_RAM};
use pleat_types::{FRAME_SIZE, Hfn, Hpa};

use crate::frames::{FrameRange, MAX_RANGES};
use crate::heap::BootHeap;
use crate::paging;

/// Memory below this is left alone: real-mode data of firmware, and room to start other processors.
const LOW_RESERVE: u64 = 0x1_0000;

/// Metadata takes less than this part of memory: records and index at most 20 bytes for each frame of 4,096, and
/// the symbols.
const METADATA_PART: u64 = 128;

/// What is where; all in whole frames.
///
/// There is one, made at boot: it may be read by everyone and changed only by claiming, so that no frame is
/// handed out twice.
#[derive(Debug)]
pub struct MemoryMap {
    usable: ArrayVec<FrameRange, MAX_RANGES>,
    image: FrameRange,
    metadata: FrameRange,
    bundle: FrameRange,
}

/// Ranges of RAM that are used; the rest of [`MAX_RANGES`] is for those that image, metadata and bundle split.
const MAX_USABLE: usize = MAX_RANGES - 3;

const NOTHING: FrameRange = FrameRange {
    first: Hfn::new(0),
    count: 0,
};

impl MemoryMap {
    /// The map that the loader gave, cut to what is mapped and in whole frames.
    pub fn new(info: &BootInfo, limit: u64) -> Result<Self, &'static str> {
        let usable = usable_ranges(info, limit)?;
        let (start, end) = paging::image_range();
        let image = FrameRange {
            first: Hpa::new(start).hfn(),
            count: (end - start).div_ceil(FRAME_SIZE as u64),
        };
        let map = Self {
            usable,
            image,
            metadata: NOTHING,
            bundle: NOTHING,
        };
        if !map.is_usable(start, end - start) {
            return Err("the memory that Pleat was loaded to is not in the memory map");
        }
        Ok(map)
    }

    /// RAM; everything below lies in it.
    #[must_use]
    pub fn usable(&self) -> &[FrameRange] {
        &self.usable
    }

    /// Pleat itself.
    #[must_use]
    pub fn image(&self) -> FrameRange {
        self.image
    }

    /// Records about frames, the heap of the boot, and the symbols.
    #[must_use]
    pub fn metadata(&self) -> FrameRange {
        self.metadata
    }

    /// The boot bundle.
    #[must_use]
    pub fn bundle(&self) -> FrameRange {
        self.bundle
    }

    /// The first address above all RAM.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.usable
            .iter()
            .map(|range| (range.first.get() + range.count) * FRAME_SIZE as u64)
            .max()
            .unwrap_or(0)
    }

    /// All of this range is RAM.
    #[must_use]
    pub fn is_usable(&self, base: u64, bytes: u64) -> bool {
        let Some(end) = base.checked_add(bytes) else {
            return false;
        };
        let (first, end) = (base / FRAME_SIZE as u64, end.div_ceil(FRAME_SIZE as u64));
        self.usable
            .iter()
            .any(|range| range.first.get() <= first && end <= range.first.get() + range.count)
    }

    pub(super) fn set_bundle(&mut self, base: u64, bytes: u64) {
        self.bundle = FrameRange {
            first: Hpa::new(base).hfn(),
            count: bytes.div_ceil(FRAME_SIZE as u64),
        };
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

    /// Sets `frames` more frames of metadata aside: the first time at the bottom of the lowest range above
    /// Pleat that has room for all metadata, later right above.
    ///
    /// Low, beside what lies low anyway: metadata stays for ever, and at the top of memory it would keep
    /// the last whole GiB of a machine from ever backing a guest in one piece.
    fn place_metadata(&mut self, frames: u64) -> Hfn {
        let mut free = self.managed();
        cut(&mut free, self.bundle);
        free.sort_unstable_by_key(|range| range.first);
        let (image_end, end) = (self.image.end(), self.metadata.end());
        let memory: u64 = self.usable.iter().map(|range| range.count).sum();
        let wanted = frames + memory / METADATA_PART;
        let fits = |range: &&FrameRange| range.first.get() >= image_end && range.count > wanted;
        let room = match self.metadata.count {
            0 => free
                .iter()
                .find(fits)
                .or(free.iter().max_by_key(|range| range.count)),
            _ => free.iter().find(|range| range.first.get() == end),
        };
        let first = room
            .filter(|range| range.count > frames)
            .expect("too little memory for its own records")
            .first;
        if self.metadata.count == 0 {
            self.metadata.first = first;
        }
        self.metadata.count += frames;
        first
    }

    /// Memory for `count` records that live as long as Pleat.
    pub fn claim_records<T: Copy + 'static>(&mut self, count: usize, blank: T) -> &'static mut [T] {
        let bytes = count
            .checked_mul(size_of::<T>())
            .expect("records of more than all memory");
        let first = self.place_metadata(bytes.div_ceil(FRAME_SIZE) as u64);
        let records = first.base().get() as *mut T;
        assert!(
            align_of::<T>() <= FRAME_SIZE,
            "frames are aligned for every record"
        );
        for index in 0..count {
            // SAFETY: within the frames that were just set aside, which are RAM, mapped, and no one's.
            unsafe { records.add(index).write(blank) };
        }
        // SAFETY: all records are initialised, and the frames are handed out once only.
        unsafe { core::slice::from_raw_parts_mut(records, count) }
    }

    /// Opens the heap of the boot with room for `bytes` bytes (see `heap`). There is one, so this is called
    /// once.
    pub fn claim_heap(&mut self, bytes: usize) -> BootHeap {
        let count = bytes.div_ceil(FRAME_SIZE) as u64;
        let first = self.place_metadata(count);
        // SAFETY: the frames were just set aside, are RAM, mapped, and handed out once only.
        unsafe { BootHeap::open(FrameRange { first, count }) }
    }
}

/// The whole frames of RAM between the low reserve and `limit`.
fn usable_ranges(info: &BootInfo, limit: u64) -> Result<ArrayVec<FrameRange, MAX_RANGES>, &'static str> {
    let mut usable = ArrayVec::new();
    for region in info.regions().iter().filter(|region| region.kind == REGION_RAM) {
        let first = region.base.max(LOW_RESERVE).div_ceil(FRAME_SIZE as u64);
        let end = (region.base + region.bytes).min(limit) / FRAME_SIZE as u64;
        if first < end {
            if usable.len() == MAX_USABLE {
                return Err("the memory map has too many ranges");
            }
            usable.push(FrameRange {
                first: Hfn::new(first),
                count: end - first,
            });
        }
    }
    Ok(usable)
}

/// Takes a range out of a list of ranges.
fn cut(ranges: &mut ArrayVec<FrameRange, MAX_RANGES>, hole: FrameRange) {
    let (from, to) = (hole.first.get(), hole.first.get() + hole.count);
    for range in core::mem::take(ranges) {
        let (first, end) = (range.first.get(), range.first.get() + range.count);
        for (first, end) in [(first, end.min(from)), (first.max(to), end)] {
            if first < end {
                ranges.push(FrameRange {
                    first: Hfn::new(first),
                    count: end - first,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleat_bundle::handover::{BOOT_INFO_MAGIC, MAX_REGIONS, MemoryRegion};

    fn frames(first: u64, count: u64) -> FrameRange {
        FrameRange {
            first: Hfn::new(first),
            count,
        }
    }

    fn info(ram: &[(u64, u64)]) -> BootInfo {
        let mut regions = [MemoryRegion::default(); MAX_REGIONS];
        for (region, (base, bytes)) in regions.iter_mut().zip(ram) {
            *region = MemoryRegion {
                base: *base,
                bytes: *bytes,
                kind: REGION_RAM,
            };
        }
        BootInfo {
            magic: BOOT_INFO_MAGIC,
            bundle_base: 0,
            bundle_bytes: 0,
            reset_tsc: 0,
            regions_len: ram.len() as u64,
            regions,
        }
    }

    /// A map without an image, which the tests' own addresses are not.
    fn map(usable: &[FrameRange]) -> MemoryMap {
        MemoryMap {
            usable: usable.iter().copied().collect(),
            image: NOTHING,
            metadata: NOTHING,
            bundle: NOTHING,
        }
    }

    #[test]
    fn ranges_are_cut_inside_at_the_ends_and_not_at_all() {
        let cut_out = |first, count| {
            let mut ranges: ArrayVec<_, MAX_RANGES> = [frames(10, 10), frames(30, 10)].into_iter().collect();
            cut(&mut ranges, frames(first, count));
            ranges.to_vec()
        };
        assert_eq!(cut_out(12, 3), [frames(10, 2), frames(15, 5), frames(30, 10)]);
        assert_eq!(cut_out(5, 10), [frames(15, 5), frames(30, 10)]);
        assert_eq!(cut_out(18, 15), [frames(10, 8), frames(33, 7)]);
        assert_eq!(cut_out(10, 10), [frames(30, 10)]);
        assert_eq!(cut_out(20, 10), [frames(10, 10), frames(30, 10)]);
        assert_eq!(cut_out(0, 100), []);
    }

    #[test]
    fn only_whole_frames_above_the_low_reserve_and_below_the_limit_are_usable() {
        let usable = usable_ranges(&info(&[(0, 0x9_fc00), (0x10_0800, 0x1000_0000)]), 0x800_0000);
        let usable = usable.expect("two ranges fit");
        assert_eq!(
            usable.to_vec(),
            [frames(0x10, 0x8f), frames(0x101, 0x8000 - 0x101)]
        );
    }

    #[test]
    fn a_range_is_usable_only_if_all_of_it_is() {
        let map = map(&[frames(0x100, 0x10), frames(0x200, 0x10)]);
        assert!(map.is_usable(0x10_0000, 0x1_0000));
        assert!(map.is_usable(0x10_0800, 1));
        assert!(!map.is_usable(0x10_0000, 0x1_0001));
        assert!(!map.is_usable(0xf_ffff, 2));
        assert!(!map.is_usable(u64::MAX, 2));
    }

    #[test]
    fn metadata_is_claimed_once_and_overlaps_nothing() {
        let mut map = map(&[frames(0x10, 0x90), frames(0x100, 0x1000)]);
        map.set_bundle(0x80_0000, 0x10_0000);
        let first = map.place_metadata(5);
        let second = map.place_metadata(7);
        assert_eq!(map.metadata.count, 12);
        assert_eq!(map.metadata.first, second.min(first));
        let end = map.metadata.first.get() + 12;
        assert!(end <= map.bundle.first.get() || map.metadata.first.get() >= map.bundle.first.get() + 0x100);
        assert!(map.managed().iter().all(|range| {
            range.first.get() + range.count <= map.metadata.first.get() || range.first.get() >= end
        }));
    }
}
