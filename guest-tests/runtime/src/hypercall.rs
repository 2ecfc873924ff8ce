//! Calls to the hypervisor; away from Pleat, stand-ins that let a kernel be developed on a bare emulator.

use core::arch::asm;
use core::sync::atomic::{AtomicU8, Ordering};

pub use pleat_types::hypercall::{
    EVENT, FINISH, INVALID, MEASURE, NULL, PRINT, TEXT_MAX, TSC_HZ, UNKNOWN, YIELD,
};

use crate::{bare, cpu, trap};

const UNDECIDED: u8 = 0;
const ON_PLEAT: u8 = 1;
const ON_BARE_MACHINE: u8 = 2;
static WHERE: AtomicU8 = AtomicU8::new(UNDECIDED);

/// VMCALL with these registers; RAX afterwards. Faults (#UD) where nobody takes the call.
#[inline]
pub fn call(number: u64, rbx: u64, rcx: u64, rdx: u64) -> u64 {
    let result;
    // SAFETY: a hypercall reads at most the guest memory that its arguments name and changes RAX only.
    // RBX is reserved by the compiler, hence the exchange.
    unsafe {
        asm!("xchg rbx, {rbx}", "vmcall", "xchg rbx, {rbx}", rbx = inout(reg) rbx => _,
             inlateout("rax") number => result, in("rcx") rcx, in("rdx") rdx, options(nostack));
    }
    result
}

/// Whether Pleat runs this kernel: VMCALL is no invalid opcode and the null call returns 0.
#[must_use]
pub fn is_on_pleat() -> bool {
    if WHERE.load(Ordering::Relaxed) == UNDECIDED {
        let answer = trap::catch_fault(null);
        let place = if answer == Ok(0) {
            ON_PLEAT
        } else {
            ON_BARE_MACHINE
        };
        WHERE.store(place, Ordering::Relaxed);
    }
    WHERE.load(Ordering::Relaxed) == ON_PLEAT
}

/// The call that does nothing.
#[inline]
pub fn null() -> u64 {
    call(NULL, 0, 0, 0)
}

fn call_with_text(number: u64, text: &str, value: u64) -> u64 {
    call(
        number,
        text.as_ptr().expose_provenance() as u64,
        text.len() as u64,
        value,
    )
}

/// Writes text to the guest's console: at most [`TEXT_MAX`] bytes.
pub fn print(text: &str) {
    if is_on_pleat() {
        call_with_text(PRINT, text, 0);
    } else {
        bare::print(text);
    }
}

/// Reports that something happened.
pub fn event(name: &str) {
    if is_on_pleat() {
        let result = call_with_text(EVENT, name, 0);
        assert!(result == 0, "the event {name} was refused: {result:#x}");
    } else {
        crate::println!("event: {name}");
    }
}

/// Reports a measured figure.
pub fn measure(name: &str, value: u64) {
    if is_on_pleat() {
        let result = call_with_text(MEASURE, name, value);
        assert!(result == 0, "the figure {name} was refused: {result:#x}");
    } else {
        crate::println!("measured: {name} = {value}");
    }
}

/// Ends this guest: 0 for success.
pub fn finish(code: u64) -> ! {
    if is_on_pleat() {
        call(FINISH, code, 0, 0);
    } else {
        crate::println!("finished: {code}");
        bare::power_off(code);
    }
    cpu::halt_for_ever()
}

/// Gives the rest of the time slice away.
pub fn yield_now() {
    if is_on_pleat() {
        call(YIELD, 0, 0, 0);
    }
}

/// Ticks of the time-stamp counter in a second.
#[must_use]
pub fn tsc_hz() -> u64 {
    if is_on_pleat() {
        call(TSC_HZ, 0, 0, 0)
    } else {
        bare::tsc_hz()
    }
}
