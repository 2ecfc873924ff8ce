//! Memory that this guest never touched reads 0, whichever way it is touched first: by a read, by a
//! write of its first word, or by a write of any word.
//!
//! Parameters: `seed` (1), `touch` (percent of memory that is touched at all, 100).
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

fn touch_of(seed: u64, index: usize, percent: u64) -> Touch {
    let dice = mix(seed ^ index as u64);
    if dice % 100 >= percent {
        return Touch::Never;
    }
    match (dice >> 32) % 3 {
        0 => Touch::Read,
        1 => Touch::WriteFirstWord,
        _ => Touch::WriteAnyWord,
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

/// The word that the first pass writes, if it writes one.
fn first_write(touch: Touch, seed: u64, index: usize) -> Option<(usize, u64)> {
    let mut random = Random::new(seed ^ (index as u64) << 20);
    let value = random.next_u64() | 1;
    match touch {
        Touch::WriteFirstWord => Some((0, value)),
        Touch::WriteAnyWord => Some((random.below(WORDS), value)),
        Touch::Read | Touch::Never => None,
    }
}

fn first_touch(pages: &mut Pages, seed: u64, percent: u64) -> u64 {
    let mut touched = 0;
    for (index, page) in pages.iter_mut().enumerate() {
        let touch = touch_of(seed, index, percent);
        if touch == Touch::Never {
            continue;
        }
        let written = first_write(touch, seed, index);
        if let Some((at, value)) = written {
            page.store(at, value);
        }
        expect_zero_except(page, written, "at the first touch");
        touched += 1;
    }
    touched
}

/// A write of a page that was read before must give it a frame of its own, still zero elsewhere.
fn write_after_read(pages: &mut Pages, seed: u64, percent: u64) {
    for (index, page) in pages.iter_mut().enumerate() {
        if touch_of(seed, index, percent) == Touch::Read {
            let at = Random::new(seed ^ index as u64).below(WORDS);
            page.store(at, u64::MAX);
            expect_zero_except(page, Some((at, u64::MAX)), "at the first write after a read");
        }
    }
}

fn verify(pages: &Pages, seed: u64, percent: u64) {
    for (index, page) in pages.iter().enumerate() {
        let written = match touch_of(seed, index, percent) {
            Touch::Never => continue,
            Touch::Read => Some((Random::new(seed ^ index as u64).below(WORDS), u64::MAX)),
            touch => first_write(touch, seed, index),
        };
        expect_zero_except(page, written, "at the end");
    }
}

fn run(parameters: Parameters<'_>) {
    let seed = mix(parameters.number("seed", 1));
    let percent = parameters.number("touch", 100);
    hypercall::event("up");
    let mut pages = memory::take_all();
    check!(!pages.is_empty(), "there is no free memory at all");
    let touched = first_touch(&mut pages, seed, percent);
    write_after_read(&mut pages, seed, percent);
    verify(&pages, seed, percent);
    println!("{touched} of {} pages touched, all were zero", pages.len());
    hypercall::measure("touched-pages", touched);
    hypercall::event("work-ok");
}
