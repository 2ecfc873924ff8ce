//! Pages that are equal to those of a neighbour, each different from all others of this guest: two guests need one guest's
//! frames, until both rewrite everything at once.
//!
//! Parameters: `wait` (milliseconds in which a host can merge, 1000). Events: `filled`, `merged`, `rewritten`.

use pleat_guest::hypercall;
use pleat_guest::memory::WORDS;
use pleat_guest::parameters::Parameters;

use super::{Field, pause};

pub(crate) fn run(mut field: Field, parameters: Parameters<'_>) -> Field {
    let (recipe, common, own) = (field.recipe, parameters.number("seed", 1), field.own);
    let before = |page| recipe.content(common, page, 0);
    let after = |page| recipe.content(own, page, 1);
    for page in 0..field.len() {
        field.write(page, before(page));
    }
    hypercall::event("filled");
    pause(parameters, "wait", 1000);
    hypercall::event("merged");
    for page in 0..field.len() {
        // The last word alone first: what is not written yet must still be there.
        let last = after(page).word(WORDS - 1);
        field.pages[page].store(WORDS - 1, last);
        field.check(
            page,
            0..WORDS - 1,
            before(page),
            "after its last word was written",
        );
        field.write(page, after(page));
    }
    hypercall::event("rewritten");
    for page in 0..field.len() {
        field.check(page, 0..WORDS, after(page), "after all was rewritten");
    }
    field
}
