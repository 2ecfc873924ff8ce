//! Memory that is backed by 2 MiB mappings: first every second page of it is a duplicate, so that splitting the mappings
//! pays; then all pages become unique and are written all the time, so that it no longer does.
//!
//! Parameters: `regions` (of 2 MiB, 3), `seed` (1), `wait` (milliseconds for the host to split and merge, 2000),
//! `hot` (milliseconds of writing, 3000), `beat` (milliseconds from one write of a page to the next, 10). Events:
//! `filled`, `merged`, `unique`, `work-ok`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{self, Page, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, hypercall, println};

pleat_guest::main!(run);

const REGION_PAGES: usize = 512;
const REGION_BYTES: u64 = 2 << 20;
/// The word of each page that is written all the time.
const HOT_WORD: usize = WORDS / 2;

/// Half of the pages, here and there, hold one of 16 contents.
fn with_duplicates(seed: u64, index: usize) -> Content {
    match seed_of(&[seed, 1, index as u64]) % 32 {
        kind @ 0..16 => Content::seeded(seed_of(&[seed, 2, kind])),
        _ => unique(seed, index),
    }
}

fn unique(seed: u64, index: usize) -> Content {
    Content::near(seed, index)
}

/// The first whole regions of 2 MiB in a run of pages.
fn regions(run: &mut [Page], count: usize) -> &mut [Page] {
    let first = run.iter().position(|page| page.address() % REGION_BYTES == 0);
    let pages = count * REGION_PAGES;
    let range = first.map(|first| first..first + pages);
    match range.and_then(|range| run.get_mut(range)) {
        Some(pages) => pages,
        None => panic!("there are no {count} regions of 2 MiB"),
    }
}

/// Writes to every page once in a beat; what it writes is checked at the end.
fn keep_hot(pages: &mut [Page], beats: u64, beat_micros: u64) {
    for beat in 0..beats {
        for page in &mut *pages {
            page.store(HOT_WORD, beat);
        }
        apic::sleep_micros(beat_micros);
    }
}

fn run(parameters: Parameters<'_>) {
    let mut pages = memory::take_all();
    let pages = regions(pages.longest_run(), parameters.count("regions", 3));
    let seed = parameters.number("seed", 1);
    let beat = parameters.number("beat", 10).max(1);
    let beats = parameters.number("hot", 3000) / beat;
    hypercall::event("up");
    for (index, page) in pages.iter_mut().enumerate() {
        page.write(with_duplicates(seed, index));
    }
    hypercall::event("filled");
    apic::sleep_micros(parameters.number("wait", 2000) * 1000);
    for (index, page) in pages.iter().enumerate() {
        page.expect(with_duplicates(seed, index), "after a time to merge");
    }
    hypercall::event("merged");
    for (index, page) in pages.iter_mut().enumerate() {
        page.write(unique(seed, index));
    }
    hypercall::event("unique");
    keep_hot(pages, beats, beat * 1000);
    for (index, page) in pages.iter().enumerate() {
        let content = unique(seed, index);
        let expected = |word| match word {
            HOT_WORD if beats > 0 => beats - 1,
            _ => content.word(word),
        };
        if let Err(wrong) = page.check(0..WORDS, expected) {
            wrong.fail("after the hot time");
        }
    }
    check!(beats > 0, "there was no hot time");
    println!("{} pages hold what was written to them", pages.len());
    hypercall::event("work-ok");
    loop {
        // The statistics have to see the mappings.
        apic::sleep_micros(1_000_000);
    }
}
