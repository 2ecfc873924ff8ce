//! What a guest's memory must hold, from its program alone: compared byte by byte with what its tables map.

use crate::fake::{Op, page_of};
use crate::fake_memory::noise_of;
use crate::scenario::Report;
use pleat_bundle::config::{GuestConfig, Merge};
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
        steps.iter().for_each(|step| oracle.step(step));
        oracle
    }

    /// After this step, too.
    pub fn step(&mut self, step: &Op) {
        match step {
            Op::Store(gpa, word) => self.store(*gpa, *word),
            Op::StoreNoise(gpa, number) => {
                self.pages.insert(gpa >> 12, Box::new(noise_of(*number)));
            }
            Op::StorePage(gpa, word) => {
                self.pages.insert(gpa >> 12, Box::new(page_of(*word)));
            }
            Op::Becomes(gpa, bytes) if bytes.len() == FRAME_SIZE && gpa % FRAME_SIZE as u64 == 0 => {
                let page = bytes[..].try_into().expect("a whole page");
                self.pages.insert(gpa >> 12, Box::new(page));
            }
            Op::Becomes(gpa, bytes) => {
                let bytes = bytes.iter();
                (*gpa..).zip(bytes).for_each(|(at, byte)| self.set(at, *byte));
            }
            Op::Jump(_) => panic!("the oracle knows no loops"),
            _ => {}
        }
    }

    fn store(&mut self, gpa: u64, word: u64) {
        for (at, byte) in (gpa..).zip(word.to_le_bytes()) {
            self.set(at, byte);
        }
    }

    fn set(&mut self, at: u64, byte: u8) {
        let page = self.pages.entry(at >> 12);
        page.or_insert_with(|| Box::new([0; FRAME_SIZE]))[at as usize % FRAME_SIZE] = byte;
    }

    /// The word there.
    pub fn word(&self, gpa: u64) -> u64 {
        let byte = |at: u64| {
            let page = self.pages.get(&(at >> 12));
            page.map_or(0, |page| page[at as usize % FRAME_SIZE])
        };
        u64::from_le_bytes(core::array::from_fn(|index| byte(gpa + index as u64)))
    }

    /// Compares a guest's memory with it, but for these pages.
    fn check(&self, report: &Report, index: usize, eptp: u64, unsure: &[u64]) {
        let memory = &report.platform.memory;
        let (name, bytes) = (report.guests[index].name, report.guests[index].memory_bytes);
        let zeros = Box::new([0; FRAME_SIZE]);
        let pages = (FIRST..bytes).step_by(FRAME_SIZE);
        for gpa in pages.filter(|gpa| !unsure.contains(&(gpa >> 12))) {
            let mut found = [0; FRAME_SIZE];
            if let Some((at, _)) = memory.look_up(eptp, gpa) {
                memory.read(Hpa::new(at), &mut found);
            } else if let Some(swapped) = report.contents.get(&(index, gpa >> 12)) {
                found = *swapped;
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

/// The pages that a device writes to, if the run has ended while it is at work.
fn on_its_way(future: &[Op]) -> Vec<u64> {
    let skipped = usize::from(matches!(future.first(), Some(Op::Exits(..))));
    let becomes = future.iter().skip(skipped).map_while(|step| match step {
        Op::Becomes(gpa, bytes) => Some(gpa >> 12..=(gpa + bytes.len() as u64 - 1) >> 12),
        _ => None,
    });
    becomes.flatten().collect()
}

/// A page of a guest that maps a frame.
#[derive(Clone, Copy, Debug)]
struct Sharer<'r> {
    domain: &'r str,
    gpa: u64,
    is_writable: bool,
    may_merge: bool,
}

impl Report {
    /// Guests that have not ended, with their places in the list and their EPT pointers.
    fn alive(&self) -> impl Iterator<Item = (usize, &GuestConfig<'static>, u64)> {
        let alive = |name| self.guest(name)["state"] == "running";
        let guests = self.guests.iter().enumerate();
        guests
            .filter(move |(_, guest)| alive(guest.name))
            .map(|(index, guest)| (index, guest, self.platform.progress[&(index as u16)].eptp))
    }

    /// Every byte of every guest that has not ended is what its program has made of it so far; and no two pages have
    /// a frame in common that must not.
    pub fn check_memory(&self) {
        for (index, _, eptp) in self.alive() {
            let program = &self.platform.programs[index];
            let steps = self.platform.progress[&(index as u16)].steps;
            let (past, future) = program.split_at(steps.min(program.len()));
            let unsure = on_its_way(future);
            Oracle::after(past).check(self, index, eptp, &unsure);
        }
        self.check_sharing();
    }

    fn check_sharing(&self) {
        let mut frames: HashMap<u64, Vec<Sharer<'_>>> = HashMap::new();
        for (_, guest, eptp) in self.alive() {
            for gpa in (0..guest.memory_bytes).step_by(FRAME_SIZE) {
                if let Some((at, entry)) = self.platform.memory.look_up(eptp, gpa) {
                    frames.entry(at).or_default().push(Sharer {
                        domain: guest.domain,
                        gpa,
                        is_writable: entry & 2 != 0,
                        may_merge: guest.merge == Merge::On,
                    });
                }
            }
        }
        for (frame, sharers) in frames.iter().filter(|(_, sharers)| sharers.len() > 1) {
            let mut content = [0; FRAME_SIZE];
            self.platform.memory.read(Hpa::new(*frame), &mut content);
            let is_one_domain = sharers.iter().all(|sharer| sharer.domain == sharers[0].domain);
            let may = is_one_domain && sharers.iter().all(|sharer| sharer.may_merge);
            let gpas: Vec<u64> = sharers.iter().map(|sharer| sharer.gpa).collect();
            assert!(may || content == [0; FRAME_SIZE], "{frame:#x} at {gpas:x?}");
            assert!(
                !sharers.iter().any(|sharer| sharer.is_writable),
                "{frame:#x}: {sharers:?}"
            );
        }
    }
}
