//! A heap with a garbage collector, as many language run times have one: it grows lazily, and collects only when it has
//! reached its limit. That is good for its application, and bad for a host on which twenty of them hold on to
//! garbage. [`Heap::shrink`] is for the day on which the host says so: it collects, moves what is left together, and gives
//! the rest back.
//!
//! Mark and sweep (McCarthy 1960) with cells of one size, and two-finger compaction (Saunders 1974) when it shrinks.

mod cells;
mod shrink;

#[cfg(test)]
mod tests;

use std::io;

use cells::{Arena, NONE, state};
pub use cells::{CHUNK_BYTES, CHUNK_CELLS, Handle, LINKS, WORDS};

/// What an allocation can end with.
#[derive(Debug)]
pub enum AllocateError {
    /// The limit is reached, and everything is in use.
    Full,
    /// The kernel gives no memory.
    Kernel(io::Error),
}

/// What collections have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Collections, those of a shrink among them.
    pub collections: u64,
    /// Cells that were found to be garbage.
    pub freed_cells: u64,
    /// Bytes that went back to the kernel.
    pub released_bytes: u64,
}

/// The heap.
#[derive(Debug)]
pub struct Heap {
    arena: Arena,
    roots: Vec<u32>,
    /// The first free cell that was used before; the others follow it by their first links.
    free: u32,
    /// Cells from here on were never used.
    fresh: u32,
    max_chunks: usize,
    counters: Counters,
}

impl Heap {
    /// An empty heap that may grow to so many bytes, and that keeps alive what so many roots reach.
    #[must_use]
    pub fn new(max_bytes: usize, roots: usize) -> Self {
        // Cells have 32-bit numbers.
        let most = NONE as usize / CHUNK_CELLS;
        Self {
            arena: Arena::default(),
            roots: vec![NONE; roots],
            free: NONE,
            fresh: 0,
            max_chunks: (max_bytes / CHUNK_BYTES).clamp(1, most),
            counters: Counters::default(),
        }
    }

    /// Sets what the heap may grow to. Less than it has takes nothing away until it is shrunk.
    pub fn set_limit(&mut self, max_bytes: usize) {
        self.max_chunks = (max_bytes / CHUNK_BYTES).clamp(1, NONE as usize / CHUNK_CELLS);
    }

    /// Bytes that the heap has from the kernel.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.arena.chunks() * CHUNK_BYTES
    }

    /// What was done so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// A new cell with this content and no links. It is garbage until something that a root reaches links to it, and the
    /// next allocation may collect it: link it before.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn allocate(&mut self, words: [u64; WORDS]) -> Result<Handle, AllocateError> {
        let index = self.take()?;
        let cell = self.arena.cell_mut(index);
        cell.state = state::USED;
        cell.links = [NONE; LINKS];
        cell.words = words;
        Ok(Handle(index))
    }

    fn take(&mut self) -> Result<u32, AllocateError> {
        if let Some(index) = self.take_free() {
            return Ok(index);
        }
        if self.fresh as usize == self.arena.cells() {
            if self.arena.chunks() < self.max_chunks {
                self.arena.grow().map_err(AllocateError::Kernel)?;
            } else {
                self.collect();
                return self.take_free().ok_or(AllocateError::Full);
            }
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
    }

    fn take_free(&mut self) -> Option<u32> {
        let index = self.free;
        if index == NONE {
            return None;
        }
        self.free = self.arena.cell(index).links[0];
        Some(index)
    }

    /// The content of a cell.
    #[must_use]
    pub fn words(&self, cell: Handle) -> [u64; WORDS] {
        self.arena.cell(cell.0).words
    }

    /// Where a link of a cell leads.
    #[must_use]
    pub fn link(&self, cell: Handle, link: usize) -> Option<Handle> {
        handle(self.arena.cell(cell.0).links[link])
    }

    /// Sets a link of a cell.
    pub fn set_link(&mut self, cell: Handle, link: usize, to: Option<Handle>) {
        self.arena.cell_mut(cell.0).links[link] = index(to);
    }

    /// The cell that a root holds.
    #[must_use]
    pub fn root(&self, root: usize) -> Option<Handle> {
        handle(self.roots[root])
    }

    /// Sets a root.
    pub fn set_root(&mut self, root: usize, to: Option<Handle>) {
        self.roots[root] = index(to);
    }

    /// Finds what no root reaches, and makes it free to be used again. Returns the number of cells in use.
    pub fn collect(&mut self) -> usize {
        let live = self.mark();
        self.sweep();
        live
    }

    /// Marks what roots reach; returns how many cells that are.
    fn mark(&mut self) -> usize {
        self.counters.collections += 1;
        let mut live = 0;
        // A stack of its own: a list may be longer than the thread's stack is deep.
        let mut found: Vec<u32> = self.roots.iter().copied().filter(|root| *root != NONE).collect();
        while let Some(index) = found.pop() {
            let cell = self.arena.cell_mut(index);
            if cell.state == state::MARKED {
                continue;
            }
            cell.state = state::MARKED;
            live += 1;
            found.extend(cell.links.iter().filter(|link| **link != NONE));
        }
        live
    }

    /// Makes a list of all cells that are not marked, the lowest first, and takes the marks away.
    fn sweep(&mut self) {
        self.free = NONE;
        for index in (0..self.fresh).rev() {
            let free = self.free;
            let cell = self.arena.cell_mut(index);
            if cell.state == state::MARKED {
                cell.state = state::USED;
                continue;
            }
            self.counters.freed_cells += u64::from(cell.state == state::USED);
            cell.state = state::FREE;
            cell.links[0] = free;
            self.free = index;
        }
    }
}

const fn handle(index: u32) -> Option<Handle> {
    if index == NONE { None } else { Some(Handle(index)) }
}

fn index(handle: Option<Handle>) -> u32 {
    handle.map_or(NONE, |handle| handle.0)
}
