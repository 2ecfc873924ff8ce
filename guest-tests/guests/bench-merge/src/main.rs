//! What breaking a merge costs, in ticks of the TSC, seen from inside: medians of first writes to merged pages, less
//! what two reads of the TSC take; and beside it what the work in it would cost by itself: a copy of a page
//! and an exit that does nothing.
//!
//! Parameters: `samples` (200, of each), `wait` (milliseconds for the host to merge, 1000).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{self, Page};
use pleat_guest::parameters::Parameters;
use pleat_guest::timing::{empty, median, ticks_of};
use pleat_guest::{apic, check, hypercall, println, store};

pleat_guest::main!(run);

const SAMPLES_MAX: usize = 512;

struct Bench<'a> {
    pages: &'a mut [Page],
    samples: usize,
    empty: u64,
}

impl Bench<'_> {
    /// Pages with one content for `break`, then pairs for `break-in-place`.
    fn content(&self, index: usize) -> Content {
        let number = index.saturating_sub(self.samples) / 2;
        Content::seeded(seed_of(&[number as u64, u64::from(index < self.samples)]))
    }

    fn expect_all(&self, when: &str) {
        for (index, page) in self.pages.iter().enumerate() {
            page.expect(self.content(index), when);
        }
    }

    /// The median of one operation for each page that `places` names.
    fn row(&mut self, name: &str, places: impl Iterator<Item = usize>, operation: impl Fn(&mut Page)) -> u64 {
        let mut ticks = [0; SAMPLES_MAX];
        let mut count = 0;
        for (tick, place) in ticks.iter_mut().zip(places) {
            let page = &mut self.pages[place];
            *tick = ticks_of(|| operation(page));
            count += 1;
        }
        let ticks = median(&mut ticks[..count]).saturating_sub(self.empty);
        println!("{name}: {ticks} ({count} samples)");
        hypercall::measure(name, ticks);
        ticks
    }
}

/// A write that leaves the content as it is, so that everything can be checked afterwards.
fn write_again(page: &mut Page) {
    let from = page.address();
    store::past_caches(from, page.load(0));
}

fn run(parameters: Parameters<'_>) {
    let mut pages = memory::take_all();
    let samples = parameters.count("samples", 200).clamp(1, SAMPLES_MAX);
    let run = pages.longest_run();
    check!(
        samples * 3 <= run.len(),
        "{} pages in a row are too few",
        run.len()
    );
    let mut bench = Bench {
        pages: &mut run[..samples * 3],
        samples,
        empty: empty(),
    };
    hypercall::event("up");
    for index in 0..samples * 3 {
        let content = bench.content(index);
        bench.pages[index].write(content);
    }
    apic::sleep_micros(parameters.number("wait", 1000) * 1000);
    bench.expect_all("after a time to merge");
    measure(&mut bench);
    bench.expect_all("at the end");
    hypercall::event("work-ok");
}

fn measure(bench: &mut Bench<'_>) {
    let samples = bench.samples;
    let (firsts, seconds) = (samples..samples * 3, samples + 1..samples * 3);
    // The last of them would be a break in place.
    let broken = bench.row("break", 0..samples - 1, write_again);
    bench.row("break-first-of-pair", firsts.step_by(2), write_again);
    bench.row("break-in-place", seconds.step_by(2), write_again);
    bench.row("write", 0..samples, write_again);
    let from = bench.pages[0].address();
    let copied = bench.row("copy-page", 1..samples, |page| {
        store::copy_words(page.address(), from, 512);
    });
    let exit = bench.row("null-exit", 0..samples, |_| _ = hypercall::null());
    hypercall::measure("break-permille", broken * 1000 / (copied + exit).max(1));
}
