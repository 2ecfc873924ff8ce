//! What the demo's heap is used for: many small structures that live for a while, and much garbage.
//!
//! Every root holds a list, a ring or a tree that was made from a seed, and is made again from another one later. From the
//! seed follows what each cell must contain, so nothing has to be kept beside the heap to check all of it, and a
//! single wrong byte is found.

use crate::heap::{AllocateError, Handle, Heap, LINKS, WORDS};

/// Cells of the largest structure.
const MAX_CELLS: u64 = 255;
/// The link that leads from the head of a structure to that of another one.
const CROSS: usize = LINKS - 1;

/// The application.
#[derive(Debug)]
pub struct Workload {
    heap: Heap,
    /// From which seed each root's structure was made.
    seeds: Vec<Option<u64>>,
    random: u64,
}

/// How the cells of a structure hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    List,
    Ring,
    Tree,
}

/// What is wrong with a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its root.
    pub root: usize,
    /// The number of the first cell that is not as it was made.
    pub cell: u64,
}

impl Workload {
    /// Structures for so many roots, in a heap with this limit. Two with one seed do the same.
    #[must_use]
    pub fn new(max_bytes: usize, roots: usize, seed: u64) -> Self {
        Self {
            heap: Heap::new(max_bytes, roots),
            seeds: vec![None; roots],
            random: seed,
        }
    }

    /// The heap.
    #[must_use]
    pub const fn heap(&self) -> &Heap {
        &self.heap
    }

    /// The heap, to be collected, shrunk or bounded.
    pub const fn heap_mut(&mut self) -> &mut Heap {
        &mut self.heap
    }

    /// Makes the structure of one root anew: what it held becomes garbage. Returns the number of cells that were made.
    ///
    /// # Errors
    /// Where the heap has no room.
    pub fn step(&mut self) -> Result<u64, AllocateError> {
        self.random = mix(self.random);
        let roots = self.seeds.len() as u64;
        // Below the number of roots, which is a usize.
        let pick = |number: u64| usize::try_from(number % roots).unwrap_or_default();
        let (root, other) = (pick(self.random >> 8), pick(self.random >> 32));
        let seed = self.random;
        // The old structure lets go of the one it led to, or chains of garbage that is held by garbage would grow.
        if let Some(old) = self.heap.root(root) {
            self.heap.set_link(old, CROSS, None);
        }
        self.seeds[root] = None;
        self.heap.set_root(root, None);
        let head = self.heap.allocate(content(seed, 0))?;
        self.heap.set_root(root, Some(head));
        self.build(head, seed)?;
        self.heap.set_link(head, CROSS, self.heap.root(other));
        self.seeds[root] = Some(seed);
        Ok(cells(seed))
    }

    /// Each cell hangs on the head before the next one is allocated, so a collection may come at any moment.
    fn build(&mut self, head: Handle, seed: u64) -> Result<(), AllocateError> {
        let mut parents = vec![head];
        for number in 1..cells(seed) {
            let cell = self.heap.allocate(content(seed, number))?;
            let (parent, link) = parent(shape(seed), number);
            self.heap.set_link(parents[parent], link, Some(cell));
            parents.push(cell);
        }
        if shape(seed) == Shape::Ring {
            let last = parents[parents.len() - 1];
            self.heap.set_link(last, 0, Some(head));
        }
        Ok(())
    }

    /// Compares everything that is alive with what it must be. Returns the number of cells.
    ///
    /// # Errors
    /// Says which cell is wrong.
    pub fn verify(&self) -> Result<u64, Wrong> {
        let mut verified = 0;
        for (root, seed) in self.seeds.iter().enumerate() {
            let Some(seed) = *seed else { continue };
            self.verify_one(root, seed).map_err(|cell| Wrong { root, cell })?;
            verified += cells(seed);
        }
        Ok(verified)
    }

    fn verify_one(&self, root: usize, seed: u64) -> Result<(), u64> {
        let head = self.heap.root(root).ok_or(0_u64)?;
        let mut known = vec![head];
        for number in 0..cells(seed) {
            let cell = if number == 0 {
                Some(head)
            } else {
                let (parent, link) = parent(shape(seed), number);
                self.heap.link(known[parent], link)
            };
            let cell = cell.ok_or(number)?;
            if self.heap.words(cell) != content(seed, number) {
                return Err(number);
            }
            if number > 0 {
                known.push(cell);
            }
        }
        let last = known[known.len() - 1];
        let closes = self.heap.link(last, 0) == Some(head);
        let is_ring = shape(seed) == Shape::Ring;
        if closes == is_ring {
            Ok(())
        } else {
            Err(cells(seed) - 1)
        }
    }
}

/// How many cells a structure has.
const fn cells(seed: u64) -> u64 {
    1 + mix(seed ^ 1) % MAX_CELLS
}

const fn shape(seed: u64) -> Shape {
    match mix(seed ^ 2) % 3 {
        0 => Shape::List,
        1 => Shape::Ring,
        _ => Shape::Tree,
    }
}

/// On which cell one hangs, and by which link: numbered from the head on, a tree by levels.
fn parent(shape: Shape, number: u64) -> (usize, usize) {
    let parent = if shape == Shape::Tree {
        (number - 1) / 2
    } else {
        number - 1
    };
    let link = u8::from(shape == Shape::Tree && number.is_multiple_of(2));
    // At most MAX_CELLS.
    (usize::try_from(parent).unwrap_or_default(), usize::from(link))
}

fn content(seed: u64, number: u64) -> [u64; WORDS] {
    let mut word = seed ^ number.rotate_left(40);
    std::array::from_fn(|_| {
        word = mix(word);
        word
    })
}

/// SplitMix64 (Steele, Lea, Flood 2014).
const fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::{CROSS, Workload};
    use crate::heap::CHUNK_BYTES;

    #[test]
    fn live_data_stays_right_through_collections_and_shrinks() {
        let mut workload = Workload::new(8 * CHUNK_BYTES, 64, 7);
        let mut made = 0;
        for step in 1..=3000 {
            made += workload.step().unwrap();
            if step % 1000 == 0 {
                let before = workload.heap().bytes();
                assert!(workload.verify().unwrap() > 1000);
                workload.heap_mut().shrink();
                assert!(workload.heap().bytes() < before);
                assert!(workload.verify().unwrap() > 1000);
            }
        }
        let counters = workload.heap().counters();
        assert!(counters.collections > 8 && counters.released_bytes > 0);
        // Nearly all of it was garbage.
        assert!(counters.freed_cells > made * 9 / 10);
    }

    #[test]
    fn a_wrong_cell_is_found() {
        let mut workload = Workload::new(8 * CHUNK_BYTES, 16, 7);
        for _ in 0..200 {
            workload.step().unwrap();
        }
        workload.verify().unwrap();
        let head = workload.heap().root(5).unwrap();
        let other = workload.heap().root(6).unwrap();
        workload.heap_mut().set_link(head, CROSS, None);
        workload
            .verify()
            .expect("the cross link is no part of a structure");
        workload.heap_mut().set_root(5, Some(other));
        assert_eq!(workload.verify().unwrap_err().root, 5);
        workload.heap_mut().set_root(5, None);
        assert_eq!(workload.verify().unwrap_err().root, 5);
    }
}
