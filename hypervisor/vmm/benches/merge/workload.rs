//! Generated memory: which page has which content, and how it changes.
//!
//! A quarter of the pages is zero, 40 % are in groups of four equal ones, 35 % are unique: what was found
//! in memory of idle Linux guests, rounded. Both sides get the same pages in the same order.

use std::collections::HashSet;

pub const PAGE: usize = 4096;
/// The bytes at the start of a page that all pages but zero ones have in common, when there is such a prefix.
const COMMON_PREFIX: usize = 4032;
/// The pages of a group.
const GROUP: usize = 4;
/// Parts of a hundred that are zero, and that are in groups; the rest is unique.
const ZERO_PERCENT: u64 = 25;
const GROUPED_PERCENT: u64 = 40;

/// SplitMix64: small, fast, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`.
    #[allow(clippy::cast_possible_truncation)] // below `end`
    pub const fn below(&mut self, end: usize) -> usize {
        ((self.next() as u128 * end as u128) >> 64) as usize
    }

    /// Puts `count` elements that are chosen at random in front.
    fn shuffle_front<T>(&mut self, all: &mut [T], count: usize) {
        for at in 0..count {
            let other = at + self.below(all.len() - at);
            all.swap(at, other);
        }
    }
}

/// What is in a page: 0 for zeros, else what the bytes are generated from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Content(u64);

impl Content {
    pub const ZERO: Self = Self(0);
}

/// In what pages that differ are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Likeness {
    /// In nothing.
    None,
    /// Their first 4,032 bytes are the same.
    CommonPrefix,
}

/// Writes a content into a page.
pub fn fill(content: Content, likeness: Likeness, page: &mut [u8; PAGE]) {
    if content == Content::ZERO {
        page.fill(0);
        return;
    }
    let own_from = match likeness {
        Likeness::None => 0,
        Likeness::CommonPrefix => COMMON_PREFIX,
    };
    let (common, own) = page.split_at_mut(own_from);
    common.fill(0x5a);
    let mut random = Random::new(content.0);
    for word in own.as_chunks_mut().0 {
        *word = random.next().to_le_bytes();
    }
}

/// The pages of one side's memory.
#[derive(Clone, Debug)]
pub struct Workload {
    pub pages: Vec<Content>,
    pub likeness: Likeness,
    random: Random,
    /// Contents of groups, for pages that are rewritten.
    groups: Vec<Content>,
    fresh: u64,
}

impl Workload {
    /// The usual mix, in random places.
    pub fn mixed(pages: usize, seed: u64, likeness: Likeness) -> Self {
        let mut workload = Self {
            pages: Vec::with_capacity(pages),
            likeness,
            random: Random::new(seed),
            groups: Vec::new(),
            // Far from each other: contents are states of one generator, which must not meet.
            fresh: seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1,
        };
        let part = |percent: u64| pages * usize::try_from(percent).unwrap_or(0) / 100;
        workload.pages.resize(part(ZERO_PERCENT), Content::ZERO);
        for _ in 0..part(GROUPED_PERCENT) / GROUP {
            let content = workload.fresh();
            workload.groups.push(content);
            workload.pages.extend([content; GROUP]);
        }
        while workload.pages.len() < pages {
            let content = workload.fresh();
            workload.pages.push(content);
        }
        workload.random.shuffle_front(&mut workload.pages, pages);
        workload
    }

    /// Pages that are all equal.
    pub fn crowd(pages: usize, seed: u64) -> Self {
        let mut workload = Self::mixed(0, seed, Likeness::None);
        let content = workload.fresh();
        workload.pages = vec![content; pages];
        workload
    }

    fn fresh(&mut self) -> Content {
        self.fresh = self.fresh.wrapping_add(0xd134_2543_de82_ef95);
        Content(Random::new(self.fresh).next() | 1)
    }

    /// Gives so many of a thousand pages a new content of the same mix, and says which.
    pub fn rewrite(&mut self, per_mille: usize) -> Vec<usize> {
        let count = self.pages.len() * per_mille / 1000;
        let mut places: Vec<usize> = (0..self.pages.len()).collect();
        self.random.shuffle_front(&mut places, count);
        places.truncate(count);
        for place in &places {
            let kind = self.random.next() % 100;
            self.pages[*place] = if kind < ZERO_PERCENT {
                Content::ZERO
            } else if kind < ZERO_PERCENT + GROUPED_PERCENT && !self.groups.is_empty() {
                self.groups[self.random.below(self.groups.len())]
            } else {
                self.fresh()
            };
        }
        places
    }

    /// How many different contents there are, zero aside: the frames that the ideal needs.
    pub fn distinct(&self) -> usize {
        let contents: HashSet<Content> = self.pages.iter().copied().collect();
        contents.len() - usize::from(contents.contains(&Content::ZERO))
    }

    /// Writes the content of one page.
    pub fn fill(&self, page: usize, bytes: &mut [u8; PAGE]) {
        fill(self.pages[page], self.likeness, bytes);
    }
}

/// Different contents by their bytes, zero aside.
pub fn distinct_bytes<'a>(pages: impl Iterator<Item = &'a [u8; PAGE]>) -> usize {
    let contents: HashSet<&[u8; PAGE]> = pages.filter(|page| **page != [0; PAGE]).collect();
    contents.len()
}
