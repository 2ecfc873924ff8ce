//! Interrupts that are counted, sleeping until something has happened, and the 8259 pair.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::window::Window;
use crate::{apic, cpu, trap};

static COUNTS: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

const MASTER: u16 = 0x20;
const SLAVE: u16 = 0xa0;
const END_OF_INTERRUPT: u8 = 0x20;
/// The vector of the pair's first input.
pub const LINES_VECTOR: u8 = 0x90;
const CASCADE: u8 = 2;
/// Local vector table: LINT0, with the delivery mode ExtINT (SDM vol. 3, 11.5.1).
const LVT_LINT0: u32 = 0x835;
const EXTERNAL: u64 = 0x700;

/// The port where the device on the line says why it interrupts; 0: none.
static LINE_ISR: AtomicU16 = AtomicU16::new(0);

/// From now on counts the interrupts with this vector.
pub fn count(vector: u8) {
    trap::set_handler(vector, note);
}

fn note(vector: u8) {
    COUNTS[usize::from(vector)].fetch_add(1, Ordering::Relaxed);
}

/// How many of them came.
#[must_use]
pub fn counted(vector: u8) -> u32 {
    COUNTS[usize::from(vector)].load(Ordering::Relaxed)
}

/// Sleeps until the condition holds or this time has come; whether it holds. It is looked at after each interrupt.
/// Interrupts are off before and afterwards.
pub fn sleep_until(deadline: u64, mut condition: impl FnMut() -> bool) -> bool {
    if apic::is_usable() {
        cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(apic::SLEEP_VECTOR));
    }
    loop {
        if condition() {
            return true;
        }
        if cpu::tsc() >= deadline {
            return false;
        }
        if apic::is_usable() {
            cpu::write_msr(apic::TSC_DEADLINE, deadline);
            cpu::sleep();
        } else {
            cpu::pause();
        }
    }
}

/// As [`sleep_until`], for so many microseconds.
pub fn sleep_while(micros: u64, condition: impl FnMut() -> bool) -> bool {
    sleep_until(cpu::tsc().saturating_add(apic::ticks(micros)), condition)
}

/// Sets the 8259 pair up for one device's line (its vector is [`LINES_VECTOR`] plus the line): at each interrupt the
/// device's reason is read, which takes the line back, and counted.
pub fn use_line(line: u8, isr: Window) {
    let Window::Ports(isr) = isr else { return };
    LINE_ISR.store(isr, Ordering::Relaxed);
    for (port, vector, cascade) in [
        (MASTER, LINES_VECTOR, 1 << CASCADE),
        (SLAVE, LINES_VECTOR + 8, CASCADE),
    ] {
        // ICW1 to ICW4: edge as the ELCR says otherwise, cascade, vectors, 8086 mode.
        cpu::port_out_u8(port, 0x11);
        cpu::port_out_u8(port + 1, vector);
        cpu::port_out_u8(port + 1, cascade);
        cpu::port_out_u8(port + 1, 1);
    }
    let unmasked = !(1_u16 << (line & 15) | 1 << CASCADE);
    let [low, high] = unmasked.to_le_bytes();
    cpu::port_out_u8(MASTER + 1, low);
    cpu::port_out_u8(SLAVE + 1, high);
    trap::set_handler(LINES_VECTOR + (line & 15), |vector| {
        let isr = Window::Ports(LINE_ISR.load(Ordering::Relaxed));
        if isr.load_u8(0) != 0 {
            note(vector);
        }
        cpu::port_out_u8(SLAVE, END_OF_INTERRUPT);
        cpu::port_out_u8(MASTER, END_OF_INTERRUPT);
    });
    cpu::write_msr(LVT_LINT0, EXTERNAL);
}
