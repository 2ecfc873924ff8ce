//! The elements of a list of sharers, in the memory of its chunks.

use pleat_types::{FrameMemory, Gfn, GuestId};

use super::buddy::at;
use super::error::Bug;
use super::record::{MAX_SHARERS, NONE, Owner};
use super::slab::{Chunk, Class};

/// No list is made of more chunks: it grows only while less than a quarter of it is stale.
pub(super) const MAX_CHAIN: usize = (MAX_SHARERS / 3 * 4 / Class::LAST.elements()) as usize + 2;
/// An element without a page, and a link to nothing.
const EMPTY: u32 = u32::MAX;
const _: () = assert!(EMPTY == NONE);

const GFN_BITS: u32 = 26;

/// An element: guest 6 bits, page number 26 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Page(u32);

impl Page {
    pub(super) fn new(owner: Owner) -> Result<Self, Bug> {
        let bad = Bug::BadOwner(owner);
        let gfn = u32::try_from(owner.gfn.get()).map_err(|_| bad)?;
        let guest = u32::from(owner.guest.0);
        if gfn >> GFN_BITS != 0 || guest >> (u32::BITS - GFN_BITS) != 0 {
            return Err(bad);
        }
        Self::from_element(guest << GFN_BITS | gfn).ok_or(bad)
    }

    fn from_element(value: u32) -> Option<Self> {
        (value != EMPTY).then_some(Self(value))
    }

    #[allow(clippy::cast_possible_truncation)] // six bits
    pub(super) fn owner(self) -> Owner {
        Owner {
            guest: GuestId((self.0 >> GFN_BITS) as u16),
            gfn: Gfn::new(u64::from(self.0 & ((1 << GFN_BITS) - 1))),
        }
    }
}

impl Chunk {
    /// How many pages are in it. What is unused is the tail: a binary search.
    pub(super) fn length<M: FrameMemory>(self, memory: &M) -> u32 {
        let (mut low, mut high) = (0, self.class.elements());
        while low < high {
            let middle = low.midpoint(high);
            if self.get(memory, middle).is_some() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(super) fn get<M: FrameMemory>(self, memory: &M, n: u32) -> Option<Page> {
        Page::from_element(self.element(memory, n))
    }

    pub(super) fn set<M: FrameMemory>(self, memory: &mut M, n: u32, page: Option<Page>) {
        self.set_element(memory, n, page.map_or(EMPTY, |page| page.0));
    }

    /// The frame that the last element of a whole frame links to, or [`NONE`].
    pub(super) fn older<M: FrameMemory>(self, memory: &M) -> u32 {
        if self.class == Class::LAST {
            self.element(memory, self.class.elements())
        } else {
            NONE
        }
    }

    pub(super) fn set_older<M: FrameMemory>(self, memory: &mut M, frame: u32) {
        if self.class == Class::LAST {
            self.set_element(memory, self.class.elements(), frame);
        }
    }

    /// Makes all elements empty.
    pub(super) fn clear<M: FrameMemory>(self, memory: &mut M) {
        for granule in self.slot..self.slot + self.class.granules() {
            memory.store_entry(self.hfn(), at(granule), u64::MAX);
        }
    }

    fn element<M: FrameMemory>(self, memory: &M, n: u32) -> u32 {
        let granule = memory.load_entry(self.hfn(), at(self.slot + n / 2));
        half(granule, n)
    }

    fn set_element<M: FrameMemory>(self, memory: &mut M, n: u32, value: u32) {
        let granule = at(self.slot + n / 2);
        let shift = n % 2 * u32::BITS;
        let other = memory.load_entry(self.hfn(), granule) & !(u64::from(u32::MAX) << shift);
        memory.store_entry(self.hfn(), granule, other | u64::from(value) << shift);
    }
}

#[allow(clippy::cast_possible_truncation)] // half of it is meant
const fn half(granule: u64, n: u32) -> u32 {
    (granule >> (n % 2 * u32::BITS)) as u32
}

/// A list as a whole: its chunks, the newest first, and how many pages they hold. All but the newest are
/// full.
pub(super) struct List {
    frames: [u32; MAX_CHAIN],
    chunks: usize,
    head: Chunk,
    length: u32,
}

impl List {
    /// A list that begins with this chunk. `None` if it is made of more than a list can be.
    pub(super) fn new<M: FrameMemory>(
        memory: &M,
        head: Chunk,
        check: impl Fn(Chunk) -> Result<(), Bug>,
    ) -> Result<Self, Bug> {
        let mut list = Self {
            frames: [NONE; MAX_CHAIN],
            chunks: 0,
            head,
            length: head.length(memory),
        };
        let mut frame = head.frame;
        while frame != NONE {
            let chunk = Chunk { frame, ..head };
            let next = list
                .frames
                .get_mut(list.chunks)
                .ok_or(Bug::BrokenList(head.hfn()))?;
            check(chunk)?;
            *next = frame;
            list.chunks += 1;
            frame = chunk.older(memory);
        }
        for _ in 1..list.chunks {
            list.length += head.class.elements();
        }
        Ok(list)
    }

    /// How many pages are in it.
    pub(super) const fn length(&self) -> u32 {
        self.length
    }

    /// The newest chunk.
    pub(super) const fn head(&self) -> Chunk {
        self.head
    }

    /// Whether it is one chunk.
    pub(super) const fn is_single(&self) -> bool {
        self.chunks == 1
    }

    /// Whether its newest chunk has room for a page.
    pub(super) fn has_room(&self) -> bool {
        at(self.length) < self.chunks * at(self.head.class.elements())
    }

    /// The chunks, the newest first.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let frames = self.frames.iter().take(self.chunks);
        frames.map(|frame| Chunk {
            frame: *frame,
            ..self.head
        })
    }

    /// The pages, the oldest first.
    pub(super) fn pages<M: FrameMemory>(&self, memory: &M) -> impl Iterator<Item = Page> {
        (0..self.length).filter_map(|n| self.get(memory, n))
    }

    /// Adds a page; there is room.
    pub(super) fn push<M: FrameMemory>(&mut self, memory: &mut M, page: Page) {
        self.set(memory, self.length, Some(page));
        self.length += 1;
    }

    /// Takes the newest chunk out, if it is empty and there is another one.
    pub(super) fn pop_empty(&mut self) -> Option<Chunk> {
        let rest = self.chunks.checked_sub(1).filter(|rest| *rest > 0)?;
        if at(self.length) > rest * at(self.head.class.elements()) {
            return None;
        }
        self.frames.copy_within(1..self.chunks, 0);
        self.chunks = rest;
        let empty = self.head;
        self.head.frame = self.frames[0];
        Some(empty)
    }

    /// Keeps the pages that `keep` wants, in order.
    pub(super) fn retain<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        mut keep: impl FnMut(&mut M, Page) -> bool,
    ) {
        let mut kept = 0;
        for n in 0..self.length {
            let page = self.get(memory, n);
            if page.is_some_and(|page| keep(memory, page)) {
                self.set(memory, kept, page);
                kept += 1;
            }
        }
        for n in kept..self.length {
            self.set(memory, n, None);
        }
        self.length = kept;
    }

    /// Throws out pages that are there twice: they left their frame and joined it again.
    pub(super) fn remove_repeated<M: FrameMemory>(&mut self, memory: &mut M) {
        self.sort(memory);
        let mut before = None;
        self.retain(memory, |_, page| before.replace(page) != Some(page));
    }

    /// Heapsort (Williams, CACM 1964): in place, and never more than n log n steps.
    fn sort<M: FrameMemory>(&self, memory: &mut M) {
        for root in (0..self.length / 2).rev() {
            self.sift(memory, root, self.length);
        }
        for end in (1..self.length).rev() {
            let (largest, last) = (self.get(memory, 0), self.get(memory, end));
            self.set(memory, 0, last);
            self.set(memory, end, largest);
            self.sift(memory, 0, end);
        }
    }

    fn sift<M: FrameMemory>(&self, memory: &mut M, mut root: u32, end: u32) {
        let page = self.get(memory, root);
        loop {
            let children = [2 * root + 1, 2 * root + 2];
            let children = children.into_iter().filter(|child| *child < end);
            let largest = children.map(|child| (self.get(memory, child), child)).max();
            match largest {
                Some((larger, child)) if larger > page => {
                    self.set(memory, root, larger);
                    root = child;
                }
                _ => break,
            }
        }
        self.set(memory, root, page);
    }

    /// Copies all its pages to the beginning of a chunk that has room for them.
    pub(super) fn copy_to<M: FrameMemory>(&self, memory: &mut M, to: Chunk) {
        for n in 0..self.length {
            let page = self.get(memory, n);
            to.set(memory, n, page);
        }
    }

    fn get<M: FrameMemory>(&self, memory: &M, n: u32) -> Option<Page> {
        let (chunk, n) = self.place(n);
        chunk.get(memory, n)
    }

    fn set<M: FrameMemory>(&self, memory: &mut M, n: u32, page: Option<Page>) {
        let (chunk, n) = self.place(n);
        chunk.set(memory, n, page);
    }

    /// Where the n-th page is, counted from the oldest one.
    fn place(&self, n: u32) -> (Chunk, u32) {
        let elements = self.head.class.elements();
        let frame = self.frames[self.chunks - 1 - at(n / elements)];
        (Chunk { frame, ..self.head }, n % elements)
    }
}
