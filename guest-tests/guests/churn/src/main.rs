//! Memory under churn: rounds of seeded writes of every size and kind, of fills that make duplicates in and across
//! guests, and of zeros, with calm spells in which a host may merge. What a page holds is computed from the
//! seed when it is checked, by replaying all that happened to it since it was filled.
//!
//! Parameters: `seed` (common to guests, 1), `own` (1), `pages` (1000), `rounds` (100), `pause` (milliseconds after a
//! round, 10), `checks` (of so many pages, one is checked after each round, 32). Events: `up`, `quarter`, `half`,
//! `work-ok`. Measures: `writes` (single instructions of bursts, fills not counted), `fills`, `checked-pages`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod work;

use pleat_guest::contents::Content;
use pleat_guest::memory::{self, Page, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::{Random, mix};
use pleat_guest::{apic, check, hypercall, println, store};

use work::{Action, How, Rules, Write};

pleat_guest::main!(run);

/// Regions start where 2 MiB mappings do.
const LARGE_BYTES: u64 = 2 << 20;

struct Churn<'a> {
    pages: &'a mut [Page],
    rules: Rules,
    writes: u64,
    fills: u64,
    checked: u64,
}

impl Churn<'_> {
    fn round(&mut self, round: u64) {
        for page in 0..self.pages.len() {
            match self.rules.action(page, round) {
                Action::Nothing => {}
                Action::Fill(content) => {
                    self.pages[page].write(content);
                    self.fills += 1;
                }
                Action::Burst(seed) => {
                    let address = self.pages[page].address();
                    for write in self.rules.burst(seed, page) {
                        perform(&write, address + write.offset as u64);
                        self.writes += 1;
                    }
                }
            }
        }
    }

    /// Compares a page with what the rules say that it holds after a round.
    fn check(&mut self, page: usize, round: u64) {
        let expected = self.replay(page, round);
        if let Err(wrong) = self.pages[page].check(0..WORDS, |index| expected[index]) {
            println!("page {page} after round {round}");
            wrong.fail("churn");
        }
        self.checked += 1;
    }

    fn replay(&self, page: usize, round: u64) -> [u64; WORDS] {
        let filled = (0..=round)
            .rev()
            .find_map(|round| match self.rules.action(page, round) {
                Action::Fill(content) => Some((round, content)),
                _ => None,
            });
        // Memory that nobody has touched is zero.
        let content = filled.map_or(Content::Zero, |(_, content)| content);
        let mut words = core::array::from_fn(|index| content.word(index));
        for round in filled.map_or(0, |(filled, _)| filled + 1)..=round {
            // The page before comes first in a round; what it writes beyond its end is in this page.
            for (writer, start) in [(page.wrapping_sub(1), work::PAGE), (page, 0)] {
                if writer == usize::MAX {
                    continue;
                }
                if let Action::Burst(seed) = self.rules.action(writer, round) {
                    let writes = self.rules.burst(seed, writer);
                    writes.for_each(|write| write.replay(&mut words, start));
                }
            }
        }
        words
    }
}

fn perform(write: &Write, address: u64) {
    match write.how {
        How::Store | How::Zeros => store::bytes(address, &write.value[..write.len]),
        How::Bytes => {
            let bytes: [u8; 64] = core::array::from_fn(|index| write.value[index % 32]);
            store::string_of_bytes(address, &bytes[..write.len]);
        }
        How::Words => store::fill_words(address, write.first_word(), write.len as u64 / 8),
        How::Add => {
            let _ = store::exchange_add(address, write.first_word());
        }
    }
}

fn run(parameters: Parameters<'_>) {
    let rules = Rules {
        seed: mix(parameters.number("seed", 1)),
        own: mix(parameters.number("own", 1)),
        pages: parameters.count("pages", 1000),
        store_max: store::sizes().last().copied().unwrap_or(8),
    };
    let (rounds, pause) = (parameters.number("rounds", 100), parameters.number("pause", 10));
    let part = parameters.count("checks", 32).max(1);
    let mut pages = memory::take_all();
    let run = pages.longest_run();
    let aligned = run.iter().position(|page| page.address() % LARGE_BYTES == 0);
    let run = &mut run[aligned.unwrap_or(0)..];
    check!(
        rules.pages <= run.len(),
        "{} pages in a row are wanted, there are {}",
        rules.pages,
        run.len()
    );
    let mut churn = Churn {
        pages: &mut run[..rules.pages],
        rules,
        writes: 0,
        fills: 0,
        checked: 0,
    };
    let mut random = Random::new(rules.own);
    hypercall::event("up");
    for round in 0..rounds {
        churn.round(round);
        apic::sleep_micros(pause * 1000);
        for _ in 0..rules.pages / part {
            churn.check(random.below(rules.pages), round);
        }
        if round == rounds / 4 {
            hypercall::event("quarter");
        }
        if round == rounds / 2 {
            hypercall::event("half");
        }
    }
    for page in 0..rules.pages {
        churn.check(page, rounds.saturating_sub(1));
    }
    let Churn {
        writes,
        fills,
        checked,
        ..
    } = churn;
    println!("{writes} writes, {fills} fills, {checked} pages checked, all right");
    hypercall::measure("writes", writes);
    hypercall::measure("fills", fills);
    hypercall::measure("checked-pages", checked);
    hypercall::event("work-ok");
}
