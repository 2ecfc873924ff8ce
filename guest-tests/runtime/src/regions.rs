//! Arithmetic on ranges of physical memory.

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// The most separate ranges of free memory.
pub const MAX_REGIONS: usize = 16;

/// A range of physical addresses: `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Region {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
}

impl Region {
    /// The range of `bytes` bytes from `start`; what would pass the end of the address space is cut off.
    #[must_use]
    pub const fn new(start: u64, bytes: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(bytes),
        }
    }

    /// The whole pages inside.
    #[must_use]
    pub const fn shrunk_to_pages(self) -> Self {
        Self {
            start: self.start.div_ceil(PAGE_BYTES) * PAGE_BYTES,
            end: self.end / PAGE_BYTES * PAGE_BYTES,
        }
    }

    /// All pages that it touches.
    #[must_use]
    pub const fn grown_to_pages(self) -> Self {
        Self {
            start: self.start / PAGE_BYTES * PAGE_BYTES,
            end: self.end.div_ceil(PAGE_BYTES) * PAGE_BYTES,
        }
    }

    /// It has no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// Separate ranges.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegionList {
    regions: [Region; MAX_REGIONS],
    len: usize,
}

impl RegionList {
    /// All ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[Region] {
        &self.regions[..self.len]
    }

    /// Adds a range that overlaps none of the others; an empty one is left out.
    ///
    /// # Panics
    /// When there are more than [`MAX_REGIONS`].
    pub fn add(&mut self, region: Region) {
        if region.is_empty() {
            return;
        }
        assert!(self.len < MAX_REGIONS, "the memory map is in too many pieces");
        self.regions[self.len] = region;
        self.len += 1;
    }

    /// Takes a range out of all others.
    ///
    /// # Panics
    /// When more than [`MAX_REGIONS`] remain.
    pub fn subtract(&mut self, hole: Region) {
        let before = *self;
        self.len = 0;
        for region in before.as_slice() {
            if hole.is_empty() || hole.end <= region.start || region.end <= hole.start {
                self.add(*region);
                continue;
            }
            self.add(Region {
                start: region.start,
                end: hole.start,
            });
            self.add(Region {
                start: hole.end,
                end: region.end,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Region, RegionList};

    fn list(regions: &[(u64, u64)]) -> RegionList {
        let mut list = RegionList::default();
        for &(start, end) in regions {
            list.add(Region { start, end });
        }
        list
    }

    fn ends(list: &RegionList) -> [Option<(u64, u64)>; 4] {
        core::array::from_fn(|index| {
            list.as_slice()
                .get(index)
                .map(|region| (region.start, region.end))
        })
    }

    #[test]
    fn a_hole_inside_splits_and_a_hole_over_an_edge_cuts() {
        let mut memory = list(&[(0, 100), (200, 300)]);
        memory.subtract(Region { start: 40, end: 50 });
        memory.subtract(Region { start: 90, end: 210 });
        assert_eq!(
            ends(&memory),
            [Some((0, 40)), Some((50, 90)), Some((210, 300)), None]
        );
    }

    #[test]
    fn a_hole_over_everything_leaves_nothing_and_an_empty_hole_changes_nothing() {
        let mut memory = list(&[(10, 20)]);
        memory.subtract(Region { start: 15, end: 15 });
        assert_eq!(ends(&memory), [Some((10, 20)), None, None, None]);
        memory.subtract(Region { start: 0, end: 20 });
        assert_eq!(ends(&memory), [None; 4]);
    }

    #[test]
    fn pages_round_inwards_for_memory_and_outwards_for_holes() {
        let region = Region::new(100, 9000);
        assert_eq!(
            region.shrunk_to_pages(),
            Region {
                start: 4096,
                end: 8192
            }
        );
        assert_eq!(region.grown_to_pages(), Region { start: 0, end: 12288 });
        assert_eq!(Region::new(u64::MAX, 2).end, u64::MAX);
    }
}
