//! A step load: all pages are touched as fast as that goes, by one store each, again and again, and then compared. Nothing
//! else wants memory so quickly: who takes memory ahead of need is overtaken.
//!
//! Parameters: `passes` (2). Events: `touched`.

use pleat_guest::hypercall;
use pleat_guest::memory::WORDS;
use pleat_guest::parameters::Parameters;
use pleat_guest::random::mix;

use super::Field;

/// Which word of a page a pass stores, and what. Where two passes meet, the later one counts.
#[derive(Clone, Copy)]
struct Marks {
    own: u64,
    passes: u64,
}

impl Marks {
    fn mark(self, page: usize, pass: u64) -> (usize, u64) {
        let value = mix(self.own ^ (page as u64) << 24 ^ pass) | 1;
        ((value >> 32) as usize % WORDS, value)
    }

    /// All other words are as they were before anybody touched them.
    fn word(self, page: usize, index: usize) -> u64 {
        let marks = (0..self.passes).rev().map(|pass| self.mark(page, pass));
        marks
            .into_iter()
            .find(|(at, _)| *at == index)
            .map_or(0, |(_, value)| value)
    }
}

pub(crate) fn run(mut field: Field, parameters: Parameters<'_>) -> Field {
    let marks = Marks {
        own: mix(field.own),
        passes: parameters.number("passes", 2),
    };
    for pass in 0..marks.passes {
        for page in 0..field.len() {
            let (at, value) = marks.mark(page, pass);
            field.pages[page].store(at, value);
        }
    }
    hypercall::event("touched");
    for page in 0..field.len() {
        field.check_words(page, 0..WORDS, |index| marks.word(page, index), "after the step");
    }
    field
}
