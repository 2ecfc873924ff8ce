//! Where on the disk the check works, and what each block has to contain.

/// A generator of numbers (xorshift64*), the same in each run.
pub struct Numbers(u64);

impl Numbers {
    /// Begins at a seed other than 0.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        usize::try_from(self.next() % end).expect("addresses have 64 bits")
    }
}

/// Blocks of one stretch of the disk.
pub const AREA_BLOCKS: usize = 192;
/// Stretches: the beginning, the end, and where sectors stop having addresses of 28 bits.
pub const AREAS: usize = 3;

/// A stretch of the disk and how often each block of it was written.
pub struct Area {
    /// Its first block.
    pub first: u64,
    /// Its blocks; 0 if the disk has no such place.
    pub blocks: usize,
    written: [u8; AREA_BLOCKS],
}

impl Area {
    /// The stretches of a disk with so many blocks. They do not overlap.
    pub fn all(blocks: u64) -> [Self; AREAS] {
        /// Blocks before the first one whose sectors need more than 28 bits.
        const SHORT: u64 = 1 << 25;
        let length = AREA_BLOCKS as u64;
        let area = |first: u64, is_there: bool| Self {
            first,
            blocks: if is_there { AREA_BLOCKS } else { 0 },
            written: [0; AREA_BLOCKS],
        };
        [
            area(0, blocks >= length),
            area(blocks.saturating_sub(length), blocks >= 2 * length),
            area(SHORT - length / 2, blocks >= SHORT + 2 * length),
        ]
    }

    /// Notes that a block is written once more.
    pub fn note_write(&mut self, index: usize) {
        self.written[index] = self.written[index].wrapping_add(1).max(1);
    }

    /// The word at `index` of a block: of the block's number and how often it was written. A disk that nobody has written
    /// to is zero.
    pub fn fill(&self, index: usize, bytes: &mut [u8]) {
        let version = u64::from(self.written[index]);
        if version == 0 {
            bytes.fill(0);
            return;
        }
        let block = self.first + index as u64;
        let mut numbers = Numbers::new((block + 1) << 8 | version);
        for word in bytes.chunks_exact_mut(8) {
            word.copy_from_slice(&numbers.next().to_le_bytes());
        }
    }
}
