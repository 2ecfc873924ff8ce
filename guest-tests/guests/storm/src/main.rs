//! An unmerge storm: all of memory holds the same page, merged to one frame; then every page is rewritten at once
//! with a content of its own.
//!
//! Memory is filled in portions with pauses, so that a machine with less memory than its guests were promised
//! merges one portion before the next comes.
//! Parameters: `seed` (of the content that all guests have, 1), `own` (a seed of this guest), `pages` (0: all that
//! are free), `portion` (pages, 512), `pause` (milliseconds after a portion, 200), `wait` (milliseconds from
//! the end of filling to the storm, 1000), `linger` (milliseconds for which the rewritten memory is kept, 0).
//! Events: `filled`, `merged`, `rewritten`, `work-ok`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{self, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, hypercall, println};

pleat_guest::main!(run);

fn run(parameters: Parameters<'_>) {
    let millis = |key, default| parameters.number(key, default).saturating_mul(1000);
    let mut pages = memory::take_all();
    let wanted = parameters.count("pages", 0);
    let len = if wanted == 0 { pages.len() } else { wanted };
    check!(
        len <= pages.len(),
        "{len} pages are wanted, {} are free",
        pages.len()
    );
    let equal = Content::common(parameters.number("seed", 1), 0);
    let own = seed_of(&[parameters.number("own", 1)]);
    let different = |index: usize| Content::near(own, index);
    let portion = parameters.count("portion", 512).max(1);
    hypercall::event("up");
    for (index, page) in pages.iter_mut().take(len).enumerate() {
        page.write(equal);
        if index % portion == portion - 1 {
            apic::sleep_micros(millis("pause", 200));
        }
    }
    hypercall::event("filled");
    apic::sleep_micros(millis("wait", 1000));
    for page in pages.iter().take(len) {
        page.expect(equal, "while all pages are equal");
    }
    hypercall::event("merged");
    for (index, page) in pages.iter_mut().take(len).enumerate() {
        // Not yet written words still have the old content.
        page.store(WORDS - 1, different(index).word(WORDS - 1));
        check!(
            page.load(1) == equal.word(1),
            "a copied page has lost its content"
        );
        page.write(different(index));
    }
    hypercall::event("rewritten");
    for when in ["after the storm", "at the end"] {
        for (index, page) in pages.iter().take(len).enumerate() {
            page.expect(different(index), when);
        }
        apic::sleep_micros(millis("linger", 0));
    }
    println!("{len} pages were rewritten and hold what was written");
    hypercall::event("work-ok");
}
