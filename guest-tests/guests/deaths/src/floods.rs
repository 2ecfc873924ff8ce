//! Guests that keep the hypervisor busy, with arguments chosen to hurt. They survive; so must the others.

use pleat_guest::hypercall::TEXT_MAX;
use pleat_guest::parameters::Parameters;
use pleat_guest::random::Random;
use pleat_guest::{apic, check, cpu, hypercall, memory, print, trap};

const VECTOR: u8 = 0x61;
/// So soon the timer comes again. Much less, and this guest would do nothing but take interrupts.
const AGAIN_TICKS: u64 = 8000;
const ABSENT_PORT: u16 = 0xb00c;

/// Calls `step` until the time that the command line gives has passed.
fn repeat(parameters: Parameters<'_>, mut step: impl FnMut(&mut Random)) {
    let mut random = Random::new(parameters.number("seed", 1));
    let end = cpu::tsc() + apic::ticks(parameters.number("for", 20).saturating_mul(1000));
    while cpu::tsc() < end {
        step(&mut random);
    }
}

/// Every cheap kind of exit, without a pause.
pub(crate) fn exits(parameters: Parameters<'_>) {
    repeat(parameters, |random| {
        let number = u32::try_from(random.next_u64() >> 32).unwrap_or(0);
        let _ = cpu::cpuid(number, number.rotate_left(7));
        let _ = cpu::port_in_u32(ABSENT_PORT);
        let _ = trap::catch_fault(|| cpu::read_msr(number));
        let _ = trap::catch_fault(|| cpu::write_xcr(0, u64::from(number)));
        cpu::wbinvd();
    });
}

/// A timer that is due again soon after it has come, and interrupts to itself.
pub(crate) fn interrupts(parameters: Parameters<'_>) {
    if !apic::is_usable() {
        return;
    }
    trap::set_handler(VECTOR, |_| {
        cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + AGAIN_TICKS);
    });
    cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(VECTOR));
    cpu::write_msr(apic::TSC_DEADLINE, 1);
    repeat(parameters, |_| {
        cpu::enable_interrupts();
        cpu::write_msr(apic::SELF_IPI, u64::from(apic::SLEEP_VECTOR));
        cpu::disable_interrupts();
    });
    cpu::write_msr(
        apic::LVT_TIMER,
        apic::LVT_MASKED | apic::DEADLINE | u64::from(VECTOR),
    );
    cpu::write_msr(apic::TSC_DEADLINE, 0);
}

/// More text than anybody reads, some of it not meant for a console.
pub(crate) fn console(parameters: Parameters<'_>) {
    repeat(parameters, |random| {
        for byte in random.next_u64().to_le_bytes() {
            print!("{}", char::from(byte));
        }
    });
}

/// Hypercalls with any number, address and length.
pub(crate) fn hypercalls(parameters: Parameters<'_>) {
    let end = memory::ram_end();
    repeat(parameters, |random| {
        let number = hypercall::NULL + random.next_u64() % 16;
        if number == hypercall::FINISH {
            return;
        }
        let addresses = [
            random.next_u64(),
            end - random.next_u64() % 64,
            end + random.next_u64() % 64,
            0,
        ];
        let lengths = [random.next_u64(), random.next_u64() % 300, 0, u64::MAX];
        let (address, len) = (addresses[random.below(4)], lengths[random.below(4)]);
        let result = hypercall::call(number, address, len, random.next_u64());
        let takes_text = [hypercall::PRINT, hypercall::EVENT, hypercall::MEASURE].contains(&number);
        let is_inside = address.checked_add(len).is_some_and(|last| last <= end);
        let is_possible = len == 0 || is_inside && len <= TEXT_MAX as u64;
        check!(
            !takes_text || is_possible || result == hypercall::INVALID,
            "hypercall {number:#x} with {len:#x} bytes at {address:#x} gave {result:#x}"
        );
    });
}
