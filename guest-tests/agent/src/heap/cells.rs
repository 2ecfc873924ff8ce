//! Cells, and the chunks of memory that they lie in.

use std::io;

use memmap2::MmapMut;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Links of a cell to others.
pub const LINKS: usize = 3;
/// Words of content in a cell.
pub const WORDS: usize = 6;
/// Bytes of a chunk: memory goes back to the kernel in such pieces. 256 KiB are more than a page, so that few calls
/// are made, and less than what an idle heap should keep for nothing.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Cells of a chunk.
pub const CHUNK_CELLS: usize = CHUNK_BYTES / size_of::<Cell>();

/// The place of a cell: its number in the arena. It may change when the heap is shrunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub(super) u32);

/// No cell.
pub(super) const NONE: u32 = u32::MAX;

/// What a cell is used for.
pub(super) mod state {
    /// Nobody uses it; its first link is the next free cell.
    pub const FREE: u32 = 0;
    /// In use, or not yet known not to be.
    pub const USED: u32 = 1;
    /// In use, and found by the mark phase.
    pub const MARKED: u32 = 2;
    /// It lies elsewhere now: where, its first link says.
    pub const MOVED: u32 = 3;
}

/// A cell: 64 bytes, zero when it is fresh.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Cell {
    pub state: u32,
    pub links: [u32; LINKS],
    pub words: [u64; WORDS],
}

/// Memory for cells, straight from the kernel. Dropped, it goes back.
#[derive(Debug)]
pub(super) struct Chunk(MmapMut);

impl Chunk {
    pub fn new() -> io::Result<Self> {
        MmapMut::map_anon(CHUNK_BYTES).map(Self)
    }

    // A mapping begins at a page, and a page is a whole number of cells: the casts always succeed.
    fn cells(&self) -> &[Cell] {
        <[Cell]>::ref_from_bytes(&self.0).unwrap_or_default()
    }

    fn cells_mut(&mut self) -> &mut [Cell] {
        <[Cell]>::mut_from_bytes(&mut self.0).unwrap_or_default()
    }
}

/// All chunks of a heap, as one row of cells.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
}

impl Arena {
    pub const fn chunks(&self) -> usize {
        self.chunks.len()
    }

    pub const fn cells(&self) -> usize {
        self.chunks.len() * CHUNK_CELLS
    }

    pub fn grow(&mut self) -> io::Result<()> {
        self.chunks.push(Chunk::new()?);
        Ok(())
    }

    /// Gives back all chunks but the first ones.
    pub fn shrink(&mut self, chunks: usize) {
        self.chunks.truncate(chunks);
    }

    /// # Panics
    /// Where there is no such cell: a handle was kept over a shrink.
    pub fn cell(&self, index: u32) -> &Cell {
        let index = index as usize;
        &self.chunks[index / CHUNK_CELLS].cells()[index % CHUNK_CELLS]
    }

    /// # Panics
    /// As [`Self::cell`].
    pub fn cell_mut(&mut self, index: u32) -> &mut Cell {
        let index = index as usize;
        &mut self.chunks[index / CHUNK_CELLS].cells_mut()[index % CHUNK_CELLS]
    }
}
