//! The registers of the first ATA channel, at the ports that it has had since the PC/AT (PCI IDE Controller
//! Specification 1.0, 2.1).
//!
//! Device 0 of this channel is the only ATA disk that Pleat ever uses: an operator who gives it a disk must know which.

use crate::cpu::{inb, insl, outb, outsl, rdtsc};

use super::task::{BUSY, DATA_REQUEST, IDENTIFY, IDENTITY_WORDS, Identity, MASTER, SECTOR, Task};

const DATA: u16 = 0x1f0;
const ERROR: u16 = 0x1f1;
const COUNT: u16 = 0x1f2;
const LBA_MID: u16 = 0x1f4;
const LBA_HIGH: u16 = 0x1f5;
const DEVICE: u16 = 0x1f6;
const STATUS: u16 = 0x1f7;
const COMMAND: u16 = 0x1f7;
/// Reading it does not acknowledge the interrupt.
const ALTERNATE_STATUS: u16 = 0x3f6;
const CONTROL: u16 = 0x3f6;

/// Device control register (ATA/ATAPI-7 volume 1, 5.6): reset both devices.
const RESET: u8 = 1 << 2;
/// Nobody drives the bus: lines are pulled up, or the chip set answers for it.
const FLOATING: u8 = 0xff;
/// Steps of 32 bits that a sector takes.
const STEPS: usize = SECTOR / 4;

/// The status register; reading it acknowledges the device's interrupt.
pub fn status() -> u8 {
    inb(STATUS)
}

/// The error register.
pub fn error() -> u8 {
    inb(ERROR)
}

/// The status as far as it tells whether the device is done, with its interrupt left standing.
pub fn quiet_status() -> u8 {
    inb(ALTERNATE_STATUS)
}

/// Nothing answers.
pub fn is_floating() -> bool {
    quiet_status() == FLOATING
}

/// Waits the 400 ns that a device may take to say that it is busy (volume 2, 9.2, HI2:HI3): each read of a register takes
/// at least 100 ns on the bus.
pub fn settle() {
    for _ in 0..4 {
        quiet_status();
    }
}

/// Gives the device a command.
pub fn issue(task: &Task) {
    outb(DEVICE, task.device);
    settle();
    for values in task.previous.iter().chain([&task.current]) {
        for (port, value) in (COUNT..).zip(values) {
            outb(port, *value);
        }
    }
    outb(COMMAND, task.command);
    settle();
}

/// Moves one sector from the device.
///
/// # Safety
/// `to` has room for a sector, and nothing refers to it.
pub unsafe fn read_sector(to: *mut u8) {
    // SAFETY: as the caller says.
    unsafe { insl(DATA, to, STEPS) }
}

/// Moves one sector to the device.
///
/// # Safety
/// `from` has a sector that can be read.
pub unsafe fn write_sector(from: *const u8) {
    // SAFETY: as the caller says.
    unsafe { outsl(DATA, from, STEPS) }
}

/// Resets the channel (volume 2, 9.3: 5 µs at least). The device is busy afterwards, for up to half a minute if it has to
/// spin up; who gives it the next request looks whether it is well again.
pub fn reset() {
    /// Reads of a register that take 5 µs.
    const WAITS: u32 = 50;
    outb(CONTROL, RESET);
    for _ in 0..WAITS {
        quiet_status();
    }
    outb(CONTROL, 0);
    settle();
}

/// Selects device 0 and asks what it is; waits so many ticks at most. `None` where there is no disk.
pub fn identify(patience: u64) -> Option<Identity> {
    if is_floating() {
        return None;
    }
    outb(CONTROL, 0); // interrupts on
    outb(DEVICE, MASTER);
    settle();
    let deadline = rdtsc().saturating_add(patience);
    wait_until(deadline, |status| status & BUSY == 0)?;
    outb(COMMAND, IDENTIFY);
    settle();
    // No device at all reads as zero; a CD-ROM drive aborts, with its signature in these registers (volume 1, 6.17).
    let answer = wait_until(deadline, |status| status & BUSY == 0 || status == 0)?;
    let has_signature = inb(LBA_MID) != 0 || inb(LBA_HIGH) != 0;
    if status() == 0 || has_signature || answer & DATA_REQUEST == 0 {
        return None;
    }
    let mut words = [0_u16; IDENTITY_WORDS];
    // SAFETY: 256 words are a sector.
    unsafe { read_sector(words.as_mut_ptr().cast()) };
    status();
    Identity::parse(&words)
}

/// Polls the status until it pleases; `None` if that takes too long.
fn wait_until(deadline: u64, is_enough: impl Fn(u8) -> bool) -> Option<u8> {
    while rdtsc() < deadline {
        let status = quiet_status();
        if is_enough(status) {
            return Some(status);
        }
    }
    None
}
