//! What a guest's memory must hold, from its program alone: compared byte by byte with what its tables map.

use crate::fake::{Op, page_of};
use crate::scenario::Report;
use pleat_types::{FRAME_SIZE, FrameMemory, Hpa};
use std::collections::HashMap;

/// Behind what is loaded into these tests' guests.
const FIRST: u64 = 0x10_5000;

/// Pages that were stored to; all others are zeros.
#[derive(Debug, Default)]
pub struct Oracle {
    pages: HashMap<u64, Box<[u8; FRAME_SIZE]>>,
}

impl Oracle {
    /// After these steps.
    pub fn after(steps: &[Op]) -> Self {
        let mut oracle = Self::default();
        for step in steps {
            match step {
                Op::Store(gpa, word) => oracle.store(*gpa, *word),
                Op::StorePage(gpa, word) => {
                    oracle.pages.insert(gpa >> 12, Box::new(page_of(*word)));
                }
                Op::Jump(_) => panic!("the oracle knows no loops"),
                _ => {}
            }
        }
        oracle
    }

    fn store(&mut self, gpa: u64, word: u64) {
        for (at, byte) in (gpa..).zip(word.to_le_bytes()) {
            let page = self.pages.entry(at >> 12);
            page.or_insert_with(|| Box::new([0; FRAME_SIZE]))[at as usize % FRAME_SIZE] = byte;
        }
    }

    /// Compares a guest's memory with it.
    fn check(&self, report: &Report, eptp: u64, name: &str, bytes: u64) {
        let memory = &report.platform.memory;
        let zeros = Box::new([0; FRAME_SIZE]);
        for gpa in (FIRST..bytes).step_by(FRAME_SIZE) {
            let mut found = [0; FRAME_SIZE];
            if let Some(at) = memory.look_up(eptp, gpa) {
                memory.read(Hpa::new(at), &mut found);
            }
            let wanted = self.pages.get(&(gpa >> 12)).unwrap_or(&zeros);
            if found != **wanted {
                let wrong = (0..FRAME_SIZE).find(|index| found[*index] != wanted[*index]);
                let wrong = wrong.expect("they differ");
                let (found, wanted) = (found[wrong], wanted[wrong]);
                panic!("guest `{name}`: {found:#x} at {gpa:#x} + {wrong}, not {wanted:#x}");
            }
        }
    }
}

impl Report {
    /// Every byte of every guest that has not ended is what its program has made of it so far.
    pub fn check_memory(&self) {
        for (index, guest) in self.guests.iter().enumerate() {
            if self.guest(guest.name)["state"] != "running" {
                continue;
            }
            let progress = self.platform.progress[&(index as u16)];
            let program = &self.platform.programs[index];
            let oracle = Oracle::after(&program[..progress.steps.min(program.len())]);
            oracle.check(self, progress.eptp, guest.name, guest.memory_bytes);
        }
    }
}
