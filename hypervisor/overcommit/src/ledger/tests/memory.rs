//! Frames in the test's own memory, which counts accesses.

use std::cell::Cell;
use std::vec;
use std::vec::Vec;

use pleat_types::{FRAME_SIZE, FrameMemory, FrozenFrame, Hfn, Hpa};

pub struct Memory {
    frames: Vec<[u64; 512]>,
    accesses: Cell<u64>,
}

impl Memory {
    /// All frames hold something that is no list.
    pub fn new(frames: u64) -> Self {
        Self {
            frames: vec![[0x5555_aaaa_0123_4567; 512]; usize::try_from(frames).unwrap()],
            accesses: Cell::new(0),
        }
    }

    /// Entries that were read and written so far; a whole frame counts as one.
    pub fn accesses(&self) -> u64 {
        self.accesses.get()
    }

    pub fn flip(&mut self, frame: Hfn, bit: usize) {
        self.frames[index(frame)][bit / 64] ^= 1 << (bit % 64);
    }

    fn note(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

fn index(frame: Hfn) -> usize {
    usize::try_from(frame.get()).unwrap()
}

impl FrameMemory for Memory {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; FRAME_SIZE]) {
        self.read(frame.base(), out);
    }

    fn frozen<'a>(&'a self, _: &'a FrozenFrame) -> &'a [u8; FRAME_SIZE] {
        unreachable!("the ledger borrows no bytes")
    }

    fn zero_frame(&mut self, frame: Hfn) {
        self.note();
        self.frames[index(frame)] = [0; 512];
    }

    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        self.note();
        self.frames[index(to)] = self.frames[index(from)];
    }

    fn read(&self, from: Hpa, out: &mut [u8]) {
        self.note();
        let entries = &self.frames[index(from.hfn())];
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        out.copy_from_slice(&bytes[from.frame_offset()..][..out.len()]);
    }

    fn write(&mut self, _: Hpa, _: &[u8]) {
        unreachable!("the ledger writes entries")
    }

    fn load_entry(&self, table: Hfn, entry: usize) -> u64 {
        self.note();
        self.frames[index(table)][entry]
    }

    fn store_entry(&mut self, table: Hfn, entry: usize, value: u64) {
        self.note();
        self.frames[index(table)][entry] = value;
    }
}
