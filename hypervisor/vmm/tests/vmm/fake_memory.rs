//! The memory of the fake machine.

use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, Hpa};
use std::cell::Cell;

/// Ticks that it takes to zero a frame.
const ZERO_TICKS: u64 = 10;
/// Ticks that it takes to change an entry of a table.
const ENTRY_TICKS: u64 = 1;
/// Ticks that it takes to copy, hash or compare a frame.
const PASS_TICKS: u64 = 100;

/// What a frame holds; only what was written takes memory, so that a machine can have several GiB.
#[derive(Clone)]
enum Content {
    /// Bytes of somebody else, which no guest may see.
    Old,
    Zero,
    Written(Box<[u8; FRAME_SIZE]>),
}

impl Content {
    fn bytes(&self) -> &[u8; FRAME_SIZE] {
        match self {
            Self::Old => &[0xA5; FRAME_SIZE],
            Self::Zero => &[0; FRAME_SIZE],
            Self::Written(bytes) => bytes,
        }
    }
}

pub struct FakeMemory {
    frames: Vec<Content>,
    /// Ticks that work on memory took and that the clock has not been told of.
    spent: Cell<u64>,
}

impl FakeMemory {
    pub fn new(bytes: usize) -> Self {
        Self {
            frames: vec![Content::Old; bytes / FRAME_SIZE],
            spent: Cell::new(0),
        }
    }

    fn index(frame: Hfn) -> usize {
        usize::try_from(frame.get()).expect("small")
    }

    fn frame(&self, frame: Hfn) -> &[u8; FRAME_SIZE] {
        self.frames[Self::index(frame)].bytes()
    }

    fn frame_mut(&mut self, frame: Hfn) -> &mut [u8; FRAME_SIZE] {
        let content = &mut self.frames[Self::index(frame)];
        if !matches!(content, Content::Written(_)) {
            *content = Content::Written(Box::new(*content.bytes()));
        }
        match content {
            Content::Written(bytes) => bytes,
            Content::Old | Content::Zero => unreachable!("it was written just now"),
        }
    }

    pub fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.read(Hpa::new(at), &mut word);
        u64::from_le_bytes(word)
    }

    /// What the processor does to an entry of a table: nobody's time.
    pub fn set_flags(&mut self, at: u64, flags: u64) {
        let entry = self.word(at) | flags;
        self.write(Hpa::new(at), &entry.to_le_bytes());
    }

    /// Where the tables map a page and by which entry, without leaving a trace.
    pub fn look_up(&self, eptp: u64, gpa: u64) -> Option<(u64, u64)> {
        let mut table = eptp & !0xfff;
        for level in (0..4).rev() {
            let shift = 12 + 9 * level;
            let entry = self.word(table + (gpa >> shift & 511) * 8);
            if entry & 1 == 0 {
                return None;
            }
            let frame = entry & 0x000f_ffff_ffff_f000;
            if level == 0 || entry & 1 << 7 != 0 {
                let offset = gpa & ((1 << shift) - 1);
                return Some(((frame & !((1 << shift) - 1)) + offset, entry));
            }
            table = frame;
        }
        None
    }

    fn spend(&self, ticks: u64) {
        self.spent.set(self.spent.get() + ticks);
    }

    /// Ticks that the clock has not been told of.
    pub fn spent(&self) -> u64 {
        self.spent.get()
    }

    /// Tells the clock.
    pub fn take_spent(&self) -> u64 {
        self.spent.take()
    }
}

impl FrameMemory for FakeMemory {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]) {
        *out = *self.frame(frame);
    }
    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE] {
        self.spend(PASS_TICKS);
        self.frame(frame.frame())
    }
    fn zero_frame(&mut self, frame: Hfn) {
        self.frames[Self::index(frame)] = Content::Zero;
        self.spend(ZERO_TICKS);
    }
    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        self.spend(PASS_TICKS);
        self.frames[Self::index(to)] = self.frames[Self::index(from)].clone();
    }
    fn read(&self, from: Hpa, out: &mut [u8]) {
        let mut at = from;
        let mut rest = out;
        while !rest.is_empty() {
            let offset = at.frame_offset();
            let (piece, behind) = rest.split_at_mut(rest.len().min(FRAME_SIZE - offset));
            piece.copy_from_slice(&self.frame(at.hfn())[offset..][..piece.len()]);
            at = at.checked_add(piece.len() as u64).expect("small");
            rest = behind;
        }
    }
    fn write(&mut self, to: Hpa, bytes: &[u8]) {
        let mut at = to;
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = at.frame_offset();
            let (piece, behind) = rest.split_at(rest.len().min(FRAME_SIZE - offset));
            self.frame_mut(at.hfn())[offset..][..piece.len()].copy_from_slice(piece);
            at = at.checked_add(piece.len() as u64).expect("small");
            rest = behind;
        }
    }
    fn load_entry(&self, table: Hfn, index: usize) -> u64 {
        let (words, _) = self.frame(table).as_chunks::<8>();
        u64::from_le_bytes(words[index])
    }
    fn store_entry(&mut self, table: Hfn, index: usize, value: u64) {
        self.spend(ENTRY_TICKS);
        let (words, _) = self.frame_mut(table).as_chunks_mut::<8>();
        words[index] = value.to_le_bytes();
    }
}

/// A page that nobody can pack: the steps of a linear congruential generator (Knuth, MMIX).
pub fn noise_of(number: u64) -> [u8; FRAME_SIZE] {
    let mut page = [0; FRAME_SIZE];
    let mut state = number;
    for bytes in page.as_chunks_mut::<4>().0 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *bytes = ((state >> 32) as u32).to_le_bytes();
    }
    page
}
