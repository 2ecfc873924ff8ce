//! Guests that trade memory through their balloons, again and again: what one has given the other uses. What is traded
//! comes back as zeros and is written anew each time; what is kept keeps its content.
//!
//! The host says who has how much (`by=target`: the balloon follows its target at each interrupt), or the guests do by
//! their clocks (`by=clock`: in every second period of `period` microseconds a guest gives, in the others it uses;
//! `phase` 0 or 1 says in which).
//! Parameters: `seed` (1), `own` (1), `keep` (pages that are never given, 512), `traded` (pages, 512), `trades` (1000; a
//! trade is once giving and once taking), `common` (of so many traded pages, one has a content that both guests have, 4; 0:
//! none), `by`, `period` (20000), `phase`. Events: `up`, `half`, `work-ok`. Measures: `trades`, `checked-pages`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::contents::{Content, seed_of};
use pleat_guest::memory::{self, Page, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::virtio::Interrupts;
use pleat_guest::virtio::balloon::{self, ALL, Balloon, LIST_MAX, POISON, Way, frame_of};
use pleat_guest::{apic, check, cpu, hypercall, interrupts, println};

pleat_guest::main!(run);

const VECTOR: u8 = 0x60;
/// Of so many words of a traded page, one is written and compared.
const STEP: usize = 32;
/// Pages that a chain moves.
const CHAIN: usize = 256;
/// A host that asks for nothing for so long has lost its way.
const PATIENCE_MICROS: u64 = 60_000_000;
const LOOK_MICROS: u64 = 500;

struct Trade {
    balloon: Balloon,
    kept: &'static mut [Page],
    traded: &'static mut [Page],
    /// Traded pages from here on are in the balloon.
    used: usize,
    /// The trade in which a page was written is the content's number.
    trade: u64,
    seed: u64,
    own: u64,
    common: usize,
    checked: u64,
}

impl Trade {
    fn kept_content(&self, index: usize) -> Content {
        Content::seeded(seed_of(&[self.own, index as u64]))
    }

    /// The words of a page that are used in this trade.
    fn words(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        let trade = usize::try_from(self.trade).unwrap_or(0);
        ((index + trade) % STEP..WORDS).step_by(STEP)
    }

    /// Some of them are such as the other guest has too: they are merged and parted.
    fn traded_content(&self, index: usize) -> Content {
        if self.common != 0 && index.is_multiple_of(self.common) {
            return Content::common(self.seed, index as u64);
        }
        Content::seeded(seed_of(&[self.own, index as u64, self.trade]))
    }

    fn check_kept(&mut self, when: &str) {
        for (index, page) in self.kept.iter().enumerate() {
            page.expect(self.kept_content(index), when);
        }
        self.checked += self.kept.len() as u64;
    }

    /// Compares what is in use and gives it, down to `left` pages.
    fn give(&mut self, left: usize) {
        for index in left..self.used {
            let content = self.traded_content(index);
            for word in self.words(index) {
                let (found, expected) = (self.traded[index].load(word), content.word(word));
                check!(
                    found == expected,
                    "trade {}, page {index}, word {word}: {found:#x}, not {expected:#x}",
                    self.trade
                );
            }
            self.checked += 1;
        }
        self.shift(Way::Inflate, left..self.used);
        self.used = left;
    }

    /// Takes pages back, up to `used`, sees that they are zeros, and writes them.
    fn take(&mut self, used: usize) {
        self.trade += 1;
        self.shift(Way::Deflate, self.used..used);
        for index in self.used..used {
            let content = self.traded_content(index);
            for word in self.words(index) {
                self.traded[index].store(word, content.word(word));
            }
            // Words that were written the last time.
            for word in self.words(index + STEP - 1) {
                let found = self.traded[index].load(word);
                check!(
                    found == 0,
                    "trade {}, page {index}, word {word}: {found:#x} out of the balloon",
                    self.trade
                );
            }
        }
        self.used = used;
    }

    fn shift(&mut self, way: Way, indices: core::ops::Range<usize>) {
        let mut frames = [0; LIST_MAX];
        let end = indices.end;
        for first in indices.step_by(CHAIN) {
            let count = (end - first).min(CHAIN);
            for (frame, page) in frames.iter_mut().zip(&self.traded[first..first + count]) {
                *frame = frame_of(page.address());
            }
            self.balloon.move_pages(way, &frames[..count]);
        }
    }

    /// Gives or takes until so many pages are in the balloon; whether there was something to do.
    fn follow(&mut self, inside: usize) -> bool {
        let left = self.traded.len() - inside.min(self.traded.len());
        match left.cmp(&self.used) {
            core::cmp::Ordering::Less => self.give(left),
            core::cmp::Ordering::Greater => self.take(left),
            core::cmp::Ordering::Equal => return false,
        }
        self.balloon
            .set_actual(u32::try_from(self.traded.len() - left).unwrap_or(u32::MAX));
        true
    }
}

/// The host's targets, at each interrupt of the device.
fn by_target(trade: &mut Trade, trades: u64) {
    while trade.trade < trades {
        let (balloon, now) = (&trade.balloon, trade.traded.len() - trade.used);
        let target = || (balloon.target() as usize).min(trade.traded.len());
        let is_asked = interrupts::sleep_while(PATIENCE_MICROS, || target() != now);
        check!(is_asked, "the host asks for nothing");
        let target = target();
        if trade.follow(target) && trade.trade == trades / 2 {
            hypercall::event("half");
        }
    }
}

/// The guest's own clock: it gives at once when its time is over, and takes when a part of the next one has passed.
fn by_clock(trade: &mut Trade, trades: u64, period_micros: u64, phase: u64) {
    let period = apic::ticks(period_micros).max(1);
    let all = trade.traded.len();
    while trade.trade < trades {
        let now = cpu::tsc();
        let (number, passed) = (now / period, now % period);
        let is_using = number % 2 == phase;
        if !is_using {
            trade.follow(all);
        } else if passed > period / 4 && passed < period / 2 && trade.follow(0) && trade.trade == trades / 2 {
            hypercall::event("half");
        }
        apic::sleep_micros(LOOK_MICROS);
    }
}

fn run(parameters: Parameters<'static>) {
    let mut pages = memory::take_all();
    let driver = pages.take(balloon::PAGES, 4096);
    let interrupts = if apic::is_usable() {
        Interrupts::Messages(VECTOR)
    } else {
        Interrupts::Polled
    };
    let mut trade = Trade {
        balloon: Balloon::must_start(ALL & !POISON, interrupts, driver[0].address(), 0),
        kept: pages.take(parameters.count("keep", 512), 4096),
        traded: pages.take(parameters.count("traded", 512), 4096),
        used: 0,
        trade: 0,
        seed: parameters.number("seed", 1),
        own: seed_of(&[parameters.number("own", 1)]),
        common: parameters.count("common", 4),
        checked: 0,
    };
    for index in 0..trade.kept.len() {
        let content = trade.kept_content(index);
        trade.kept[index].write(content);
    }
    // At first all that is traded is in the balloon.
    let all = trade.traded.len();
    trade.shift(Way::Inflate, 0..all);
    trade.balloon.set_actual(u32::try_from(all).unwrap_or(u32::MAX));
    hypercall::event("up");
    let trades = parameters.number("trades", 1000);
    match parameters.text("by").unwrap_or("target") {
        "target" => by_target(&mut trade, trades),
        "clock" => by_clock(
            &mut trade,
            trades,
            parameters.number("period", 20_000),
            parameters.number("phase", 0),
        ),
        other => check!(false, "by={other}: expected target or clock"),
    }
    trade.check_kept("at the end");
    trade.follow(all);
    println!("{} trades, {} pages compared", trade.trade, trade.checked);
    hypercall::measure("trades", trade.trade);
    hypercall::measure("checked-pages", trade.checked);
    hypercall::event("work-ok");
}
