//! The local APIC through its x2APIC registers, its timer, and sleeping.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::{cpu, hypercall, trap};

/// IA32_APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// x2APIC registers (SDM table 11-6).
pub const ID: u32 = 0x802;
/// Version.
pub const VERSION: u32 = 0x803;
/// Task priority.
pub const TPR: u32 = 0x808;
/// End of interrupt.
pub const EOI: u32 = 0x80b;
/// Spurious interrupt vector.
pub const SPURIOUS: u32 = 0x80f;
/// Interrupt request, the first of eight.
pub const IRR: u32 = 0x820;
/// Interrupt command.
pub const ICR: u32 = 0x830;
/// Local vector table: timer.
pub const LVT_TIMER: u32 = 0x832;
/// Initial count of the timer.
pub const INITIAL_COUNT: u32 = 0x838;
/// Current count of the timer.
pub const CURRENT_COUNT: u32 = 0x839;
/// Divide configuration of the timer.
pub const DIVIDE: u32 = 0x83e;
/// Self-IPI.
pub const SELF_IPI: u32 = 0x83f;
/// LVT: masked.
pub const LVT_MASKED: u64 = 1 << 16;
/// LVT timer: periodic mode.
pub const PERIODIC: u64 = 1 << 17;
/// LVT timer: TSC-deadline mode.
pub const DEADLINE: u64 = 2 << 17;
/// The vector that [`sleep_until`] uses.
pub const SLEEP_VECTOR: u8 = 0xe0;

const ENABLED_X2APIC: u64 = 0xc00;
const SPURIOUS_VECTOR: u8 = 0xff;

static IS_USABLE: AtomicBool = AtomicBool::new(false);

/// Switches the local APIC on, where the processor has an x2APIC with TSC deadline.
pub(crate) fn init() {
    let needed = cpu::ECX_X2APIC | cpu::ECX_TSC_DEADLINE;
    if cpu::cpuid(1, 0).ecx & needed != needed {
        return;
    }
    let base = cpu::read_msr(APIC_BASE);
    if base & ENABLED_X2APIC != ENABLED_X2APIC {
        cpu::write_msr(APIC_BASE, base | ENABLED_X2APIC);
    }
    trap::set_handler(SPURIOUS_VECTOR, |_| {});
    trap::set_handler(SLEEP_VECTOR, |_| {});
    cpu::write_msr(SPURIOUS, 0x100 | u64::from(SPURIOUS_VECTOR));
    IS_USABLE.store(true, Ordering::Relaxed);
}

/// The processor has an x2APIC with TSC deadline.
#[must_use]
pub fn is_usable() -> bool {
    IS_USABLE.load(Ordering::Relaxed)
}

/// Acknowledges the interrupt that is being handled.
pub fn end_of_interrupt() {
    cpu::write_msr(EOI, 0);
}

/// Sleeps (HLT) until this time; without a timer, spins. Interrupts are off before and afterwards.
pub fn sleep_until(deadline: u64) {
    if is_usable() {
        cpu::write_msr(LVT_TIMER, DEADLINE | u64::from(SLEEP_VECTOR));
        while cpu::tsc() < deadline {
            cpu::write_msr(TSC_DEADLINE, deadline);
            cpu::sleep();
        }
    }
    while cpu::tsc() < deadline {
        cpu::pause();
    }
}

/// Ticks of the time-stamp counter in so many microseconds.
#[must_use]
pub fn ticks(micros: u64) -> u64 {
    let product = u128::from(micros) * u128::from(hypercall::tsc_hz());
    u64::try_from(product / 1_000_000).unwrap_or(u64::MAX)
}

/// Sleeps for so many microseconds.
pub fn sleep_micros(micros: u64) {
    sleep_until(cpu::tsc().saturating_add(ticks(micros)));
}
