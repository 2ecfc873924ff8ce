//! Which blocks of the disk are free: a tree of bits.
//!
//! The lowest level has a bit for each block, set if it is free. Each level above has a bit for each word below it, set
//! if that word has any. Four levels of 64 are 2^24 blocks, 64 GiB; the lower two lie in frames that were given, the
//! upper two here. So the next free block is found with at most four words up and three down, however full the disk is
//! (a hierarchical bitmap, as P. van Emde Boas' "Preserving order in a forest", 1975, but for its square roots).
//!
//! Writes are to be long, and so blocks are given out in *runs*, from a cursor on that goes round: what is written at
//! one time lies in one place. Of the few runs after the cursor the first that is long enough is taken, else the longest.

use arrayvec::ArrayVec;
use pleat_types::{FrameMemory, Hfn};

use super::RUN_BLOCKS;
use crate::swap::error::{Bug, Corruption};

/// The most blocks that are used of a disk: 64 GiB.
pub const MAX_BLOCKS: u32 = 1 << 24;

/// Bits of a word: how many words of one level a word of the next one speaks for.
const FANOUT: u32 = u64::BITS;
const LEVELS: usize = 4;
/// Words in a frame.
const WORDS: u32 = 512;
/// Frames of the lowest level, at most, and of the one above it.
const MAP_FRAMES: usize = 512;
const SUMMARY_FRAMES: usize = 8;
const _: () = assert!(MAX_BLOCKS == FANOUT.pow(4) && MAX_BLOCKS as usize == MAP_FRAMES * 512 * 64);
const _: () = assert!(MAP_FRAMES == SUMMARY_FRAMES * FANOUT as usize);
/// Runs that are looked at for a long one.
const CANDIDATES: usize = 16;

/// Blocks in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::swap) struct Run {
    pub(in crate::swap) first: u32,
    pub(in crate::swap) count: u32,
}

/// The blocks.
#[derive(Debug)]
pub(in crate::swap) struct Blocks {
    map: ArrayVec<Hfn, MAP_FRAMES>,
    summary: ArrayVec<Hfn, SUMMARY_FRAMES>,
    third: [u64; FANOUT as usize],
    top: u64,
    total: u32,
    free: u32,
    /// They cannot be written: they are neither free nor anybody's.
    bad: u32,
    /// A sum over them ([`weigh`]).
    bad_weight: u64,
    /// Where the last run ended.
    cursor: u32,
}

impl Blocks {
    /// No disk.
    pub(in crate::swap) const fn new() -> Self {
        Self {
            map: ArrayVec::new_const(),
            summary: ArrayVec::new_const(),
            third: [0; FANOUT as usize],
            top: 0,
            total: 0,
            free: 0,
            bad: 0,
            bad_weight: 0,
            cursor: 0,
        }
    }

    /// How many frames the bits of so many blocks take.
    pub(in crate::swap) const fn frames_for(blocks: u32) -> u32 {
        let words = blocks.div_ceil(FANOUT);
        words.div_ceil(WORDS) + words.div_ceil(FANOUT).div_ceil(WORDS)
    }

    /// All blocks are free. `None` if no more frames are given than that.
    pub(in crate::swap) fn begin<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        blocks: u32,
        give: &mut impl FnMut() -> Option<Hfn>,
    ) -> Option<()> {
        let mut count = blocks.min(MAX_BLOCKS);
        let words = count.div_ceil(FANOUT);
        for _ in 0..words.div_ceil(WORDS) {
            self.map.try_push(give()?).ok()?;
        }
        for _ in 0..words.div_ceil(FANOUT).div_ceil(WORDS) {
            self.summary.try_push(give()?).ok()?;
        }
        self.map
            .iter()
            .chain(&self.summary)
            .for_each(|frame| memory.zero_frame(*frame));
        (self.total, self.free) = (count, count);
        for level in 0..LEVELS {
            for word in 0..count / FANOUT {
                self.set_word(memory, level, word, u64::MAX);
            }
            if !count.is_multiple_of(FANOUT) {
                self.set_word(memory, level, count / FANOUT, (1 << (count % FANOUT)) - 1);
            }
            count = count.div_ceil(FANOUT);
        }
        Some(())
    }

    pub(in crate::swap) const fn total(&self) -> u32 {
        self.total
    }

    pub(in crate::swap) const fn free_count(&self) -> u32 {
        self.free
    }

    pub(in crate::swap) const fn bad_count(&self) -> u32 {
        self.bad
    }

    pub(in crate::swap) const fn bad_weight(&self) -> u64 {
        self.bad_weight
    }

    /// Blocks in a row, at most so many and at least one, if there is any: bounded work. They are in use now.
    pub(in crate::swap) fn allocate_run<M: FrameMemory>(&mut self, memory: &mut M, want: u32) -> Option<Run> {
        let want = want.clamp(1, RUN_BLOCKS);
        let mut best: Option<Run> = None;
        let mut from = self.cursor;
        for _ in 0..CANDIDATES {
            let first = self.next(memory, from).or_else(|| self.next(memory, 0))?;
            let count = self.count_from(memory, first, want);
            if best.is_none_or(|best| count > best.count) {
                best = Some(Run { first, count });
            }
            if count == want {
                break;
            }
            from = first + count;
        }
        let run = best.filter(|run| run.count > 0)?;
        for block in run.first..run.first + run.count {
            self.clear(memory, block);
        }
        self.free = self.free.saturating_sub(run.count);
        self.cursor = run.first + run.count;
        Some(run)
    }

    /// Frees a block that is in use.
    pub(in crate::swap) fn free<M: FrameMemory>(&mut self, memory: &mut M, block: u32) -> Result<(), Bug> {
        if !self.is_used(memory, block) {
            return Err(Bug::BadBlock(block));
        }
        let mut at = block;
        for level in 0..LEVELS {
            let word = self.word(memory, level, at / FANOUT);
            self.set_word(memory, level, at / FANOUT, word | 1 << (at % FANOUT));
            at /= FANOUT;
        }
        self.free += 1;
        Ok(())
    }

    /// A block that was in use cannot be written: it is never given out again.
    pub(in crate::swap) const fn mark_bad(&mut self, block: u32) {
        self.bad += 1;
        self.bad_weight = self.bad_weight.wrapping_add(weigh(block));
    }

    /// Whether a block is there and not free.
    pub(in crate::swap) fn is_used<M: FrameMemory>(&self, memory: &M, block: u32) -> bool {
        block < self.total && self.word(memory, 0, block / FANOUT) >> (block % FANOUT) & 1 == 0
    }

    /// Visits all frames.
    pub(in crate::swap) fn for_each_frame(&self, visit: impl FnMut(Hfn)) {
        self.map.iter().chain(&self.summary).copied().for_each(visit);
    }

    /// Checks the levels and the count; how many blocks are in use, and a sum over them ([`weigh`]).
    pub(in crate::swap) fn audit<M: FrameMemory>(&self, memory: &M) -> Result<(u32, u64), Corruption> {
        let mut weight = 0_u64;
        let mut used = 0;
        for block in (0..self.total).filter(|block| self.is_used(memory, *block)) {
            weight = weight.wrapping_add(weigh(block));
            used += 1;
        }
        let mut count = self.total;
        for level in 1..LEVELS {
            count = count.div_ceil(FANOUT);
            for bit in 0..count {
                let is_set = self.word(memory, level, bit / FANOUT) >> (bit % FANOUT) & 1 == 1;
                if is_set != (self.word(memory, level - 1, bit) != 0) {
                    return Err(Corruption::BrokenBlocks);
                }
            }
        }
        if used + self.free != self.total {
            return Err(Corruption::BrokenBlocks);
        }
        Ok((used, weight))
    }

    /// The first free block from here on.
    fn next<M: FrameMemory>(&self, memory: &M, from: u32) -> Option<u32> {
        let mut at = from;
        for level in 0..LEVELS {
            let word = at / FANOUT;
            let rest = self.word(memory, level, word) & (u64::MAX << (at % FANOUT));
            if rest != 0 {
                return self.descend(memory, level, word * FANOUT + rest.trailing_zeros());
            }
            at = word + 1;
        }
        None
    }

    /// The first free block below a bit of a level. `None` if a bit says that there is one and there is none.
    fn descend<M: FrameMemory>(&self, memory: &M, level: usize, bit: u32) -> Option<u32> {
        let mut bit = bit;
        for lower in (0..level).rev() {
            let word = self.word(memory, lower, bit);
            bit = (word != 0).then_some(bit * FANOUT + word.trailing_zeros())?;
        }
        (bit < self.total).then_some(bit)
    }

    /// How many blocks from a free one on are free, at most so many: those of two words, which are more than a run.
    fn count_from<M: FrameMemory>(&self, memory: &M, first: u32, want: u32) -> u32 {
        let (word, shift) = (first / FANOUT, first % FANOUT);
        let mut count = (self.word(memory, 0, word) >> shift).trailing_ones();
        if count == FANOUT - shift {
            count += self.word(memory, 0, word + 1).trailing_ones();
        }
        count.min(want)
    }

    fn clear<M: FrameMemory>(&mut self, memory: &mut M, block: u32) {
        let mut at = block;
        for level in 0..LEVELS {
            let word = self.word(memory, level, at / FANOUT) & !(1 << (at % FANOUT));
            self.set_word(memory, level, at / FANOUT, word);
            if word != 0 {
                return;
            }
            at /= FANOUT;
        }
    }

    /// A word of a level; zero beyond its end.
    fn word<M: FrameMemory>(&self, memory: &M, level: usize, word: u32) -> u64 {
        let frame = (word / WORDS) as usize;
        let frame = match level {
            0 => self.map.get(frame),
            1 => self.summary.get(frame),
            2 => return self.third.get(word as usize).copied().unwrap_or(0),
            _ => return if word == 0 { self.top } else { 0 },
        };
        frame.map_or(0, |frame| memory.load_entry(*frame, (word % WORDS) as usize))
    }

    fn set_word<M: FrameMemory>(&mut self, memory: &mut M, level: usize, word: u32, value: u64) {
        let frame = (word / WORDS) as usize;
        let frame = match level {
            0 => self.map.get(frame),
            1 => self.summary.get(frame),
            2 => {
                return self
                    .third
                    .get_mut(word as usize)
                    .into_iter()
                    .for_each(|word| *word = value);
            }
            _ => {
                self.top = value;
                return;
            }
        };
        if let Some(frame) = frame {
            memory.store_entry(*frame, (word % WORDS) as usize, value);
        }
    }
}

/// A block's part in a sum over blocks: if two sums over as many blocks are equal, the blocks are, but for an accident of
/// one in 2^64 (Steele, Lea and Flood's SplitMix64, 2014).
pub(in crate::swap) const fn weigh(block: u32) -> u64 {
    let value = (block as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
