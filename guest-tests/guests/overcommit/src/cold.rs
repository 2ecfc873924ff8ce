//! Memory that is written once and then left alone; what comes after finds its pages taken.
//!
//! At its start all of memory must be zero: what was another guest's, or this one's before a reset, may be anywhere but
//! there.
//!
//! Who checks also measures `first-read`: the median of the ticks that the first word of a page takes.
//!
//! Parameters: `wait` (milliseconds of sleep, 2000), `then`: `check` (compares all of it), `end` (at once), `crash` (a triple
//! fault), `reboot` (resets its machine) or `stay` (sleeps until somebody ends it). Events: `filled`, `cold`.

use pleat_guest::memory::WORDS;
use pleat_guest::parameters::Parameters;
use pleat_guest::timing::{empty, median, ticks_of};
use pleat_guest::{apic, check, cpu, hypercall, trap};

use super::content::Content;
use super::{Field, pause};

const RESET_CONTROL: u16 = 0xcf9;
const HARD_RESET: u8 = 6;
const SLEEP_MICROS: u64 = 10_000_000;
/// Of so many pages the first read is timed.
const SAMPLES_MAX: usize = 512;

pub(crate) fn run(mut field: Field, parameters: Parameters<'_>) -> Field {
    let (recipe, own) = (field.recipe, field.own);
    for page in 0..field.len() {
        field.check(page, 0..WORDS, Content::Zero, "before it was ever written");
        field.write(page, recipe.content(own, page, 0));
    }
    hypercall::event("filled");
    pause(parameters, "wait", 2000);
    hypercall::event("cold");
    match parameters.text("then").unwrap_or("check") {
        "check" => {
            let mut ticks = [0; SAMPLES_MAX];
            for page in 0..field.len() {
                let taken = ticks_of(|| {
                    field.check(page, 0..1, recipe.content(own, page, 0), "at its first read");
                });
                if let Some(sample) = ticks.get_mut(page) {
                    *sample = taken;
                }
                field.check(page, 0..WORDS, recipe.content(own, page, 0), "when it was cold");
            }
            let count = field.len().min(SAMPLES_MAX);
            hypercall::measure("first-read", median(&mut ticks[..count]).saturating_sub(empty()));
        }
        "end" => {}
        "crash" => {
            trap::drop_tables();
            cpu::ud2();
        }
        "reboot" => {
            cpu::port_out_u8(RESET_CONTROL, HARD_RESET);
            check!(false, "the reset did not happen");
        }
        "stay" => loop {
            apic::sleep_micros(SLEEP_MICROS);
        },
        other => check!(false, "then={other}: expected check, end, crash, reboot or stay"),
    }
    field
}
