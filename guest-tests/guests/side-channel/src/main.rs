//! What the time of a first write tells: that a page was merged, and so that somebody else has the same content.
//! In its own domain a guest may learn that. Of guests in other domains it must learn nothing: a first write
//! to a page that one of them has too takes as long as to a page that nobody else has.
//!
//! Parameters: `foreign` (the seed of contents that a guest of another domain has), `ally` (of those that a
//! guest of this domain has), `own` (of those that nobody has), `samples` (of each, 256), `wait` (milliseconds
//! for the host to merge, 1000), `slack` (ticks by which the medians may differ, 4). Events: `filled`,
//! `work-ok`, `work-failed`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::contents::Content;
use pleat_guest::memory::{self, Pages, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::timing::{median, ticks_of};
use pleat_guest::{apic, check, hypercall, println};

pleat_guest::main!(run);

const SAMPLES_MAX: usize = 512;
/// Contents that another domain has, that nobody has, and that the own domain has.
const KINDS: usize = 3;
/// A broken merge takes at least this many ticks: the null hypercall alone takes more.
const BREAK_TICKS_MIN: u64 = 100;

struct Probe {
    pages: Pages,
    seeds: [u64; KINDS],
    samples: usize,
}

impl Probe {
    /// The kinds take turns from page to page, so that nothing else sets them apart.
    fn content(&self, index: usize) -> Content {
        Content::common(self.seeds[index % KINDS], (index / KINDS) as u64)
    }

    fn fill(&mut self) {
        for index in 0..self.samples * KINDS {
            let content = self.content(index);
            self.pages.page(index).write(content);
        }
    }

    fn check(&mut self) {
        for index in 0..self.samples * KINDS {
            let content = self.content(index);
            self.pages.page(index).expect(content, "before any write");
        }
    }

    /// Ticks of the first write to each page; each page is good for one sample.
    fn measure(&mut self) -> [[u64; SAMPLES_MAX]; KINDS] {
        let mut ticks = [[0; SAMPLES_MAX]; KINDS];
        for index in 0..self.samples * KINDS {
            let at = index % WORDS;
            let page = self.pages.page(index);
            let value = page.load(at);
            ticks[index % KINDS][index / KINDS] = ticks_of(|| page.store(at, !value));
        }
        ticks
    }
}

fn fail_unless(is_right: bool, text: core::fmt::Arguments<'_>) {
    if !is_right {
        hypercall::event("work-failed");
        check!(false, "{text}");
    }
}

fn run(parameters: Parameters<'_>) {
    let mut probe = Probe {
        pages: memory::take_all(),
        seeds: [
            parameters.number("foreign", 1),
            parameters.number("own", 2),
            parameters.number("ally", 3),
        ],
        samples: parameters.count("samples", 256).clamp(1, SAMPLES_MAX),
    };
    hypercall::event("up");
    probe.fill();
    hypercall::event("filled");
    apic::sleep_micros(parameters.number("wait", 1000) * 1000);
    probe.check();
    let mut ticks = probe.measure();
    let [foreign, own, ally] = ticks.each_mut().map(|ticks| median(&mut ticks[..probe.samples]));
    let slow = ticks.map(|ticks| ticks.iter().filter(|ticks| **ticks >= BREAK_TICKS_MIN).count());
    println!("median ticks of a first write: foreign {foreign}, private {own}, own domain {ally}");
    println!("of {} each, so many took long: {slow:?}", probe.samples);
    hypercall::measure("foreign", foreign);
    hypercall::measure("private", own);
    hypercall::measure("own-domain", ally);
    hypercall::measure("foreign-slow", slow[0] as u64);
    let slack = parameters.number("slack", 4);
    fail_unless(
        ally >= BREAK_TICKS_MIN,
        format_args!("a merge of the own domain does not show: this test could see nothing"),
    );
    fail_unless(
        foreign.abs_diff(own) <= slack,
        format_args!("pages of another domain are told from private ones: {foreign} and {own} ticks"),
    );
    // Not only the medians: of one kind not many more may take long than of the other (ends of time slices).
    fail_unless(
        slow[0].abs_diff(slow[1]) * 64 <= probe.samples,
        format_args!("{} foreign and {} private pages took long", slow[0], slow[1]),
    );
    hypercall::event("work-ok");
}
