//! The bus master of a PIIX3 or PIIX4 IDE function, primary channel (Programming Interface for Bus Master IDE
//! Controller 1.0; Intel 82371FB/82371SB data sheet, 2.3 and 2.7).
//!
//! It reads a table of physical regions and moves the bytes while the processor does something else. One region for
//! each frame: blocks in a row on the disk need no frames in a row. Its addresses have 32 bits, so frames above 4 GiB are
//! moved by the processor.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use pleat_types::{DISK_RUN, DiskDirection, FRAME_SIZE, Hfn};

use crate::cpu::{inb, outb, outl};
use crate::pci::{ANSWERS_PORTS, Function, IS_MASTER};

/// Registers of the primary channel from the base on (clause 3).
const COMMAND: u16 = 0;
const STATUS: u16 = 2;
const TABLE: u16 = 4;

/// Command register: it runs; it writes to memory.
const START: u8 = 1 << 0;
const TO_MEMORY: u8 = 1 << 3;
/// Status register: the bus failed; the device has raised its interrupt. Both are cleared by ones.
const FAILED: u8 = 1 << 1;
const INTERRUPT: u8 = 1 << 2;

/// Descriptors of regions: address, bytes, and a mark in the last one (clause 1.2). The table lies in 64 KiB and below
/// 4 GiB, as Pleat's image does.
#[repr(C, align(256))]
struct Regions([AtomicU64; DISK_RUN]);

static REGIONS: Regions = Regions([const { AtomicU64::new(0) }; DISK_RUN]);

/// The descriptor of one frame. A frame never crosses a multiple of 64 KiB, which a region must not.
const fn region(address: u32, is_last: bool) -> u64 {
    let mark = (is_last as u64) << 63;
    mark | (FRAME_SIZE as u64) << 32 | address as u64
}

/// What the bus master says of a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It goes on.
    UnderWay,
    /// The device has raised its interrupt: its status says how it went.
    Ended,
    /// The bus failed.
    Failed,
}

impl Progress {
    /// Decodes the status register (clause 3.2, table of interrupt, active and error). Whether the device moved all bytes
    /// is not looked up here: `Active` beside the interrupt means that it ended early.
    const fn of(status: u8) -> Self {
        match status {
            s if s & FAILED != 0 => Self::Failed,
            s if s & INTERRUPT != 0 => Self::Ended,
            _ => Self::UnderWay,
        }
    }
}

/// A bus master that was found.
#[derive(Clone, Copy, Debug)]
pub struct BusMaster {
    base: u16,
}

impl BusMaster {
    /// Finds the bus master of the first IDE function, gives it a place where it has none, and lets it master the bus.
    pub fn find() -> Option<Self> {
        /// Where its 16 ports go where no firmware has put them: ports that nothing of a PC decodes.
        const USUAL_BASE: u16 = 0xc000;
        const PORTS: u32 = 1;
        let function = Function::all().find(|function| is_ide_master(function.class()))?;
        if function.bar(4) & !0xf == 0 {
            function.set_bar(4, u32::from(USUAL_BASE) | PORTS);
        }
        function.allow(ANSWERS_PORTS | IS_MASTER);
        let base = u16::try_from(function.bar(4) & 0xfff0).ok()?;
        (function.bar(4) & PORTS != 0 && base != 0).then_some(Self { base })
    }

    /// Tells it where the bytes come from or go to, and clears what is left of the last transfer.
    pub fn prepare(self, direction: DiskDirection, addresses: &[u32]) {
        for (index, (slot, address)) in REGIONS.0.iter().zip(addresses).enumerate() {
            slot.store(region(*address, index + 1 == addresses.len()), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst); // the table is whole before the device is told of it
        outb(self.base + COMMAND, to_memory(direction));
        outb(self.base + STATUS, self.kept_status() | FAILED | INTERRUPT);
        let table = u32::try_from(&raw const REGIONS as u64).expect("the image lies below 4 GiB");
        outl(self.base + TABLE, table);
    }

    /// Lets it run: the device has its command.
    pub fn run(self, direction: DiskDirection) {
        outb(self.base + COMMAND, to_memory(direction) | START);
    }

    /// How the transfer stands.
    pub fn progress(self) -> Progress {
        Progress::of(inb(self.base + STATUS))
    }

    /// Stops it. From here on it touches no memory.
    pub fn stop(self) {
        outb(self.base + COMMAND, 0);
        outb(self.base + STATUS, self.kept_status() | FAILED | INTERRUPT);
    }

    /// The bits that say which drives can do DMA, which firmware has set.
    fn kept_status(self) -> u8 {
        inb(self.base + STATUS) & 0x60
    }
}

/// The addresses for a bus master, if it reaches all frames.
pub fn addresses(frames: &[Hfn]) -> Option<arrayvec::ArrayVec<u32, DISK_RUN>> {
    frames
        .iter()
        .map(|frame| u32::try_from(frame.base().get()).ok())
        .collect()
}

const fn to_memory(direction: DiskDirection) -> u8 {
    match direction {
        DiskDirection::Read => TO_MEMORY,
        DiskDirection::Write => 0,
    }
}

/// Mass storage, IDE, with a bus master, its primary channel at the ports and the interrupt line of old (Programming
/// Interface, 2.0: bit 7; PCI IDE Controller Specification, 2.1: bit 0 is clear).
const fn is_ide_master(class: u32) -> bool {
    class & 0xff_ff81 == 0x01_0180
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_an_address_a_length_and_a_last_one() {
        assert_eq!(region(0x1234_5000, false), 0x0000_1000_1234_5000);
        assert_eq!(region(0xffff_f000, true), 0x8000_1000_ffff_f000);
    }

    #[test]
    fn frames_above_4_gib_are_out_of_reach() {
        let frames = |last| [Hfn::new(1), Hfn::new(last)];
        let reached = addresses(&frames(0xf_ffff)).expect("below 4 GiB");
        assert_eq!(reached.as_slice(), [0x1000, 0xffff_f000]);
        assert_eq!(addresses(&frames(0x10_0000)), None);
    }

    #[test]
    fn only_compatible_ide_with_a_master_will_do() {
        assert!(is_ide_master(0x01_0180));
        assert!(is_ide_master(0x01_018a));
        for other in [0x01_0100, 0x01_0185, 0x01_0601, 0x02_0180] {
            assert!(!is_ide_master(other), "{other:#x}");
        }
    }

    #[test]
    fn a_failure_of_the_bus_comes_before_the_interrupt() {
        assert_eq!(Progress::of(0x61), Progress::UnderWay);
        assert_eq!(Progress::of(0x64), Progress::Ended);
        assert_eq!(Progress::of(0x65), Progress::Ended);
        assert_eq!(Progress::of(0x06), Progress::Failed);
    }
}
