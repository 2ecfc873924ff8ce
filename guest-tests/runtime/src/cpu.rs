//! Instructions with a name.
//!
//! These are safe functions although a kernel can break itself with many of them (a nonsense CR3, say):
//! a test kernel is alone in its virtual machine, and that it can break nothing but itself is what is
//! tested. Those that may fault are called inside [`crate::trap::catch_fault`].

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc, CpuidResult};

/// CR0.WP: ring 0 honours read-only pages.
pub const CR0_WP: u64 = 1 << 16;
/// CR4.VMXE.
pub const CR4_VMXE: u64 = 1 << 13;
/// CR4.OSXSAVE.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// CPUID.1:ECX, MONITOR.
pub const ECX_MONITOR: u32 = 1 << 3;
/// CPUID.1:ECX, VMX.
pub const ECX_VMX: u32 = 1 << 5;
/// CPUID.1:ECX, x2APIC.
pub const ECX_X2APIC: u32 = 1 << 21;
/// CPUID.1:ECX, TSC deadline.
pub const ECX_TSC_DEADLINE: u32 = 1 << 24;
/// CPUID.1:ECX, XSAVE.
pub const ECX_XSAVE: u32 = 1 << 26;
/// CPUID.1:ECX, OSXSAVE.
pub const ECX_OSXSAVE: u32 = 1 << 27;
/// CPUID.1:ECX, AVX.
pub const ECX_AVX: u32 = 1 << 28;
/// CPUID.1:ECX, hypervisor present.
pub const ECX_HYPERVISOR: u32 = 1 << 31;

/// The time-stamp counter.
#[must_use]
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: reading the counter changes nothing.
    unsafe { _rdtsc() }
}

/// CPUID.
#[must_use]
#[inline]
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    __cpuid_count(leaf, subleaf)
}

/// The TSC's frequency as leaf 0x15 gives it (SDM vol. 2, CPUID): crystal times numerator over denominator.
#[must_use]
pub fn cpuid_tsc_hz() -> Option<u64> {
    if cpuid(0, 0).eax < 0x15 {
        return None;
    }
    let leaf = cpuid(0x15, 0);
    let product = u64::from(leaf.ecx).checked_mul(u64::from(leaf.ebx))?;
    product.checked_div(u64::from(leaf.eax)).filter(|&hz| hz != 0)
}

/// RDMSR.
#[must_use]
#[inline(always)]
pub fn read_msr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: see the module's note.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack)) }
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves of the value")]
pub fn write_msr(index: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: see the module's note.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack)) }
}

macro_rules! register {
    ($(#[$read_doc:meta])* $read:ident, $(#[$write_doc:meta])* $write:ident, $name:literal) => {
        $(#[$read_doc])*
        #[must_use]
        #[inline(always)]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: see the module's note.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nostack)) }
            value
        }

        $(#[$write_doc])*
        #[inline(always)]
        pub fn $write(value: u64) {
            // SAFETY: see the module's note.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack)) }
        }
    };
}

register!(/** MOV from CR0. */ read_cr0, /** MOV to CR0. */ write_cr0, "cr0");
register!(/** MOV from CR2. */ read_cr2, /** MOV to CR2. */ write_cr2, "cr2");
register!(/** MOV from CR3. */ read_cr3, /** MOV to CR3. */ write_cr3, "cr3");
register!(/** MOV from CR4. */ read_cr4, /** MOV to CR4. */ write_cr4, "cr4");
register!(/** MOV from CR8. */ read_cr8, /** MOV to CR8. */ write_cr8, "cr8");
register!(/** MOV from DR0. */ read_dr0, /** MOV to DR0. */ write_dr0, "dr0");
register!(/** MOV from DR1. */ read_dr1, /** MOV to DR1. */ write_dr1, "dr1");
register!(/** MOV from DR2. */ read_dr2, /** MOV to DR2. */ write_dr2, "dr2");
register!(/** MOV from DR3. */ read_dr3, /** MOV to DR3. */ write_dr3, "dr3");
register!(/** MOV from DR6. */ read_dr6, /** MOV to DR6. */ write_dr6, "dr6");
register!(/** MOV from DR7. */ read_dr7, /** MOV to DR7. */ write_dr7, "dr7");

/// XGETBV of XCR0.
#[must_use]
pub fn read_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: see the module's note.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack)) }
    u64::from(high) << 32 | u64::from(low)
}

/// XSETBV of register `index`.
#[expect(clippy::cast_possible_truncation, reason = "the halves of the value")]
pub fn write_xcr(index: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: see the module's note.
    unsafe { asm!("xsetbv", in("ecx") index, in("eax") low, in("edx") high, options(nostack)) }
}

macro_rules! port {
    ($read:ident, $write:ident, $type:ty, $register:tt, $size:literal) => {
        #[doc = concat!("IN of a ", $size, ".")]
        #[must_use]
        #[inline(always)]
        pub fn $read(port: u16) -> $type {
            let value;
            // SAFETY: see the module's note.
            unsafe { asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value, options(nostack)) }
            value
        }

        #[doc = concat!("OUT of a ", $size, ".")]
        #[inline(always)]
        pub fn $write(port: u16, value: $type) {
            // SAFETY: see the module's note.
            unsafe { asm!(concat!("out dx, ", $register), in("dx") port, in($register) value, options(nostack)) }
        }
    };
}

port!(port_in_u8, port_out_u8, u8, "al", "byte");
port!(port_in_u16, port_out_u16, u16, "ax", "word");
port!(port_in_u32, port_out_u32, u32, "eax", "doubleword");

macro_rules! instruction {
    ($(#[$doc:meta])* $name:ident, $($line:literal),+) => {
        $(#[$doc])*
        #[inline(always)]
        pub fn $name() {
            // SAFETY: see the module's note.
            unsafe { asm!($($line),+) }
        }
    };
}

instruction!(/** CLI. */ disable_interrupts, "cli");
instruction!(/** STI; interrupts are taken after the next instruction, which is here. */ enable_interrupts, "sti", "nop");
instruction!(/** STI and HLT: sleeps until an interrupt has been handled; interrupts are off again then. */
    sleep, "sti", "hlt", "cli");
instruction!(/** STI directly followed by CLI: no interrupt is taken in between (SDM vol. 2, STI). */
    blink_interrupts, "sti", "cli");
instruction!(/** STI and CLI with a CPUID in between: interrupts are taken behind the CPUID. */
    blink_interrupts_around_cpuid,
    "push rbx", "push rax", "push rcx", "push rdx", "xor eax, eax", "xor ecx, ecx", "sti", "cpuid", "cli",
    "pop rdx", "pop rcx", "pop rax", "pop rbx");
instruction!(/** HLT as interrupts happen to be. */ halt, "hlt");
instruction!(/** INVD. */ invd, "invd");
instruction!(/** WBINVD. */ wbinvd, "wbinvd");
instruction!(/** PAUSE. */ pause, "pause");
instruction!(/** UD2. */ ud2, "ud2");
instruction!(/** RDPMC of counter 0; the result is dropped. */
    rdpmc, "push rax", "push rcx", "push rdx", "xor ecx, ecx", "rdpmc", "pop rdx", "pop rcx", "pop rax");
instruction!(/** VMXON of a region at a legal address. */ vmxon, "push 0", "vmxon [rsp]", "add rsp, 8");
instruction!(/** MONITOR of the stack. */
    monitor, "push rax", "push rcx", "push rdx", "mov rax, rsp", "xor ecx, ecx", "xor edx, edx", "monitor",
    "pop rdx", "pop rcx", "pop rax");

/// HLT for ever, with interrupts off.
pub fn halt_for_ever() -> ! {
    loop {
        disable_interrupts();
        halt();
    }
}

/// A byte of linear memory, mapped or not, RAM or not.
#[must_use]
pub fn peek(address: u64) -> u8 {
    let value;
    // SAFETY: see the module's note; written as an instruction because the address may be anything.
    unsafe { asm!("mov {}, [{}]", out(reg_byte) value, in(reg) address, options(nostack)) }
    value
}

/// A doubleword of linear memory is written, mapped or not, RAM or not.
pub fn poke(address: u64, value: u32) {
    // SAFETY: see the module's note; written as an instruction because the address may be anything.
    unsafe { asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack)) }
}

/// REP OUTSB of a text.
pub fn string_out(port: u16, text: &[u8]) {
    // SAFETY: reads the slice; the direction flag is clear in compiled code.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") text.as_ptr() => _, inout("rcx") text.len() => _,
             options(nostack));
    }
}

/// REP INSB into a buffer.
pub fn string_in(port: u16, buffer: &mut [u8]) {
    // SAFETY: writes the slice; the direction flag is clear in compiled code.
    unsafe {
        asm!("rep insb", in("dx") port, inout("rdi") buffer.as_mut_ptr() => _, inout("rcx") buffer.len() => _,
             options(nostack));
    }
}

/// INVLPG.
pub fn flush_page(address: u64) {
    // SAFETY: drops translations only.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) }
}

/// A quadword of linear memory, mapped or not, RAM or not.
#[must_use]
pub fn peek_u64(address: u64) -> u64 {
    let value;
    // SAFETY: see the module's note; written as an instruction because the address may be anything.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) address, options(nostack)) }
    value
}

/// Jumps to an address.
pub fn jump(address: u64) -> ! {
    // SAFETY: see the module's note; whatever is there runs, on a stack of its own.
    unsafe { asm!("jmp {}", in(reg) address, options(noreturn)) }
}

/// Loads a stack pointer and pushes until something happens.
pub fn push_at(stack: u64) -> ! {
    // SAFETY: see the module's note; it never comes back.
    unsafe { asm!("mov rsp, {}", "2: push rax", "jmp 2b", in(reg) stack, options(noreturn)) }
}

/// Loops for ever; with interrupts off nothing but a host can end it.
pub fn spin_for_ever() -> ! {
    // SAFETY: no state is touched.
    unsafe { asm!("2: jmp 2b", options(noreturn)) }
}
