//! Which frames the records of slots lie in: a tree of two levels, whose roots are known.
//!
//! A root is a frame with the numbers of 1,024 frames of records, two in a word. There are 64 roots at most: eight
//! million slots, 32 GiB of guests' memory. The frames are given one at a time and are never given back: the table
//! is at most 1/128 of what was ever in the swap store at once.

use pleat_types::{FrameMemory, Hfn};

use super::record::{PER_FRAME, Spot};
use crate::swap::bits;
use crate::swap::error::{Bug, Error};

/// Frames of records that one root knows.
const FANOUT: u32 = 1024;
/// Roots.
const ROOTS: u32 = 64;
/// The most slots that there can be.
pub const MAX_SLOTS: u32 = FANOUT * PER_FRAME * ROOTS;

const NONE: u32 = u32::MAX;

/// The tree.
#[derive(Debug)]
pub(super) struct Directory {
    roots: [u32; ROOTS as usize],
    /// Frames of records.
    leaves: u32,
}

impl Directory {
    pub(super) const fn new() -> Self {
        Self {
            roots: [NONE; ROOTS as usize],
            leaves: 0,
        }
    }

    /// Slots that there is memory for.
    pub(super) const fn capacity(&self) -> u32 {
        self.leaves * PER_FRAME
    }

    /// Takes a frame: it becomes a root if the next frame of records needs one, else that frame.
    pub(super) fn add<M: FrameMemory>(&mut self, memory: &mut M, frame: Hfn) -> Result<(), Error> {
        let number = u32::try_from(frame.get()).ok().filter(|number| *number != NONE);
        let number = number.ok_or(Bug::BadFrame(frame))?;
        let root = self.roots.get_mut((self.leaves / FANOUT) as usize);
        let root = root.ok_or(Error::Full)?;
        memory.zero_frame(frame);
        if *root == NONE {
            *root = number;
            return Ok(());
        }
        let (word, shift) = position(self.leaves);
        let root = Hfn::new(u64::from(*root));
        let other = memory.load_entry(root, word) & !(u64::from(u32::MAX) << shift);
        memory.store_entry(root, word, other | u64::from(number) << shift);
        self.leaves += 1;
        Ok(())
    }

    /// Where the record of a slot lies, if there is memory for it.
    pub(super) fn find<M: FrameMemory>(&self, memory: &M, slot: u32) -> Option<Spot> {
        let leaf = slot / PER_FRAME;
        (leaf < self.leaves).then_some(())?;
        Some(Spot {
            frame: self.leaf(memory, leaf)?,
            number: slot % PER_FRAME,
        })
    }

    /// Visits all frames of the tree.
    pub(super) fn for_each<M: FrameMemory>(&self, memory: &M, mut visit: impl FnMut(Hfn)) {
        self.roots().for_each(|root| visit(Hfn::new(u64::from(root))));
        let leaves = (0..self.leaves).filter_map(|leaf| self.leaf(memory, leaf));
        leaves.for_each(visit);
    }

    /// How many frames there are in it.
    pub(super) fn frames(&self) -> u32 {
        self.roots().fold(self.leaves, |frames, _| frames + 1)
    }

    fn roots(&self) -> impl Iterator<Item = u32> {
        self.roots.iter().copied().take_while(|root| *root != NONE)
    }

    fn leaf<M: FrameMemory>(&self, memory: &M, leaf: u32) -> Option<Hfn> {
        let root = *self.roots.get((leaf / FANOUT) as usize)?;
        let (word, shift) = position(leaf);
        let word = memory.load_entry(Hfn::new(u64::from(root)), word);
        Some(Hfn::new(u64::from(bits(word, shift, 32))))
    }
}

/// Where a root has the number of a frame of records: the word, and the first bit of it.
const fn position(leaf: u32) -> (usize, u32) {
    let n = leaf % FANOUT;
    ((n / 2) as usize, n % 2 * u32::BITS)
}
