//! Ports, physical memory, and the jump: everything of the Rust stage that needs `unsafe`.

use core::arch::asm;
use core::fmt;

use pleat_bundle::elf::Segment;
use pleat_bundle::handover::{
    BOCHS_POWER_OFF_BYTES, BOCHS_POWER_OFF_PORT, BUNDLE_BASE, BootInfo, COM1_PORT, DEBUG_PORT, EXIT_FIRMWARE,
    QEMU_EXIT_PORT,
};

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;

const UART_LINE_STATUS: u16 = COM1_PORT + 5;
/// The shift register is empty too; bit 5 would only say that the next character may be written.
const UART_TRANSMITTER_EMPTY: u8 = 1 << 6;
/// One character lasts some 20 thousand instructions at 115,200 baud on an emulator with 200 million a
/// second; a port that is not ready after this long does not work.
const UART_PATIENCE: u32 = 1 << 20;

fn write_port(port: u16, value: u8) {
    // SAFETY: no device that this ROM writes to can touch memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
}

fn read_port(port: u16) -> u8 {
    let value;
    // SAFETY: as for writing.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// The byte of CMOS with this index.
pub fn read_cmos(index: u8) -> u8 {
    write_port(CMOS_INDEX, index);
    read_port(CMOS_DATA)
}

/// Port 0xE9 and COM1.
pub struct Console(());

impl Console {
    /// Sets COM1 to 115,200 baud, 8 data bits, no parity, with FIFOs.
    pub fn new() -> Self {
        for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 0x03), (2, 0x07)] {
            write_port(COM1_PORT + register, value);
        }
        Self(())
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            write_port(DEBUG_PORT, byte);
            if byte == b'\n' {
                write_com1(b'\r');
            }
            write_com1(byte);
        }
        Ok(())
    }
}

/// Waits until the last character has left, so that none is lost when the machine powers off.
fn write_com1(byte: u8) {
    write_port(COM1_PORT, byte);
    let _ = (0..UART_PATIENCE).find(|_| read_port(UART_LINE_STATUS) & UART_TRANSMITTER_EMPTY != 0);
}

/// Ends the emulator; a machine that cannot be ended sleeps.
pub fn power_off() -> ! {
    for byte in BOCHS_POWER_OFF_BYTES {
        write_port(BOCHS_POWER_OFF_PORT, byte);
    }
    write_port(QEMU_EXIT_PORT, EXIT_FIRMWARE);
    loop {
        // SAFETY: interrupts are off and there is nothing left to do.
        unsafe {
            asm!("hlt", options(nomem, nostack));
        }
    }
}

/// The first `bytes` bytes of the bundle, which the caller has found to be in RAM.
pub fn bundle_bytes(bytes: u64) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance(address(BUNDLE_BASE));
    // SAFETY: identity mapped RAM at 16 MiB and above, that the ROM never writes: its own memory is below
    // 640 KiB, and `check_placement` keeps loaded segments out of the bundle.
    unsafe { core::slice::from_raw_parts(start, address(bytes)) }
}

/// Copies a segment to its place and zeroes the rest of it. `check_placement` has accepted it.
pub fn load_segment(file: &[u8], segment: &Segment) {
    let start = address(segment.file_offset);
    let content = &file[start..start + address(segment.file_bytes)];
    let target = core::ptr::with_exposed_provenance_mut::<u8>(address(segment.physical_address));
    let rest = address(segment.memory_bytes) - content.len();
    // SAFETY: the range is RAM above the ROM's memory and outside of the bundle, so nothing borrows it.
    unsafe {
        target.copy_from_nonoverlapping(content.as_ptr(), content.len());
        target.add(content.len()).write_bytes(0, rest);
    }
}

/// Enters the hypervisor as `pleat_bundle::handover` promises.
pub fn enter(entry: u64, info: &BootInfo) -> ! {
    // SAFETY: the entry point lies in a loaded segment; it does not return and makes its own stack.
    unsafe {
        asm!("jmp {entry}", entry = in(reg) entry, in("rdi") info, options(noreturn));
    }
}

/// Physical addresses are as wide as pointers on this machine.
fn address(address: u64) -> usize {
    const { assert!(size_of::<usize>() == size_of::<u64>()) };
    #[expect(clippy::cast_possible_truncation, reason = "the sizes are equal, see above")]
    {
        address as usize
    }
}
