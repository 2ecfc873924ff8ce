//! Memory with known contents, of which the ideal of merging is known: zero pages, duplicates inside this guest
//! and across guests, and pages that differ from others in one byte. After a time for the host to merge
//! them, every byte is checked.
//!
//! What is merged shows in two ways: the scenario compares the host's statistics with the ideal (the guest
//! stays alive for that), and `then=probe` times the first write to every page: a merged one goes through the
//! host, another one does not, so that each page is known to be merged or not.
//!
//! Parameters, all of them counts of pages unless said otherwise: `zero`, `within` (in groups of `copies`, 4),
//! `common` (as in other guests with the same `seed`), `unique`, `volatile` (as the first group of `within`, but
//! rewritten every `beat`, 5 ms, with what they hold anyway), `own` (a seed of this guest), `merged` (`all`,
//! `inside`: not `common`, `nothing`), `wait` (milliseconds, 1000), `then` (`stay`, `probe`), `rounds`
//! (of waiting and probing, 1). Events: `filled`, `merged`, `work-ok`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod plan;

use pleat_guest::memory::{self, Pages, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::mix;
use pleat_guest::timing::Writes;
use pleat_guest::{apic, check, hypercall, println};

use plan::Plan;

pleat_guest::main!(run);

/// Of the timed writes, at most one in so many may have met the end of a time slice.
const INTERRUPTED_PART: u64 = 20;
/// And about one in so many meets an exit that has nothing to do with its page: a dirty log of 512 entries that is
/// full, a timer.
const OTHER_EXITS_PART: u64 = 256;

struct Work {
    pages: Pages,
    plan: Plan,
    /// Milliseconds for the host to merge.
    wait: u64,
    /// Milliseconds from one rewriting of the volatile pages to the next.
    beat: u64,
}

impl Work {
    fn fill(&mut self) {
        for index in 0..self.plan.len() {
            self.pages.page(index).write(self.plan.content(index));
        }
    }

    fn check_all(&mut self, when: &str) {
        for index in 0..self.plan.len() {
            self.pages.page(index).expect(self.plan.content(index), when);
        }
    }

    fn wait(&mut self) {
        if self.plan.volatile() == 0 {
            apic::sleep_micros(self.wait * 1000);
            return;
        }
        for _ in 0..self.wait / self.beat {
            apic::sleep_micros(self.beat * 1000);
            for index in 0..self.plan.volatile() {
                let word = self.pages.page(index).load(0);
                self.pages.page(index).store(0, word);
            }
        }
    }

    /// A word of every page is changed, each page in its own way, and changed back when all were checked.
    fn probe(&mut self) {
        let mut merged = Writes::default();
        let mut own = Writes::default();
        for index in 0..self.plan.len() {
            let (at, value) = self.change(index);
            let writes = match self.plan.must_be_merged(index) {
                Some(true) => &mut merged,
                Some(false) => &mut own,
                None => &mut Writes::default(),
            };
            let page = self.pages.page(index);
            writes.time(|| page.store(at, value));
        }
        self.check_changed();
        judge(merged, own);
        for index in 0..self.plan.len() {
            let (at, _) = self.change(index);
            let word = self.plan.content(index).word(at);
            self.pages.page(index).store(at, word);
        }
    }

    /// Which word of a page is changed, and to what.
    fn change(&self, index: usize) -> (usize, u64) {
        let at = index.wrapping_mul(37) % WORDS;
        let content = self.plan.content(index);
        (at, content.word(at) ^ (mix(self.plan.own() ^ index as u64) | 1))
    }

    fn check_changed(&mut self) {
        for index in 0..self.plan.len() {
            let (at, value) = self.change(index);
            let content = self.plan.content(index);
            let changed = |word| if word == at { value } else { content.word(word) };
            if let Err(wrong) = self.pages.page(index).check(0..WORDS, changed) {
                wrong.fail("after every page was written to");
            }
        }
    }
}

fn judge(merged: Writes, own: Writes) {
    println!("first writes to what should be merged: {merged:?}; to the rest: {own:?}");
    hypercall::measure("merged-broken", merged.through_host);
    hypercall::measure("merged-direct", merged.direct);
    hypercall::measure("own-broken", own.through_host);
    check!(
        merged.direct == 0,
        "{} of {} pages are not merged",
        merged.direct,
        merged.all()
    );
    check!(
        own.through_host <= 1 + own.all() / OTHER_EXITS_PART,
        "{} of {} pages are merged, and should not be",
        own.through_host,
        own.all()
    );
    let interrupted = merged.interrupted + own.interrupted;
    check!(
        interrupted * INTERRUPTED_PART <= merged.all() + own.all(),
        "{interrupted} writes were interrupted: too many to know what they met"
    );
}

fn run(parameters: Parameters<'_>) {
    let mut work = Work {
        pages: memory::take_all(),
        plan: Plan::new(parameters),
        wait: parameters.number("wait", 1000),
        beat: parameters.number("beat", 5).max(1),
    };
    let (needed, free) = (work.plan.len(), work.pages.len());
    check!(needed <= free, "{needed} pages are needed, {free} are free");
    hypercall::event("up");
    work.fill();
    hypercall::event("filled");
    for _ in 0..parameters.number("rounds", 1) {
        work.wait();
        work.check_all("after a time to merge");
        hypercall::event("merged");
        match parameters.text("then").unwrap_or("stay") {
            "stay" => {}
            "probe" => work.probe(),
            other => check!(false, "then={other}: expected stay or probe"),
        }
        work.check_all("at the end of a round");
    }
    println!("{needed} pages hold what was written to them");
    hypercall::event("work-ok");
    if parameters.text("then").is_none_or(|then| then == "stay") {
        // The statistics have to see the pages.
        loop {
            apic::sleep_micros(1_000_000);
        }
    }
}
