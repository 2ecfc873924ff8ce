//! Frames in the test's own memory, and which of them are free.

use std::vec;
use std::vec::Vec;

use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, Hpa};

pub struct Memory {
    frames: Vec<[u8; FRAME_SIZE]>,
}

impl Memory {
    /// All frames hold something that is neither a header nor a record.
    pub fn new(frames: usize) -> Self {
        Self {
            frames: vec![[0x5a; FRAME_SIZE]; frames],
        }
    }

    pub fn flip(&mut self, frame: Hfn, bit: usize) {
        self.frames[index(frame)][bit / 8] ^= 1 << (bit % 8);
    }

    pub fn overwrite(&mut self, frame: Hfn, content: &[u8; FRAME_SIZE]) {
        self.frames[index(frame)] = *content;
    }
}

pub fn index(frame: Hfn) -> usize {
    usize::try_from(frame.get()).unwrap()
}

impl FrameMemory for Memory {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]) {
        *out = self.frames[index(frame)];
    }

    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE] {
        &self.frames[index(frame.frame())]
    }

    fn zero_frame(&mut self, frame: Hfn) {
        self.frames[index(frame)].fill(0);
    }

    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        self.frames[index(to)] = self.frames[index(from)];
    }

    fn read(&self, from: Hpa, out: &mut [u8]) {
        let frame = &self.frames[index(from.hfn())];
        out.copy_from_slice(&frame[from.frame_offset()..][..out.len()]);
    }

    fn write(&mut self, to: Hpa, bytes: &[u8]) {
        let frame = &mut self.frames[index(to.hfn())];
        frame[to.frame_offset()..][..bytes.len()].copy_from_slice(bytes);
    }

    fn load_entry(&self, table: Hfn, entry: usize) -> u64 {
        let (words, _) = self.frames[index(table)].as_chunks::<8>();
        u64::from_le_bytes(words[entry])
    }

    fn store_entry(&mut self, table: Hfn, entry: usize, value: u64) {
        let (words, _) = self.frames[index(table)].as_chunks_mut::<8>();
        words[entry] = value.to_le_bytes();
    }
}
