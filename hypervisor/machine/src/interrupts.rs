//! Interrupts of the host: the console's serial line and the wake-up timer.
//!
//! The serial line's IRQ 4 comes through the 8259 pair in virtual-wire mode (SDM vol. 3, 10.5.1: LINT0 as
//! ExtINT), which every machine has and which needs no table to find. The timer is the local APIC's
//! TSC deadline.

use x86::msr::{IA32_APIC_BASE, IA32_TSC_DEADLINE, wrmsr};

use crate::cpu::{outb, rdmsr};
use crate::serial::{COM1_IRQ, CONSOLE};

/// Vector of IRQ 0; IRQ 8 follows at + 8.
const PIC_BASE: u8 = 0x30;
const TIMER_VECTOR: u8 = 0x40;
const SPURIOUS_VECTOR: u8 = 0xff;

const PIC_COMMAND: [u16; 2] = [0x20, 0xa0];
const PIC_DATA: [u16; 2] = [0x21, 0xa1];
const END_OF_INTERRUPT: u8 = 0x20;

const X2APIC_EOI: u32 = 0x80b;
const X2APIC_SPURIOUS: u32 = 0x80f;
const X2APIC_LVT_TIMER: u32 = 0x832;
const X2APIC_LVT_LINT0: u32 = 0x835;
const DELIVER_EXTINT: u64 = 7 << 8;
const TIMER_TSC_DEADLINE: u64 = 2 << 17;

/// Sets up both controllers; interrupts stay off at the processor.
pub fn start() {
    start_pic();
    const ENABLE_X2APIC: u64 = 1 << 11 | 1 << 10;
    // SAFETY: the capability check has found an x2APIC with TSC deadline; the vectors have handlers.
    unsafe {
        wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | ENABLE_X2APIC);
        wrmsr(X2APIC_SPURIOUS, 1 << 8 | u64::from(SPURIOUS_VECTOR));
        wrmsr(X2APIC_LVT_LINT0, DELIVER_EXTINT);
        wrmsr(X2APIC_LVT_TIMER, TIMER_TSC_DEADLINE | u64::from(TIMER_VECTOR));
    }
}

/// Moves the 8259 pair off the exceptions' vectors and masks all but COM1.
fn start_pic() {
    for (chip, (command, data)) in PIC_COMMAND.into_iter().zip(PIC_DATA).enumerate() {
        let is_first = chip == 0;
        outb(command, 0x11); // ICW1: edge triggered, cascade, ICW4 follows
        outb(data, if is_first { PIC_BASE } else { PIC_BASE + 8 });
        outb(data, if is_first { 1 << 2 } else { 2 }); // ICW3: the second chip is at line 2
        outb(data, 0x01); // ICW4: 8086 mode
        outb(data, if is_first { !(1 << COM1_IRQ) } else { 0xff });
    }
}

/// Asks for an interrupt at this time; 0 for none.
pub fn set_timer(tsc: u64) {
    // SAFETY: the deadline only raises an interrupt that has a handler.
    unsafe { wrmsr(IA32_TSC_DEADLINE, tsc) }
}

/// Serves one interrupt, whether it came through the IDT or as a VM exit that acknowledged it.
pub fn serve(vector: u8) {
    const COM1_VECTOR: u8 = PIC_BASE + COM1_IRQ;
    match vector {
        COM1_VECTOR => {
            CONSOLE.lock().on_interrupt();
            outb(PIC_COMMAND[0], END_OF_INTERRUPT);
        }
        // SAFETY: tells the local APIC that its interrupt has been served.
        TIMER_VECTOR => unsafe { wrmsr(X2APIC_EOI, 0) },
        // Spurious interrupts of either controller want no answer (8259A data sheet, IR7; SDM 10.9).
        _ => {}
    }
}
