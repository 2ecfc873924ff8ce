//! No byte of another guest is ever visible: not in memory that was never touched, not in memory that
//! is this guest's own, not after other guests died and their frames were given away again.
//!
//! Every guest fills its memory with words that carry its secret, so that a leak names its source.
//! Parameters: `secret` (a name), `steps` (into how many portions the filling is split, 8), `pause`
//! (milliseconds between portions, 2), `rescans` (after filling, 4), `then` (`finish`, `reboot` or
//! `stay`: filled for ever, until somebody kills it).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::memory::{self, Page, Pages, WORDS};
use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, cpu, hypercall, println, random};

pleat_guest::main!(run);

/// Every secret starts with these 16 bits; nothing else that lies in memory does.
const MARK: u64 = 0x5ec7;
const RESET_CONTROL: u16 = 0xcf9;
const HARD_RESET: u8 = 6;

/// Mark, 16 bits of the name, and the word's own address.
fn secret_word(name: u64, address: u64) -> u64 {
    MARK << 48 | name << 32 | (address & 0xffff_ffff)
}

fn name_bits(name: &str) -> u64 {
    random::hash(name) & 0xffff
}

fn fail(address: u64, found: u64, expected: u64, when: &str) -> ! {
    if found >> 48 == MARK && found >> 32 & 0xffff != expected >> 32 & 0xffff {
        println!("FAILED: {when}: {address:#x} holds a secret of another guest, {found:#018x}");
    } else {
        println!("FAILED: {when}: {address:#x} holds {found:#018x}, not {expected:#018x}");
    }
    hypercall::finish(1)
}

fn expect(page: &Page, range: core::ops::Range<usize>, content: impl Fn(usize) -> u64, when: &str) {
    if let Err(wrong) = page.check(range, content) {
        fail(wrong.address, wrong.found, wrong.expected, when);
    }
}

/// First touch of a page, every other one by a read, then its secret.
fn take_page(page: &mut Page, name: u64, writes_first: bool) {
    let base = page.address();
    let word = |index: usize| secret_word(name, base + index as u64 * 8);
    if writes_first {
        page.store(0, word(0));
        expect(page, 1..WORDS, |_| 0, "after a first write");
    } else {
        expect(page, 0..WORDS, |_| 0, "at a first read");
    }
    page.fill(0..WORDS, word);
}

fn rescan(pages: &Pages, name: u64) {
    for page in pages.iter() {
        let base = page.address();
        expect(
            page,
            0..WORDS,
            |index| secret_word(name, base + index as u64 * 8),
            "in a rescan",
        );
    }
}

fn fill_in_steps(pages: &mut Pages, name: u64, steps: usize, pause_micros: u64) {
    let portion = pages.len().div_ceil(steps.max(1)).max(1);
    for (index, page) in pages.iter_mut().enumerate() {
        if index % portion == 0 && index != 0 {
            apic::sleep_micros(pause_micros);
        }
        take_page(page, name, index % 2 == 1);
    }
}

fn run(parameters: Parameters<'_>) {
    let name = name_bits(parameters.text("secret").unwrap_or("nobody"));
    let pause_micros = parameters.number("pause", 2).saturating_mul(1000);
    hypercall::event("up");
    let mut pages = memory::take_all();
    check!(!pages.is_empty(), "there is no free memory at all");
    fill_in_steps(&mut pages, name, parameters.count("steps", 8), pause_micros);
    hypercall::event("filled");
    for _ in 0..parameters.count("rescans", 4) {
        rescan(&pages, name);
        apic::sleep_micros(pause_micros);
    }
    match parameters.text("then").unwrap_or("finish") {
        "finish" => {
            println!("{} pages were mine alone", pages.len());
            hypercall::event("work-ok");
        }
        "reboot" => {
            cpu::port_out_u8(RESET_CONTROL, HARD_RESET);
            check!(false, "the reset did not happen");
        }
        "stay" => loop {
            apic::sleep_micros(10_000);
            rescan(&pages, name);
        },
        other => check!(false, "then={other}: expected finish, reboot or stay"),
    }
}
