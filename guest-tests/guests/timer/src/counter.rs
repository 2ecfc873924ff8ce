//! One-shot and periodic mode: the timer counts down at the crystal's rate (CPUID leaf 0x15, ECX).

use core::sync::atomic::{AtomicU64, Ordering};

use pleat_guest::parameters::Parameters;
use pleat_guest::{apic, check, cpu, hypercall, println, trap};

const VECTOR: u8 = 0x42;
/// Divide configuration: by 1.
const DIVIDE_BY_1: u64 = 0xb;
/// Divide configuration: by 16.
const DIVIDE_BY_16: u64 = 0x3;
const PERIODS: u64 = 20;

static COUNT: AtomicU64 = AtomicU64::new(0);
static FIRST_AT: AtomicU64 = AtomicU64::new(0);
static LAST_AT: AtomicU64 = AtomicU64::new(0);

fn note_time(_: u8) {
    let now = cpu::tsc();
    if COUNT.fetch_add(1, Ordering::Relaxed) == 0 {
        FIRST_AT.store(now, Ordering::Relaxed);
    }
    LAST_AT.store(now, Ordering::Relaxed);
}

/// The crystal's frequency, where CPUID gives it. An emulator without Pleat may count at any rate.
fn crystal_hz() -> Option<u64> {
    if !hypercall::is_on_pleat() || cpu::cpuid(0, 0).eax < 0x15 {
        return None;
    }
    Some(u64::from(cpu::cpuid(0x15, 0).ecx)).filter(|&hz| hz != 0)
}

pub(crate) fn check_all(parameters: Parameters<'_>) {
    let Some(crystal_hz) = crystal_hz() else {
        println!("the timer's rate is unknown here: one-shot and periodic mode are left out");
        return;
    };
    trap::set_handler(VECTOR, note_time);
    let worst = apic::ticks(parameters.number("worst", 20_000));
    one_shot(crystal_hz, DIVIDE_BY_1, 1, worst);
    one_shot(crystal_hz, DIVIDE_BY_16, 16, worst);
    periodic(crystal_hz, worst);
    cpu::write_msr(apic::INITIAL_COUNT, 0);
}

fn wait_for(count: u64) {
    while COUNT.load(Ordering::Relaxed) < count {
        cpu::sleep();
    }
}

fn one_shot(crystal_hz: u64, divide: u64, divisor: u64, worst: u64) {
    COUNT.store(0, Ordering::Relaxed);
    cpu::write_msr(apic::LVT_TIMER, u64::from(VECTOR));
    cpu::write_msr(apic::DIVIDE, divide);
    let millis = 2;
    let count = crystal_hz / 1000 * millis / divisor;
    let expected = apic::ticks(millis * 1000);
    let start = cpu::tsc();
    cpu::write_msr(apic::INITIAL_COUNT, count);
    let current = cpu::read_msr(apic::CURRENT_COUNT);
    check!(
        current <= count && current != 0,
        "the current count is {current} of {count} right after the start"
    );
    wait_for(1);
    let took = LAST_AT.load(Ordering::Relaxed) - start;
    let early = expected / 1000;
    check!(
        took + early >= expected,
        "one-shot: came after {took} ticks, expected {expected}"
    );
    check!(
        took <= expected + worst,
        "one-shot: came after {took} ticks, expected {expected}"
    );
    let current = cpu::read_msr(apic::CURRENT_COUNT);
    check!(
        current == 0,
        "one-shot: the current count is {current} afterwards"
    );
}

fn periodic(crystal_hz: u64, worst: u64) {
    COUNT.store(0, Ordering::Relaxed);
    cpu::write_msr(apic::DIVIDE, DIVIDE_BY_1);
    cpu::write_msr(apic::LVT_TIMER, apic::PERIODIC | u64::from(VECTOR));
    cpu::write_msr(apic::INITIAL_COUNT, crystal_hz / 1000);
    wait_for(PERIODS);
    cpu::write_msr(
        apic::LVT_TIMER,
        apic::PERIODIC | apic::LVT_MASKED | u64::from(VECTOR),
    );
    cpu::write_msr(apic::INITIAL_COUNT, 0);
    let took = LAST_AT.load(Ordering::Relaxed) - FIRST_AT.load(Ordering::Relaxed);
    let expected = apic::ticks((PERIODS - 1) * 1000);
    // Lost periods make it longer; the lateness of the first one makes it shorter.
    check!(
        took.abs_diff(expected) <= worst,
        "{PERIODS} periods took {took} ticks, expected {expected}"
    );
    hypercall::measure("periodic-error", took.abs_diff(expected));
}
