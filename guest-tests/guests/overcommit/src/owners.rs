//! Pages with many owners: all pages of all guests with the same seed hold one of a few contents. They grow cold, and are
//! taken; then half of them is read and comes back, and must be shared again; the other half is written, and each page of it
//! gets a frame of its own.
//!
//! Parameters: `contents` (32), `wait` (milliseconds in which a host can merge and take, 2000), `linger` (milliseconds for
//! which a guest stays as it is at the end, 0). Events: `filled`, `cold`, `read`, `written`.

use pleat_guest::contents::Content as Common;
use pleat_guest::hypercall;
use pleat_guest::memory::WORDS;
use pleat_guest::parameters::Parameters;

use super::content::Content;
use super::{Field, pause};

pub(crate) fn run(mut field: Field, parameters: Parameters<'_>) -> Field {
    let contents = parameters.count("contents", 32).max(1);
    let (seed, own) = (parameters.number("seed", 1), field.own);
    // Two neighbours have the same content, so that each is read in one place and written in another.
    let content = |page: usize| {
        let Common::Seeded { seed, .. } = Common::common(seed, (page / 2 % contents) as u64) else {
            return Content::Zero;
        };
        Content::Phrase(seed)
    };
    for page in 0..field.len() {
        field.write(page, content(page));
    }
    hypercall::event("filled");
    pause(parameters, "wait", 2000);
    hypercall::event("cold");
    for page in (0..field.len()).step_by(2) {
        field.check(page, 0..WORDS, content(page), "when it comes back by a read");
    }
    hypercall::event("read");
    let written = |page: usize| own << 32 | page as u64 | 1 << 63;
    for page in (1..field.len()).step_by(2) {
        field.pages[page].store(page % WORDS, written(page));
    }
    hypercall::event("written");
    for page in 0..field.len() {
        let word = |index: usize| match page % 2 == 1 && index == page % WORDS {
            true => written(page),
            false => content(page).word(index),
        };
        field.check_words(page, 0..WORDS, word, "after half of all was written");
    }
    field
}
