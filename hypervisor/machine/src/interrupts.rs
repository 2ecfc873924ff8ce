//! Interrupts of the host: the console's serial line, the disk and the wake-up timer.
//!
//! The serial line's IRQ 4 and the first ATA channel's IRQ 14 come through the 8259 pair in virtual-wire mode (SDM vol. 3, 11.5.1: LINT0 as
//! ExtINT), which every machine has and which needs no table to find. The timer is the local APIC's
//! TSC deadline. The disk's only ends a sleep: its driver polls.

use pleat_types::Tsc;
use x86::msr::{IA32_APIC_BASE, IA32_TSC_DEADLINE, wrmsr};

use crate::cpu::{inb, outb, rdmsr, rdtsc, wait_for_interrupt};
use crate::serial::{COM1_IRQ, CONSOLE};

/// Vector of IRQ 0; IRQ 8 follows at + 8.
const PIC_BASE: u8 = 0x30;
/// Interrupt line of the first ATA channel, and the line of the first chip that the second one is at.
const DISK_IRQ: u8 = 14;
const CASCADE: u8 = 2;
const TIMER_VECTOR: u8 = 0x40;
const SPURIOUS_VECTOR: u8 = 0xff;

const PIC_COMMAND: [u16; 2] = [0x20, 0xa0];
const PIC_DATA: [u16; 2] = [0x21, 0xa1];
const END_OF_INTERRUPT: u8 = 0x20;

const X2APIC_EOI: u32 = 0x80b;
const X2APIC_SPURIOUS: u32 = 0x80f;
const X2APIC_IN_SERVICE: u32 = 0x810;
const X2APIC_LVT_TIMER: u32 = 0x832;
/// CMCI, thermal sensor, performance counters, LINT1, error: as the firmware left them until they are masked.
const X2APIC_LVT_OTHERS: [u32; 5] = [0x82f, 0x833, 0x834, 0x836, 0x837];
const MASKED: u64 = 1 << 16;
const X2APIC_LVT_LINT0: u32 = 0x835;
const DELIVER_EXTINT: u64 = 7 << 8;
const TIMER_TSC_DEADLINE: u64 = 2 << 17;

/// Sets up both controllers; interrupts stay off at the processor.
pub fn start() {
    start_pic();
    const ENABLE: u64 = 1 << 11;
    const X2APIC_MODE: u64 = 1 << 10;
    let base = rdmsr(IA32_APIC_BASE);
    // SAFETY: the capability check has found an x2APIC with TSC deadline; the vectors have handlers. From
    // off to x2APIC mode there is no way but through xAPIC mode (SDM 11.12.5).
    unsafe {
        wrmsr(IA32_APIC_BASE, base | ENABLE);
        wrmsr(IA32_APIC_BASE, base | ENABLE | X2APIC_MODE);
        for entry in lvt_others() {
            wrmsr(entry, MASKED);
        }
        wrmsr(X2APIC_SPURIOUS, 1 << 8 | u64::from(SPURIOUS_VECTOR));
        wrmsr(X2APIC_LVT_LINT0, DELIVER_EXTINT);
        wrmsr(X2APIC_LVT_TIMER, TIMER_TSC_DEADLINE | u64::from(TIMER_VECTOR));
    }
}

/// The other entries of the local vector table that this processor has (SDM 11.5.1: version register, bits 23:16).
fn lvt_others() -> impl Iterator<Item = u32> {
    const CMCI: u32 = 0x82f;
    const X2APIC_VERSION: u32 = 0x803;
    let has_cmci = rdmsr(X2APIC_VERSION) >> 16 & 0xff >= 6;
    X2APIC_LVT_OTHERS
        .into_iter()
        .filter(move |entry| *entry != CMCI || has_cmci)
}

/// A non-maskable interrupt is fatal only if the board says that memory or a bus has failed (port 0x61, bits
/// 7 and 6); watchdogs and buttons raise them too.
pub fn on_nmi() {
    const HARDWARE_FAILED: u8 = 0xc0;
    let reason = inb(0x61);
    assert!(
        reason & HARDWARE_FAILED == 0,
        "hardware error: non-maskable interrupt, port 0x61 is {reason:#x}"
    );
    log::warn!("a non-maskable interrupt without a cause; going on");
}

/// Moves the 8259 pair off the exceptions' vectors and masks all but COM1.
fn start_pic() {
    for (chip, (command, data)) in PIC_COMMAND.into_iter().zip(PIC_DATA).enumerate() {
        let is_first = chip == 0;
        outb(command, 0x11); // ICW1: edge triggered, cascade, ICW4 follows
        outb(data, if is_first { PIC_BASE } else { PIC_BASE + 8 });
        outb(data, if is_first { 1 << CASCADE } else { CASCADE }); // ICW3: the second chip is at line 2
        outb(data, 0x01); // ICW4: 8086 mode
        outb(data, if is_first { !(1 << COM1_IRQ) } else { 0xff });
    }
}

/// Lets the disk's interrupt through.
pub fn allow_disk() {
    outb(PIC_DATA[0], !(1 << COM1_IRQ | 1 << CASCADE));
    outb(PIC_DATA[1], !(1 << (DISK_IRQ - 8)));
}

/// Sleeps until an interrupt, at the latest until `until`.
pub fn sleep(until: Tsc) {
    if until <= Tsc(rdtsc()) {
        return;
    }
    // The deadline register takes 0 as "no interrupt" (SDM 11.5.4.1).
    set_timer(if until == Tsc::NEVER { 0 } else { until.0 });
    wait_for_interrupt();
    set_timer(0);
}

/// Asks for an interrupt at this time; 0 for none.
fn set_timer(tsc: u64) {
    // SAFETY: the deadline only raises an interrupt that has a handler.
    unsafe { wrmsr(IA32_TSC_DEADLINE, tsc) }
}

/// Serves one interrupt, whether it came through the IDT or as a VM exit that acknowledged it.
pub fn serve(vector: u8) {
    const COM1_VECTOR: u8 = PIC_BASE + COM1_IRQ;
    const DISK_VECTOR: u8 = PIC_BASE + DISK_IRQ;
    const SECOND_SPURIOUS_VECTOR: u8 = PIC_BASE + 15;
    match vector {
        COM1_VECTOR => {
            CONSOLE.lock().on_interrupt();
            outb(PIC_COMMAND[0], END_OF_INTERRUPT);
        }
        // The disk took its request back because its driver has polled before the interrupt came: the second chip has
        // nothing in service, but the first one has the second (8259A data sheet, IR7 of a slave).
        SECOND_SPURIOUS_VECTOR => outb(PIC_COMMAND[0], END_OF_INTERRUPT),
        DISK_VECTOR => PIC_COMMAND.iter().for_each(|port| outb(*port, END_OF_INTERRUPT)),
        // SAFETY: tells the local APIC that its interrupt has been served.
        TIMER_VECTOR => unsafe { wrmsr(X2APIC_EOI, 0) },
        // Spurious interrupts of either controller are in service nowhere and want no answer (8259A data
        // sheet, IR7; SDM 11.9). What is in service at the local APIC must be ended, or it blocks the timer.
        // SAFETY: as above.
        other if is_in_service(other) => unsafe { wrmsr(X2APIC_EOI, 0) },
        _ => {}
    }
}

fn is_in_service(vector: u8) -> bool {
    rdmsr(X2APIC_IN_SERVICE + u32::from(vector / 32)) & 1 << (vector % 32) != 0
}
