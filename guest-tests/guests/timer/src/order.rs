//! Interrupts that a guest sends to itself: both ways of sending, masking by priority, and order.

use core::sync::atomic::{AtomicUsize, Ordering};

use pleat_guest::{apic, check, cpu, trap};

const LOW: u8 = 0x51;
const HIGH: u8 = 0x71;
/// Interrupt command: destination shorthand "self", fixed delivery.
const ICR_SELF: u64 = 1 << 18;

/// The vectors that came, the latest in the lowest byte.
static CAME: AtomicUsize = AtomicUsize::new(0);

fn note_vector(vector: u8) {
    CAME.store(
        CAME.load(Ordering::Relaxed) << 8 | usize::from(vector),
        Ordering::Relaxed,
    );
}

fn expect_came(what: &str, expected: usize) {
    let came = CAME.swap(0, Ordering::Relaxed);
    check!(
        came == expected,
        "{what}: vectors {came:#x} came, expected {expected:#x}"
    );
}

/// A few instructions with interrupts on.
fn open_window() {
    cpu::enable_interrupts();
    cpu::pause();
    cpu::disable_interrupts();
}

fn pending(vector: u8) -> bool {
    let word = cpu::read_msr(apic::IRR + u32::from(vector / 32));
    word & 1 << (vector % 32) != 0
}

pub(crate) fn check_all() {
    trap::set_handler(LOW, note_vector);
    trap::set_handler(HIGH, note_vector);
    CAME.store(0, Ordering::Relaxed);
    sending();
    priority_masks();
    higher_priority_first();
    one_bit_for_each_vector();
    waking();
    shadows();
    masked_interrupts_do_not_wake();
}

fn sending() {
    cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    expect_came("interrupts are off", 0);
    check!(pending(LOW), "a self-IPI is not in the IRR");
    open_window();
    expect_came("self-IPI register", usize::from(LOW));
    check!(!pending(LOW), "a self-IPI stayed in the IRR");
    cpu::write_msr(apic::ICR, ICR_SELF | u64::from(HIGH));
    open_window();
    expect_came("interrupt command, self", usize::from(HIGH));
    cpu::write_msr(apic::ICR, u64::from(LOW) | cpu::read_msr(apic::ID) << 32);
    open_window();
    expect_came("interrupt command, own ID", usize::from(LOW));
}

fn priority_masks() {
    cpu::write_cr8(u64::from(LOW >> 4));
    cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    open_window();
    expect_came("CR8 masks the class", 0);
    cpu::write_msr(apic::SELF_IPI, u64::from(HIGH));
    open_window();
    expect_came("CR8 lets a higher class through", usize::from(HIGH));
    cpu::enable_interrupts();
    cpu::write_cr8(u64::from(LOW >> 4) - 1);
    cpu::pause();
    cpu::disable_interrupts();
    expect_came("CR8 opened", usize::from(LOW));
    cpu::write_cr8(0);
}

fn higher_priority_first() {
    cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    cpu::write_msr(apic::SELF_IPI, u64::from(HIGH));
    open_window();
    open_window();
    expect_came("two at once", usize::from(HIGH) << 8 | usize::from(LOW));
}

fn one_bit_for_each_vector() {
    for _ in 0..3 {
        cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    }
    open_window();
    open_window();
    expect_came("three times the same while off", usize::from(LOW));
}

/// An interrupt that is pending already ends HLT at once.
fn waking() {
    cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    cpu::sleep();
    expect_came("HLT with an interrupt pending", usize::from(LOW));
}

/// STI keeps interrupts away for one more instruction (SDM vol. 2, STI), also when that one exits.
fn shadows() {
    cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    for _ in 0..100 {
        cpu::blink_interrupts();
    }
    expect_came("STI and CLI", 0);
    cpu::blink_interrupts_around_cpuid();
    expect_came("STI, CPUID and CLI", usize::from(LOW));
}

/// HLT is not ended by an interrupt that the task priority holds back.
fn masked_interrupts_do_not_wake() {
    cpu::write_cr8(u64::from(LOW >> 4));
    cpu::write_msr(apic::SELF_IPI, u64::from(LOW));
    let deadline = cpu::tsc() + apic::ticks(300);
    cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(apic::SLEEP_VECTOR));
    cpu::write_msr(apic::TSC_DEADLINE, deadline);
    cpu::sleep();
    let now = cpu::tsc();
    check!(
        now >= deadline,
        "HLT ended {} ticks early, by an interrupt that is held back",
        deadline - now
    );
    expect_came("held back during HLT", 0);
    cpu::write_cr8(0);
    open_window();
    expect_came("let through after HLT", usize::from(LOW));
}
