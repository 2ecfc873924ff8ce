//! Memory that the machine does not have: contents that leave their frames by force, come back, and are checked byte by
//! byte. What a page holds follows from seed, place and generation; nothing is remembered.
//!
//! Parameters of all: `how`, one of the names in `WAYS`; `pages` (0: all that lie in the longest row); `seed` (of what
//! guests have in common, 1), `own` (a seed of this guest, 1); percentages of the pages that are `noise` (20), `zero` (5)
//! and `filled` with one word (5): the others can be packed to a quarter, or to less than a tenth. Those of each way are at
//! its module. All report `up`, and `work-ok` if they come to their end; all measure `checked-pages`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod cold;
mod content;
mod hot;
mod owners;
mod pattern;
mod rewrite;
mod step;

use pleat_guest::memory::{self, Page, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, hypercall, println};

use content::{Content, Recipe};

pleat_guest::main!(run);

type Way = fn(Field, Parameters<'_>) -> Field;

const WAYS: [(&str, Way); 6] = [
    ("pattern", pattern::run),
    ("step", step::run),
    ("rewrite-merged", rewrite::run),
    ("owners", owners::run),
    ("cold", cold::run),
    ("hot", hot::run),
];

/// The memory that a way works on.
pub(crate) struct Field {
    pages: &'static mut [Page],
    recipe: Recipe,
    /// The seed of this guest.
    own: u64,
    /// Pages, or parts of pages, of which every byte was compared.
    checked: u64,
}

impl Field {
    fn new(parameters: Parameters<'_>) -> Self {
        let mut pages = memory::take_all();
        let count = match parameters.count("pages", 0) {
            0 => pages.longest_run().len(),
            count => count,
        };
        Self {
            pages: pages.take(count, 1),
            recipe: Recipe::new(parameters),
            own: parameters.number("own", 1),
            checked: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    pub(crate) fn write(&mut self, page: usize, content: Content) {
        self.pages[page].fill(0..WORDS, |index| content.word(index));
    }

    /// Compares some words of a page; a difference ends the guest as failed.
    pub(crate) fn check(
        &mut self,
        page: usize,
        words: core::ops::Range<usize>,
        content: Content,
        when: &str,
    ) {
        self.check_words(page, words, |index| content.word(index), when);
    }

    pub(crate) fn check_words(
        &mut self,
        page: usize,
        words: core::ops::Range<usize>,
        word: impl Fn(usize) -> u64,
        when: &str,
    ) {
        if let Err(wrong) = self.pages[page].check(words, word) {
            println!("page {page} of {}", self.len());
            wrong.fail(when);
        }
        self.checked += 1;
    }
}

/// Sleeps for as many milliseconds as a parameter says.
pub(crate) fn pause(parameters: Parameters<'_>, key: &str, default: u64) {
    apic::sleep_micros(parameters.number(key, default).saturating_mul(1000));
}

fn run(parameters: Parameters<'_>) {
    let how = parameters.text("how").unwrap_or("pattern");
    let Some((_, way)) = WAYS.iter().find(|(name, _)| *name == how) else {
        println!("FAILED: how={how} is none of:");
        for (name, _) in WAYS {
            println!("  {name}");
        }
        hypercall::finish(1)
    };
    let field = Field::new(parameters);
    hypercall::event("up");
    let field = way(field, parameters);
    println!(
        "{} pages, compared {} times, all right",
        field.len(),
        field.checked
    );
    hypercall::measure("checked-pages", field.checked);
    hypercall::event("work-ok");
    // Others may want to see what this guest has.
    pause(parameters, "linger", 0);
}
