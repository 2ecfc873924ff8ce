//! What pages hold: contents of known compressibility that can be computed again.

use pleat_guest::check;
use pleat_guest::contents::{self, seed_of};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::mix;

/// After so many words the order of a phrase's words begins anew.
const PHRASE: usize = 61;

/// The content of a page. What it is packed to by LZ4 is known well enough to say which machine it fits into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Zero,
    /// All words are this one: nothing but the word has to be kept.
    Filled(u64),
    /// Numbers in a row from this one on, each four times: packed to about a quarter.
    Counter(u64),
    /// Eight words in an order that comes again and again: packed to less than a tenth.
    Phrase(u64),
    /// Nothing can be saved.
    Noise(contents::Content),
}

impl Content {
    /// A word of it.
    #[inline(always)]
    pub(crate) const fn word(self, index: usize) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Filled(word) => word,
            Self::Counter(first) => first.wrapping_add(index as u64 / 4),
            Self::Phrase(seed) => seed.rotate_left((seed >> (index % PHRASE) & 7) as u32 * 8),
            Self::Noise(content) => content.word(index),
        }
    }
}

/// How much of which content there is, in percent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    noise: u64,
    zero: u64,
    filled: u64,
}

impl Recipe {
    pub(crate) fn new(parameters: Parameters<'_>) -> Self {
        let recipe = Self {
            noise: parameters.number("noise", 20),
            zero: parameters.number("zero", 5),
            filled: parameters.number("filled", 5),
        };
        let Self { noise, zero, filled } = recipe;
        check!(
            noise.saturating_add(zero).saturating_add(filled) <= 100,
            "noise={noise} zero={zero} filled={filled}: more than 100 percent"
        );
        recipe
    }

    /// What a page holds in a generation; guests with the same seed have the same.
    pub(crate) fn content(self, seed: u64, page: usize, generation: u64) -> Content {
        let seed = seed_of(&[seed, page as u64, generation]);
        let (zero, filled) = (self.noise + self.zero, self.noise + self.zero + self.filled);
        match mix(seed) % 100 {
            dice if dice < self.noise => Content::Noise(contents::Content::seeded(seed)),
            dice if dice < zero => Content::Zero,
            dice if dice < filled => Content::Filled(seed | 1),
            dice if dice.is_multiple_of(2) => Content::Counter(seed),
            _ => Content::Phrase(seed),
        }
    }
}
