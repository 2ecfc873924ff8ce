//! What pages hold: contents that follow from a seed, equal for equal seeds, and different in one word only
//! for those that are to be similar. Nothing needs to be remembered to check them.

use crate::random::mix;

/// Words of a page.
const WORDS: usize = 512;

/// The content of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// All zeros.
    Zero,
    /// Words that follow from a seed; in one of them, some bits are different.
    Seeded {
        /// What all words follow from.
        seed: u64,
        /// The word that differs from those of the same seed.
        at: usize,
        /// By these bits: 0 for a page that differs nowhere.
        by: u64,
    },
}

impl Content {
    /// The content of a seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self::Seeded { seed, at: 0, by: 0 }
    }

    /// One of the contents that all guests with the same seed know.
    #[must_use]
    pub fn common(seed: u64, number: u64) -> Self {
        Self::seeded(seed_of(&[seed, u64::from(u32::MAX), number]))
    }

    /// Nearly the content of a seed: `number` (below 130,000) says which byte of which word differs, and how.
    /// Different numbers give different contents. Who compares two of them has to look at every byte.
    #[must_use]
    pub const fn near(seed: u64, number: usize) -> Self {
        let at = number.wrapping_mul(0x1f5) % WORDS;
        let by = (number / WORDS) as u64 + 1;
        Self::Seeded {
            seed,
            at,
            by: by << (8 * (number % 5)),
        }
    }

    /// A word of it.
    #[must_use]
    #[inline(always)]
    pub const fn word(self, index: usize) -> u64 {
        let Self::Seeded { seed, at, by } = self else {
            return 0;
        };
        let word = (seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = word ^ (word >> 29);
        if index == at { word ^ by } else { word }
    }
}

/// A seed that stands for several numbers in this order.
#[must_use]
pub fn seed_of(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |seed, part| mix(seed.rotate_left(7) ^ part))
}

#[cfg(test)]
mod tests {
    use super::{Content, WORDS, seed_of};

    fn words(content: Content) -> Vec<u64> {
        (0..WORDS).map(|index| content.word(index)).collect()
    }

    #[test]
    fn other_seeds_give_other_words_and_the_same_give_the_same() {
        let content = words(Content::seeded(7));
        assert_eq!(content, words(Content::seeded(7)));
        assert!(
            content
                .iter()
                .zip(words(Content::seeded(8)))
                .all(|(a, b)| *a != b)
        );
        assert!(words(Content::Zero).iter().all(|word| *word == 0));
        assert_ne!(seed_of(&[1, 2]), seed_of(&[2, 1]));
    }

    #[test]
    fn near_contents_differ_from_their_seed_in_one_byte_each_and_from_each_other() {
        let base = words(Content::seeded(3));
        let mut all: Vec<Vec<u64>> = (0..3000).map(|number| words(Content::near(3, number))).collect();
        for content in &all {
            assert_eq!(content.iter().zip(&base).filter(|(a, b)| a != b).count(), 1);
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
