//! Single instructions that the rest of the crate needs, with names.

use core::arch::asm;

/// Reads the time-stamp counter.
#[inline]
pub fn rdtsc() -> u64 {
    // SAFETY: RDTSC has no effect on memory and CR4.TSD is clear.
    unsafe { x86::time::rdtsc() }
}

/// Reads a byte from a port.
pub fn inb(port: u16) -> u8 {
    // SAFETY: reading a port that this crate names (UART, PIT, PIC, RTC, debug port, disk) does not touch memory.
    unsafe { x86::io::inb(port) }
}

/// Writes a byte to a port.
pub fn outb(port: u16, value: u8) {
    // SAFETY: as for `inb`. The one device that then writes to memory is the disk, whose driver gives it frames that
    // were checked (disk/).
    unsafe { x86::io::outb(port, value) }
}

/// Reads 32 bits from a port.
pub fn inl(port: u16) -> u32 {
    // SAFETY: as for `inb`; PCI's configuration space among the ports.
    unsafe { x86::io::inl(port) }
}

/// Writes 32 bits to a port.
pub fn outl(port: u16, value: u32) {
    // SAFETY: as for `outb`.
    unsafe { x86::io::outl(port, value) }
}

/// Writes bytes to one port, one after the other.
pub fn outsb(port: u16, bytes: &[u8]) {
    // SAFETY: reads exactly the slice; the port does not touch memory.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
             options(nostack, preserves_flags, readonly));
    }
}

/// Reads `count` times 32 bits from one port into memory.
///
/// # Safety
/// The memory is mapped, writable, and nothing refers to it.
pub unsafe fn insl(port: u16, to: *mut u8, count: usize) {
    // SAFETY: the caller vouches for the memory; DF is clear by the ABI.
    unsafe {
        asm!("rep insd", in("dx") port, inout("rdi") to => _, inout("rcx") count => _,
             options(nostack, preserves_flags));
    }
}

/// Writes `count` times 32 bits from memory to one port.
///
/// # Safety
/// The memory is mapped.
pub unsafe fn outsl(port: u16, from: *const u8, count: usize) {
    // SAFETY: the caller vouches for the memory; DF is clear by the ABI.
    unsafe {
        asm!("rep outsd", in("dx") port, inout("rsi") from => _, inout("rcx") count => _,
             options(nostack, preserves_flags, readonly));
    }
}

/// Fills `words` words with zeros: what the compiler's `memset` is, without the way there.
///
/// # Safety
/// The words are mapped, writable, and nothing refers to them.
#[inline]
pub unsafe fn zero_words(to: *mut u64, words: usize) {
    // SAFETY: the caller vouches for the words; DF is clear by the ABI.
    unsafe {
        asm!("rep stosq", inout("rcx") words => _, inout("rdi") to => _, in("rax") 0_u64,
             options(nostack, preserves_flags));
    }
}

/// Copies `words` words, the first one first. The two ranges may be the same.
///
/// # Safety
/// Both ranges are mapped, `to` is writable, and nothing refers to it.
#[inline]
pub unsafe fn copy_words(from: *const u64, to: *mut u64, words: usize) {
    // SAFETY: as for `zero_words`.
    unsafe {
        asm!("rep movsq", inout("rcx") words => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
}

/// Reads a model-specific register that this processor has.
pub fn rdmsr(msr: u32) -> u64 {
    // SAFETY: reading has no effect on memory; a register that does not exist faults and is reported.
    unsafe { x86::msr::rdmsr(msr) }
}

/// Stops until the next interrupt, with interrupts on only for that moment. The handlers run inside.
pub fn wait_for_interrupt() {
    // SAFETY: the handlers (traps/) preserve every general-purpose register and the clobbers cover the
    // rest; STI takes effect after HLT has begun, so no wake-up is lost (SDM vol. 2, STI).
    unsafe { asm!("sti", "hlt", "cli", clobber_abi("C")) }
}

/// Stops for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: interrupts are off; nothing follows.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// Writes XCR0.
///
/// # Safety
/// The value must be one that the processor supports, or the write faults.
pub unsafe fn xsetbv(value: u64) {
    // SAFETY: the caller vouches for the value; CR4.OSXSAVE is set at start-up.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value & 0xffff_ffff, in("edx") value >> 32,
             options(nostack, preserves_flags));
    }
}

/// Reads the debug registers that no VMCS field holds: DR0 to DR3 and DR6.
pub fn debug_registers() -> [u64; 5] {
    let (a, b, c, d, e): (u64, u64, u64, u64, u64);
    // SAFETY: reading debug registers has no effect; DR7.GD is clear after a VM exit (SDM 28.5.1).
    unsafe {
        asm!("mov {0}, dr0", "mov {1}, dr1", "mov {2}, dr2", "mov {3}, dr3", "mov {4}, dr6",
             out(reg) a, out(reg) b, out(reg) c, out(reg) d, out(reg) e, options(nomem, nostack));
    }
    [a, b, c, d, e]
}

/// Writes DR0 to DR3 and DR6. DR7 is clear in the host, so none of them has an effect here.
pub fn set_debug_registers([a, b, c, d, e]: [u64; 5]) {
    // SAFETY: DR7 is 0x400 in the host (SDM 28.5.1): no breakpoint is armed.
    unsafe {
        asm!("mov dr0, {0}", "mov dr1, {1}", "mov dr2, {2}", "mov dr3, {3}", "mov dr6, {4}",
             in(reg) a, in(reg) b, in(reg) c, in(reg) d, in(reg) e, options(nomem, nostack));
    }
}
