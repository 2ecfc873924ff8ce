//! A working set that is used all the time: a word of each page is read, page after page, again and again.
//!
//! Parameters: `busy` (milliseconds, 1000) and `passes` (1): it goes on until the one is over and so many of the other have
//! been done. Events: `filled`, `hot` after the first pass. In the end all of it is compared.

use pleat_guest::memory::WORDS;
use pleat_guest::parameters::Parameters;
use pleat_guest::random::mix;
use pleat_guest::{apic, check, cpu, hypercall};

use super::Field;

pub(crate) fn run(mut field: Field, parameters: Parameters<'_>) -> Field {
    let (recipe, own) = (field.recipe, field.own);
    let (busy, passes) = (parameters.number("busy", 1000), parameters.number("passes", 1));
    for page in 0..field.len() {
        field.write(page, recipe.content(own, page, 0));
    }
    hypercall::event("filled");
    let end = cpu::tsc().saturating_add(apic::ticks(busy.saturating_mul(1000)));
    let mut pass = 0;
    while pass < passes || cpu::tsc() < end {
        let at = usize::from(mix(pass).to_le_bytes()[0]) % WORDS;
        for page in 0..field.len() {
            let found = field.pages[page].load(at);
            // What it is to be takes longer to compute than to read, and is compared in the end.
            if pass == 0 {
                let expected = recipe.content(own, page, 0).word(at);
                check!(found == expected, "page {page}: {found:#x}, not {expected:#x}");
            }
        }
        pass += 1;
        if pass == 1 {
            hypercall::event("hot");
        }
    }
    hypercall::measure("passes", pass);
    for page in 0..field.len() {
        field.check(page, 0..WORDS, recipe.content(own, page, 0), "after it was hot");
    }
    field
}
