//! A set of interrupt vectors: the 256 bits of IRR or ISR.

/// 256 bits, as four words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct VectorSet {
    words: [u64; 4],
}

impl VectorSet {
    const fn place(vector: u8) -> (usize, u64) {
        ((vector >> 6) as usize, 1 << (vector & 63))
    }

    pub(super) const fn insert(&mut self, vector: u8) {
        let (word, bit) = Self::place(vector);
        self.words[word] |= bit;
    }

    pub(super) const fn remove(&mut self, vector: u8) {
        let (word, bit) = Self::place(vector);
        self.words[word] &= !bit;
    }

    pub(super) const fn contains(&self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        self.words[word] & bit != 0
    }

    /// The highest vector, which has the highest priority (SDM 10.8.3).
    #[inline]
    pub(super) const fn highest(&self) -> Option<u8> {
        let [low, mid_low, mid_high, high] = self.words;
        // Device vectors are high, so the first or second test decides.
        let (base, word) = if high != 0 {
            (192, high)
        } else if mid_high != 0 {
            (128, mid_high)
        } else if mid_low != 0 {
            (64, mid_low)
        } else {
            (0, low)
        };
        match word.checked_ilog2() {
            Some(bit) => Some(base | (bit & 63) as u8),
            None => None,
        }
    }

    /// The 32-bit register `index` (0 to 7) of the eight that show the set.
    pub(super) const fn register(&self, index: u32) -> u32 {
        let word = self.words[((index >> 1) & 3) as usize];
        if index & 1 == 0 {
            (word & 0xffff_ffff) as u32
        } else {
            (word >> 32) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_vector_comes_first_and_registers_show_the_bits() {
        let mut set = VectorSet::default();
        assert_eq!(set.highest(), None);
        for vector in [0, 31, 32, 63, 64, 200, 255] {
            set.insert(vector);
            assert_eq!(set.highest(), Some(vector));
            assert!(set.contains(vector));
        }
        assert_eq!(
            [0, 1, 2, 3].map(|i| set.register(i)),
            [0x8000_0001, 0x8000_0001, 1, 0]
        );
        assert_eq!(set.register(6), 1 << 8);
        assert_eq!(set.register(7), 0x8000_0000);
        set.remove(255);
        assert_eq!(set.highest(), Some(200));
    }
}
