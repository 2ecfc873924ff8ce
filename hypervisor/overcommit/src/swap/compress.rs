//! Packing a page: LZ4, or one word if all are equal.
//!
//! LZ4 ("LZ4 Block Format Description", github.com/lz4/lz4) because unpacking is on the way of a guest's access, and
//! nothing else unpacks so fast for what it saves. A page whose words are all equal is not compressed at all: a
//! slot has room for a word. A page that would keep more than three quarters of its bytes is left alone: packed it
//! saves less than it costs, since what it leaves of a frame few others fit into.
//!
//! lz4_flex keeps its table of positions inside of [`CompressTable`] and allocates nothing, **unless its feature
//! `alloc` is on**: then the table is a box. Only tools for the host turn that on; cargo builds those apart from the
//! image. That is also why the table is made when it is first used: with `alloc` no constant can.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use pleat_types::FRAME_SIZE;

/// Bytes that a packed page may have, if nothing else is set.
pub const DEFAULT_BOUND: usize = FRAME_SIZE / 4 * 3;

/// What LZ4 makes of a page that cannot be compressed, and as much room as lz4_flex insists on.
const OUTPUT: usize = get_maximum_output_size(FRAME_SIZE);

/// A page, packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// All words are this one.
    Filled(u64),
    /// An LZ4 block, not longer than the bound. It lies in the compressor.
    Packed(&'a [u8]),
    /// It would be longer than the bound.
    Incompressible,
}

/// Packed bytes that no page was packed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damaged;

/// All that packing needs: about 20 KiB, to be a static.
pub struct Compressor {
    table: Option<CompressTable>,
    output: [u8; OUTPUT],
    bound: usize,
}

impl Compressor {
    /// A compressor with [`DEFAULT_BOUND`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            table: None,
            output: [0; OUTPUT],
            bound: DEFAULT_BOUND,
        }
    }

    /// Sets how many bytes a packed page may have; more than [`super::MAX_OBJECT`] no pool would take. With none a page is
    /// one word or incompressible, and nothing is tried.
    pub fn set_bound(&mut self, bytes: usize) {
        self.bound = bytes.min(super::MAX_OBJECT);
    }

    /// The first bytes of what a page was packed to last.
    #[must_use]
    pub fn packed(&self, length: usize) -> &[u8] {
        self.output.get(..length).unwrap_or(&[])
    }

    /// Packs a page.
    pub fn pack(&mut self, page: &[u8; FRAME_SIZE]) -> Content<'_> {
        if let Some(word) = filled(page) {
            return Content::Filled(word);
        }
        if self.bound == 0 {
            return Content::Incompressible;
        }
        let table = self.table.get_or_insert_with(CompressTable::small);
        // It fails only without room for the worst case.
        let length = compress_into_with_table(page, &mut self.output, table);
        let packed = length.ok().and_then(|length| self.output.get(..length));
        packed
            .filter(|packed| packed.len() <= self.bound)
            .map_or(Content::Incompressible, Content::Packed)
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

/// The word that all words of the page are equal to.
fn filled(page: &[u8; FRAME_SIZE]) -> Option<u64> {
    let (words, _) = page.as_chunks::<8>();
    let first = words.first()?;
    let is_filled = words.iter().all(|word| word == first);
    is_filled.then(|| u64::from_le_bytes(*first))
}

/// Fills a page with a word.
pub fn fill(word: u64, page: &mut [u8; FRAME_SIZE]) {
    let (words, _) = page.as_chunks_mut::<8>();
    words.fill(word.to_le_bytes());
}

/// Unpacks what [`Compressor::pack`] made. The page is old or in parts if the bytes are damaged.
pub fn unpack(packed: &[u8], page: &mut [u8; FRAME_SIZE]) -> Result<(), Damaged> {
    match decompress_into(packed, page) {
        Ok(FRAME_SIZE) => Ok(()),
        _ => Err(Damaged),
    }
}
