//! Fills memory and works over it in rounds: a part is rewritten, a hot set is read again and again, everything is read
//! in a row.
//!
//! Parameters: `rounds` (1), `hot` (reads of the hot set in a round, 1000), `rewrite` (one of so many pages gets another
//! content in a round, 4), `pause` (milliseconds after a round, 0), `checks` (one of so many pages is compared in the end, 1).
//! Events: `filled`, `half`.

use pleat_guest::hypercall;
use pleat_guest::memory::WORDS;
use pleat_guest::parameters::Parameters;
use pleat_guest::random::{Random, mix};

use super::content::Content;
use super::{Field, pause};

/// Words that a read of the hot set compares.
const BLOCK: usize = 64;
/// The hottest pages are one of 2^so many.
const STEPS: u32 = 6;

struct Work {
    field: Field,
    rewrite: u64,
    random: Random,
}

impl Work {
    /// The round in which a page was written last: round 0 writes all.
    fn generation(&self, page: usize, round: u64) -> u64 {
        let own = mix(self.field.own) ^ (page as u64) << 24;
        let is_written = |round: &u64| mix(own ^ round).is_multiple_of(self.rewrite);
        (1..=round).rev().find(is_written).unwrap_or(0)
    }

    fn content(&self, page: usize, round: u64) -> Content {
        let generation = self.generation(page, round);
        self.field.recipe.content(self.field.own, page, generation)
    }

    /// What is given up is right to its last byte.
    fn rewrite(&mut self, round: u64) {
        for page in 0..self.field.len() {
            if self.generation(page, round) == round {
                let before = self.content(page, round - 1);
                self.field
                    .check(page, 0..WORDS, before, "before it is written again");
                self.field.write(page, self.content(page, round));
            }
        }
    }

    /// Half of all reads go to half of the pages, a quarter to a quarter: as 1/rank, in steps. The pages of a step lie
    /// all over memory.
    fn heat(&mut self, reads: usize, round: u64) {
        let len = self.field.len();
        for _ in 0..reads {
            let dice = self.random.next_u64();
            let step = (dice.trailing_zeros()).min(STEPS);
            let page = self.random.below((len >> step).max(1)) << step;
            let start = self.random.below(WORDS / BLOCK) * BLOCK;
            let content = self.content(page, round);
            self.field
                .check(page, start..start + BLOCK, content, "in the hot set");
        }
    }

    fn scan(&mut self, round: u64, part: usize) {
        for page in (0..self.field.len()).step_by(part) {
            let content = self.content(page, round);
            self.field.check(page, 0..WORDS, content, "in a row");
        }
    }
}

pub(crate) fn run(field: Field, parameters: Parameters<'_>) -> Field {
    let (rounds, reads) = (parameters.number("rounds", 1), parameters.count("hot", 1000));
    let mut work = Work {
        random: Random::new(field.own),
        rewrite: parameters.number("rewrite", 4).max(1),
        field,
    };
    for page in 0..work.field.len() {
        work.field.write(page, work.content(page, 0));
    }
    hypercall::event("filled");
    for round in 1..=rounds {
        work.rewrite(round);
        work.heat(reads, round);
        if round < rounds {
            work.scan(round, 1);
        }
        if round == rounds.div_ceil(2) {
            hypercall::event("half");
        }
        pause(parameters, "pause", 0);
    }
    work.scan(rounds, parameters.count("checks", 1).max(1));
    work.field
}
