//! The real-time clock counts seconds as long as the TSC does.

use pleat_guest::{apic, check, cpu, hypercall, println};

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const SECONDS: u8 = 0;
const STATUS_A: u8 = 10;
const UPDATE_IN_PROGRESS: u8 = 0x80;
const POLL_MICROS: u64 = 500;

fn cmos(register: u8) -> u8 {
    cpu::port_out_u8(CMOS_INDEX, register);
    cpu::port_in_u8(CMOS_DATA)
}

fn seconds() -> u8 {
    while cmos(STATUS_A) & UPDATE_IN_PROGRESS != 0 {
        cpu::pause();
    }
    cmos(SECONDS)
}

/// The time at which the seconds change next.
fn next_second() -> u64 {
    let before = seconds();
    check!(
        before & 0xf <= 9 && before >> 4 <= 5,
        "the clock's seconds are {before:#x}, which is no BCD"
    );
    let give_up = cpu::tsc() + apic::ticks(3_000_000);
    while seconds() == before {
        check!(cpu::tsc() < give_up, "the clock's seconds stay at {before:#x}");
        apic::sleep_micros(POLL_MICROS);
    }
    cpu::tsc()
}

pub(crate) fn check_rate() {
    let start = next_second();
    let took = next_second() - start;
    let expected = apic::ticks(1_000_000);
    hypercall::measure("rtc-second", took);
    println!("a second of the clock has {took} ticks, a second of the TSC {expected}");
    let slack = expected / 50;
    check!(
        took.abs_diff(expected) <= slack,
        "they differ by more than {slack}"
    );
}
