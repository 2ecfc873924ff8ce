//! Memory keeps what was written to it. Every half page has a version; its content follows from seed,
//! place and version, so that a small table is the oracle for all of memory. Version 0 is untouched: zero.
//!
//! Parameters: `seed` (1), `rounds` (10), `operations` (in a round; 0 means two for each page),
//! `pause` (microseconds of sleep after a round, 0). Events: `up`, `half`, `work-ok`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use pleat_guest::memory::{self, Pages, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::{Random, mix};
use pleat_guest::{apic, check, hypercall, println};

pleat_guest::main!(run);

const HALF: usize = WORDS / 2;
/// Half pages of the largest memory that the oracle has room for: 128 MiB.
const ORACLE_LEN: usize = 128 * 512;
/// Version of a half page that was cleared again.
const CLEARED: u32 = u32::MAX;

static ORACLE: [AtomicU32; ORACLE_LEN] = [const { AtomicU32::new(0) }; ORACLE_LEN];

struct Work {
    pages: Pages,
    len: usize,
    seed: u64,
    random: Random,
}

impl Work {
    fn version(half: usize) -> u32 {
        ORACLE[half].load(Ordering::Relaxed)
    }

    /// What word `index` of a half page holds in this version.
    fn content(seed: u64, half: usize, version: u32, index: usize) -> u64 {
        match version {
            0 | CLEARED => 0,
            _ => mix(seed ^ (half as u64) << 40 ^ u64::from(version) << 16 ^ index as u64),
        }
    }

    fn range(half: usize) -> core::ops::Range<usize> {
        let start = half % 2 * HALF;
        start..start + HALF
    }

    fn write(&mut self, half: usize, version: u32) {
        let seed = self.seed;
        let content = |index| Self::content(seed, half, version, index);
        self.pages.page(half / 2).fill(Self::range(half), content);
        ORACLE[half].store(version, Ordering::Relaxed);
    }

    fn check(&mut self, half: usize, when: &str) {
        let (seed, version) = (self.seed, Self::version(half));
        let content = |index| Self::content(seed, half, version, index);
        if let Err(wrong) = self.pages.page(half / 2).check(Self::range(half), content) {
            check!(
                false,
                "{when}: {:#x}, version {version}, holds {:#018x}, not {:#018x}",
                wrong.address,
                wrong.found,
                wrong.expected
            );
        }
    }

    /// One operation on a random half page. Three of eight write, one clears, the others read.
    fn step(&mut self, round: u32) {
        let half = self.random.below(self.len * 2);
        match self.random.below(8) {
            0..3 => {
                self.check(half, "before it is written again");
                self.write(half, round + 1);
            }
            3 => self.write(half, CLEARED),
            _ => self.check(half, "in passing"),
        }
    }
}

fn run(parameters: Parameters<'_>) {
    let seed = mix(parameters.number("seed", 1));
    let rounds = u32::try_from(parameters.number("rounds", 10))
        .unwrap_or(u32::MAX - 2)
        .max(1);
    let pages = memory::take_all();
    let len = pages.len().min(ORACLE_LEN / 2);
    let operations = match parameters.count("operations", 0) {
        0 => len * 2,
        count => count,
    };
    hypercall::event("up");
    check!(len != 0, "there is no free memory at all");
    let mut work = Work {
        pages,
        len,
        seed,
        random: Random::new(seed),
    };
    for round in 0..rounds {
        for _ in 0..operations {
            work.step(round);
        }
        if round == rounds / 2 {
            hypercall::event("half");
        }
        apic::sleep_micros(parameters.number("pause", 0));
    }
    for half in 0..len * 2 {
        work.check(half, "at the end");
    }
    println!("{len} pages hold what was written to them");
    hypercall::event("work-ok");
}
