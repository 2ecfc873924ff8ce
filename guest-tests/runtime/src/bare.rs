//! The same services on an emulated PC without Pleat (QEMU `-kernel`, or Bochs), for developing kernels.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu;

const E9: u16 = 0xe9;
const COM1: u16 = 0x3f8;
const TRANSMITTER_EMPTY: u8 = 0x20;
const ISA_DEBUG_EXIT: u16 = 0xf4;
const BOCHS_POWER_OFF: u16 = 0x8900;
/// QEMU with `-icount shift=0`: a nanosecond for an instruction.
const ASSUMED_TSC_HZ: u64 = 1_000_000_000;

static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// To port 0xE9 where an emulator listens (it reads as 0xE9 then), else to COM1.
pub fn print(text: &str) {
    let has_e9 = cpu::port_in_u8(E9) == 0xe9;
    for &byte in text.as_bytes() {
        if has_e9 {
            cpu::port_out_u8(E9, byte);
            continue;
        }
        while cpu::port_in_u8(COM1 + 5) & TRANSMITTER_EMPTY == 0 {}
        cpu::port_out_u8(COM1, byte);
    }
}

/// Ends the emulator.
pub fn power_off(code: u64) {
    if IS_ENDING.swap(true, Ordering::Relaxed) {
        return;
    }
    cpu::port_out_u8(ISA_DEBUG_EXIT, u8::from(code != 0));
    for byte in *b"Shutdown" {
        cpu::port_out_u8(BOCHS_POWER_OFF, byte);
    }
}

/// From CPUID 0x15, else what the emulator is asked for.
#[must_use]
pub fn tsc_hz() -> u64 {
    cpu::cpuid_tsc_hz().unwrap_or(ASSUMED_TSC_HZ)
}
