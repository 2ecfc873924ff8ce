//! Memory that this guest never touched reads 0, whichever way it is touched first: by a read, by a
//! write of its first word, or by a write of any word.
//!
//! Parameters: `seed` (1), `touch` (percent of memory that is touched at all, 100), `from` (the first page
//! that is touched at all, counted among those that are free, 0).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::memory::{self, Page, Pages, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::{Random, mix};
use pleat_guest::{check, hypercall, println};

pleat_guest::main!(run);

/// How a page is touched first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    Read,
    WriteFirstWord,
    WriteAnyWord,
    Never,
}

/// What is to be done to which page.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    percent: u64,
    from: usize,
}

impl Plan {
    fn touch(self, index: usize) -> Touch {
        let dice = mix(self.seed ^ index as u64);
        if index < self.from || dice % 100 >= self.percent {
            return Touch::Never;
        }
        match (dice >> 32) % 3 {
            0 => Touch::Read,
            1 => Touch::WriteFirstWord,
            _ => Touch::WriteAnyWord,
        }
    }

    /// The word that the first pass writes, if it writes one.
    fn first_write(self, touch: Touch, index: usize) -> Option<(usize, u64)> {
        let mut random = Random::new(self.seed ^ (index as u64) << 20);
        let value = random.next_u64() | 1;
        match touch {
            Touch::WriteFirstWord => Some((0, value)),
            Touch::WriteAnyWord => Some((random.below(WORDS), value)),
            Touch::Read | Touch::Never => None,
        }
    }

    /// The word that the second pass writes.
    fn second_write(self, index: usize) -> (usize, u64) {
        (Random::new(self.seed ^ index as u64).below(WORDS), u64::MAX)
    }
}

fn expect_zero_except(page: &Page, written: Option<(usize, u64)>, when: &str) {
    let content = |index| {
        written
            .filter(|&(at, _)| at == index)
            .map_or(0, |(_, value)| value)
    };
    if let Err(wrong) = page.check(0..WORDS, content) {
        check!(
            false,
            "{when}: {:#x} holds {:#018x}, not {:#018x}",
            wrong.address,
            wrong.found,
            wrong.expected
        );
    }
}

fn first_touch(pages: &mut Pages, plan: Plan) -> u64 {
    let mut touched = 0;
    for (index, page) in pages.iter_mut().enumerate() {
        let touch = plan.touch(index);
        if touch == Touch::Never {
            continue;
        }
        let written = plan.first_write(touch, index);
        if let Some((at, value)) = written {
            page.store(at, value);
        }
        expect_zero_except(page, written, "at the first touch");
        touched += 1;
    }
    touched
}

/// A write of a page that was read before must give it a frame of its own, still zero elsewhere.
fn write_after_read(pages: &mut Pages, plan: Plan) {
    for (index, page) in pages.iter_mut().enumerate() {
        if plan.touch(index) == Touch::Read {
            let (at, value) = plan.second_write(index);
            page.store(at, value);
            expect_zero_except(page, Some((at, value)), "at the first write after a read");
        }
    }
}

fn verify(pages: &Pages, plan: Plan) {
    for (index, page) in pages.iter().enumerate() {
        let written = match plan.touch(index) {
            Touch::Never => continue,
            Touch::Read => Some(plan.second_write(index)),
            touch => plan.first_write(touch, index),
        };
        expect_zero_except(page, written, "at the end");
    }
}

fn run(parameters: Parameters<'_>) {
    let plan = Plan {
        seed: mix(parameters.number("seed", 1)),
        percent: parameters.number("touch", 100),
        from: parameters.count("from", 0),
    };
    hypercall::event("up");
    let mut pages = memory::take_all();
    check!(!pages.is_empty(), "there is no free memory at all");
    let touched = first_touch(&mut pages, plan);
    write_after_read(&mut pages, plan);
    verify(&pages, plan);
    println!("{touched} of {} pages touched, all were zero", pages.len());
    hypercall::measure("touched-pages", touched);
    hypercall::event("work-ok");
}
