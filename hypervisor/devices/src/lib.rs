//! What a guest sees besides its processor and its memory: one [`Board`] of devices per guest.
//!
//! Pure logic: a board touches no hardware, never blocks and never allocates. Its owner hands it the
//! guest's port and MSR accesses and the time, and asks it which interrupt to inject.
//!
//! **Time** is always the *guest's* time-stamp counter ([`pleat_types::Tsc`]: host TSC plus the guest's
//! offset, modulo 2^64), as RDTSC in the guest would show it at that moment.
//!
//! The machine is "A": a local APIC in x2APIC mode with TSC deadline, a pair of 8259s behind LVT0 = ExtINT,
//! one 16550A, a PIT, an RTC and PCI by configuration mechanism 1. There is no memory-mapped device, so
//! that no instruction ever has to be decoded.
#![no_std]
#![forbid(unsafe_code)]

// The support of tests names this crate from inside as from outside.
#[cfg(test)]
extern crate self as pleat_devices;
#[cfg(test)]
extern crate std;

pub mod acpi;
mod apic;
mod board;
mod clock;
pub mod cpuid;
mod msr;
mod pci;
mod pic;
mod pit;
mod rtc;
mod uart;
pub mod virtio;

pub use board::{Board, BoardConfig, ConsoleFull, Notified, Pending, PortEffect};
pub use msr::{GuestFault, MsrEffect};
pub use pci::MSIX_PAGE;

/// How long a board has been on. It goes on evenly when a guest moves its TSC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct GuestTime {
    /// Ticks since the board was switched on ("board ticks").
    ticks: u64,
    /// Ticks in a second.
    tsc_hz: u64,
}

impl GuestTime {
    const fn seconds(self) -> u64 {
        match self.ticks.checked_div(self.tsc_hz) {
            Some(seconds) => seconds,
            None => 0,
        }
    }
}
