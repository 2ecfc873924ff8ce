//! The crash record: what is printed when Pleat itself is wrong, before the machine stops.

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use pleat_bundle::symbols::Symbols;
use spin::Once;

use crate::power::{Ending, power_off};
use crate::serial::write_last_words;
use crate::traps::{InterruptFrame, SavedRegisters};
use crate::{paging, processor};

const BACKTRACE_FRAMES: usize = 24;
const TRACE_ENTRIES: usize = 16;

static SYMBOLS: Once<Symbols<'static>> = Once::new();
static IS_CRASHING: AtomicBool = AtomicBool::new(false);

/// Gives backtraces the names of Pleat's functions.
pub fn set_symbols(symbols: Symbols<'static>) {
    SYMBOLS.call_once(|| symbols);
}

const EXCEPTIONS: [&str; 22] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM no math",
    "#DF double fault",
    "coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
    "#VE virtualization",
    "#CP control protection",
];

/// Ends Pleat on an exception of its own.
pub fn on_exception(
    vector: u8,
    error_code: Option<u64>,
    frame: &InterruptFrame,
    registers: &SavedRegisters,
) -> ! {
    begin();
    let name = EXCEPTIONS.get(usize::from(vector)).unwrap_or(&"exception");
    print(format_args!(
        "PLEAT CRASH: {name} (vector {vector}), error code {:#x}\n",
        error_code.unwrap_or(0)
    ));
    print_registers(frame, registers);
    print_backtrace(frame.rip, registers.low[2]);
    end()
}

/// Ends Pleat on a panic: a bug that a check of ours has found.
pub fn on_panic(info: &PanicInfo<'_>) -> ! {
    begin();
    print(format_args!("PLEAT CRASH: {}\n", info.message()));
    if let Some(location) = info.location() {
        print(format_args!("  at {location}\n"));
    }
    let frame_pointer: u64;
    // SAFETY: reads RBP, which the build keeps as a frame pointer.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame_pointer, options(nomem, nostack)) };
    print_backtrace(0, frame_pointer);
    end()
}

/// A crash inside the crash record stops at once.
fn begin() {
    if IS_CRASHING.swap(true, Ordering::Relaxed) {
        print(format_args!(
            "PLEAT CRASH: another one while the first was printed\n"
        ));
        power_off(Ending::Crashed);
    }
}

fn print_registers(frame: &InterruptFrame, registers: &SavedRegisters) {
    // SAFETY: reads a control register.
    let cr2 = unsafe { x86::controlregs::cr2() };
    print(format_args!(
        "  rip {:016x}  rsp {:016x}  rflags {:08x}  cs {:x}  ss {:x}  cr2 {cr2:016x}\n",
        frame.rip, frame.rsp, frame.rflags, frame.cs, frame.ss
    ));
    let [rdi, rsi, rbp, rbx, rdx, rcx, rax] = registers.low;
    print(format_args!(
        "  rax {rax:016x}  rbx {rbx:016x}  rcx {rcx:016x}  rdx {rdx:016x}\n"
    ));
    print(format_args!("  rsi {rsi:016x}  rdi {rdi:016x}  rbp {rbp:016x}\n"));
    for (row, values) in registers.high.rchunks(4).enumerate() {
        for (column, value) in values.iter().rev().enumerate() {
            print(format_args!("  r{:<2} {value:016x}", 8 + row * 4 + column));
        }
        print(format_args!("\n"));
    }
}

/// Follows the chain of frame pointers: each frame holds its caller's, and above it the return address.
fn print_backtrace(rip: u64, frame_pointer: u64) {
    print(format_args!("backtrace\n"));
    if rip != 0 {
        print_address(rip);
    }
    let (start, end) = paging::image_range();
    let mut frame = frame_pointer;
    for _ in 0..BACKTRACE_FRAMES {
        if frame < start || frame >= end - 16 || !frame.is_multiple_of(8) {
            break;
        }
        // SAFETY: aligned, and within the image, whose stacks are mapped; a guard page would fault into
        // the nested-crash path above.
        let [next, return_address] = unsafe { *(frame as *const [u64; 2]) };
        if return_address < start || return_address >= end {
            break;
        }
        print_return(return_address);
        if next <= frame {
            break;
        }
        frame = next;
    }
    print(format_args!("last exits (tsc, guest, basic reason, rax)\n"));
    for entry in processor::this().trace.last(TRACE_ENTRIES) {
        print(format_args!(
            "  {:>14}  guest#{}  {:>2}  {:016x}\n",
            entry.tsc, entry.guest, entry.reason, entry.rax
        ));
    }
}

fn print_address(address: u64) {
    print_symbol(address, address);
}

/// A call that does not return can be the last instruction of its function: the return address is then
/// the next function's, and the byte before it is the caller's.
fn print_return(address: u64) {
    print_symbol(address, address - 1);
}

fn print_symbol(address: u64, inside: u64) {
    match SYMBOLS.get().and_then(|symbols| symbols.lookup(inside)) {
        Some(symbol) => {
            let offset = symbol.offset + (address - inside);
            print(format_args!("  {address:#x}  {}+{offset:#x}\n", symbol.name));
        }
        None => print(format_args!("  {address:#x}\n")),
    }
}

fn end() -> ! {
    print(format_args!("PLEAT CRASH: end of record\n"));
    power_off(Ending::Crashed)
}

/// Prints past all locks.
pub fn print(text: fmt::Arguments<'_>) {
    // Writing to the sink cannot fail.
    let _ = LastWords.write_fmt(text);
}

struct LastWords;

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_last_words(text.as_bytes());
        Ok(())
    }
}
