//! Exceptions and interrupts: the descriptor tables, handlers, and calls that survive a fault.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::{apic, cpu, hypercall, println, step};

/// #DB, debug exception.
pub const DEBUG: u8 = 1;
/// #UD, invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// #GP, general protection.
pub const GENERAL_PROTECTION: u8 = 13;
/// #PF, page fault.
pub const PAGE_FAULT: u8 = 14;
/// The vector with the least possible handler: it acknowledges and counts. For measurements.
pub const FAST_VECTOR: u8 = 0xf0;
/// The first vector that is not an exception.
pub const FIRST_INTERRUPT: u8 = 32;

const KERNEL_CODE: u64 = 0x08;
const KERNEL_DATA: u64 = 0x10;
const TASK: u16 = 0x28;
/// The second entry of the interrupt-stack table, in the TSS.
const IST2_OFFSET: usize = 44;

core::arch::global_asm!(include_str!("stubs.s"), options(att_syntax));
core::arch::global_asm!(include_str!("trap.s"));

unsafe extern "C" {
    static pleat_trap_stubs: u8;
    static pleat_trap_fast: u8;
    static pleat_guarded_fault: u8;
    static pleat_exception_stack_top: u8;
    static pleat_interrupt_stack_top: u8;
    static pleat_double_fault_stack_top: u8;
    static pleat_stack_top: u8;
    static mut pleat_recovery_stack: u64;
    static pleat_fast_count: AtomicU64;
    fn pleat_guarded_call(call: extern "C" fn(*mut ()), argument: *mut ()) -> u64;
    fn pleat_user_vmcall(number: u64);
    fn pleat_step_cpuid();
    static pleat_step_cpuid_done: u8;
    fn pleat_breakpoint_here();
}

/// What the stub pushed, and above it what the processor did.
#[repr(C)]
struct Frame {
    gprs: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// An exception that ended a guarded call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which one.
    pub vector: u8,
    /// Its error code, 0 where it has none.
    pub error: u64,
    /// The instruction.
    pub rip: u64,
    /// CR2: for a page fault, the address.
    pub address: u64,
}

static LAST_FAULT: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Runs `operation`; an exception in it ends it at once, without dropping what it holds.
///
/// # Errors
/// The exception.
pub fn catch_fault<T>(operation: impl FnOnce() -> T) -> Result<T, Fault> {
    struct Job<F, T> {
        operation: Option<F>,
        result: Option<T>,
    }
    extern "C" fn run<F: FnOnce() -> T, T>(job: *mut ()) {
        // SAFETY: `catch_fault` passes a job of this type, which it borrows for the call.
        let job = unsafe { &mut *job.cast::<Job<F, T>>() };
        job.result = job.operation.take().map(|operation| operation());
    }
    fn runner<F: FnOnce() -> T, T>(_: &Job<F, T>) -> extern "C" fn(*mut ()) {
        run::<F, T>
    }
    let mut job = Job {
        operation: Some(operation),
        result: None,
    };
    let run = runner(&job);
    // SAFETY: `run` fits the job. After a fault the handler restores the callee-saved registers and the
    // stack of this call; the frames in between are forgotten.
    unsafe { pleat_guarded_call(run, (&raw mut job).cast()) };
    job.result.ok_or_else(last_fault)
}

fn last_fault() -> Fault {
    let [vector, error, rip, address] = LAST_FAULT.each_ref().map(|word| word.load(Ordering::Relaxed));
    Fault {
        vector: u8::try_from(vector).unwrap_or(u8::MAX),
        error,
        rip,
        address,
    }
}

/// VMCALL at privilege level 3, with this number: #GP means that it was let through.
#[must_use]
pub fn user_vmcall(number: u64) -> Option<Fault> {
    // SAFETY: it ends in an exception in every case, which the guarded call survives.
    catch_fault(|| unsafe { pleat_user_vmcall(number) }).err()
}

/// Single-steps over a CPUID: the exception, and where it has to be reported.
#[must_use]
pub fn step_over_cpuid() -> (Option<Fault>, u64) {
    // SAFETY: it ends in a debug exception, or restores the flags.
    let fault = catch_fault(|| unsafe { pleat_step_cpuid() }).err();
    let expected = &raw const pleat_step_cpuid_done;
    (fault, expected.addr() as u64)
}

/// Runs an instruction at an address of its own (for a breakpoint): the exception, and the address.
#[must_use]
pub fn run_breakpoint_target(arm: impl FnOnce(u64)) -> (Option<Fault>, u64) {
    let address = (pleat_breakpoint_here as *const ()).addr() as u64;
    arm(address);
    // SAFETY: it returns at once, or ends in a debug exception.
    (catch_fault(|| unsafe { pleat_breakpoint_here() }).err(), address)
}

type Handler = fn(u8);
static HANDLERS: [AtomicPtr<()>; 256] = [const { AtomicPtr::new(core::ptr::null_mut()) }; 256];

/// Calls `handler` (interrupts off, before the EOI) at each interrupt with this vector.
///
/// # Panics
/// For the vectors of exceptions.
pub fn set_handler(vector: u8, handler: Handler) {
    assert!(vector >= FIRST_INTERRUPT, "vector {vector} is an exception");
    HANDLERS[usize::from(vector)].store(handler as *mut (), Ordering::Relaxed);
}

/// How often [`FAST_VECTOR`] came.
#[must_use]
#[inline(always)]
pub fn fast_count() -> u64 {
    // SAFETY: an aligned word that the stub increments; read as an atomic.
    unsafe { pleat_fast_count.load(Ordering::Relaxed) }
}

#[unsafe(no_mangle)]
extern "C" fn pleat_trap(frame: &mut Frame) {
    let vector = u8::try_from(frame.vector).unwrap_or(u8::MAX);
    if vector < FIRST_INTERRUPT {
        exception(vector, frame);
        return;
    }
    let handler = HANDLERS[usize::from(vector)].load(Ordering::Relaxed);
    if handler.is_null() {
        println!("FAILED: interrupt with vector {vector}, which nobody asked for");
        hypercall::finish(1);
    }
    // SAFETY: only `set_handler` stores here, and it stores a `Handler`.
    let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
    handler(vector);
    apic::end_of_interrupt();
}

fn exception(vector: u8, frame: &mut Frame) {
    // SAFETY: one processor, and exceptions do not interrupt each other here.
    let recovery = unsafe { pleat_recovery_stack };
    if vector == DEBUG && step::note(frame.rip) {
        return;
    }
    if recovery == 0 {
        println!(
            "FAILED: exception {vector} error {:#x} at {:#x}, stack {:#x}, CR2 {:#x}",
            frame.error,
            frame.rip,
            frame.rsp,
            cpu::read_cr2()
        );
        hypercall::finish(1);
    }
    for (word, value) in LAST_FAULT
        .iter()
        .zip([frame.vector, frame.error, frame.rip, cpu::read_cr2()])
    {
        word.store(value, Ordering::Relaxed);
    }
    let landing = &raw const pleat_guarded_fault;
    frame.rip = landing.addr() as u64;
    frame.rsp = recovery;
    frame.cs = KERNEL_CODE;
    frame.ss = KERNEL_DATA;
    // The direction flag may be set; the trap flag must not be.
    frame.rflags &= !0x500;
}

/// A table that the processor reads: written once, before it is loaded.
#[repr(C, align(16))]
struct Table<const N: usize>(UnsafeCell<[u64; N]>);

// SAFETY: written by `load_tables` only, on the only processor, before anything else runs.
unsafe impl<const N: usize> Sync for Table<N> {}

static GDT: Table<12> = Table(UnsafeCell::new([0; 12]));
static IDT: Table<512> = Table(UnsafeCell::new([0; 512]));
static TSS: Table<13> = Table(UnsafeCell::new([0; 13]));

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

impl<const N: usize> Table<N> {
    fn address(&self) -> u64 {
        self.0.get().addr() as u64
    }

    fn pointer(&self) -> Pointer {
        Pointer {
            limit: u16::try_from(N * 8 - 1).unwrap_or(u16::MAX),
            base: self.address(),
        }
    }

    fn set(&self, words: [u64; N]) {
        // SAFETY: see `Sync` above.
        unsafe { *self.0.get() = words };
    }
}

/// Builds and loads the descriptor tables: every exception and interrupt has a stack of its own, because
/// compiled code keeps data below its stack pointer (the red zone).
pub(crate) fn load_tables() {
    TSS.set(task_state());
    GDT.set(descriptors());
    IDT.set(gates());
    let (gdt, idt) = (GDT.pointer(), IDT.pointer());
    // SAFETY: the tables are complete and live for ever; the selectors in use keep their meaning.
    unsafe {
        core::arch::asm!("lgdt [{}]", "lidt [{}]", "ltr {:x}", in(reg) &raw const gdt, in(reg) &raw const idt,
                         in(reg) TASK, options(nostack));
    }
}

/// Where the stack of interrupts starts.
#[must_use]
pub fn interrupt_stack_top() -> u64 {
    (&raw const pleat_interrupt_stack_top).addr() as u64
}

/// Gives interrupts another stack; the processor reads the entry at the next one.
pub fn set_interrupt_stack(top: u64) {
    let entry = TSS
        .0
        .get()
        .cast::<u8>()
        .wrapping_add(IST2_OFFSET)
        .cast::<[u8; 8]>();
    // SAFETY: IST2 lies at byte 44 of the table (SDM figure 8-11), which lives for ever; nobody holds a
    // reference to it.
    unsafe { entry.write_volatile(top.to_le_bytes()) };
}

/// Where the stack of exceptions starts.
pub(crate) fn exception_stack_top() -> u64 {
    (&raw const pleat_exception_stack_top).addr() as u64
}

/// Loads an interrupt descriptor table without any entry: from here on every exception is a triple fault.
pub fn drop_tables() {
    let pointer = Pointer { limit: 0, base: 0 };
    // SAFETY: what it breaks is the caller's wish.
    unsafe { core::arch::asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack)) };
}

/// The 64-bit TSS (SDM figure 8-11): its 64-bit fields lie 4 bytes off, hence the shifting.
fn task_state() -> [u64; 13] {
    let tops = [
        &raw const pleat_exception_stack_top,
        &raw const pleat_interrupt_stack_top,
        &raw const pleat_double_fault_stack_top,
    ];
    let mut words = [0; 13];
    let mut put = |offset: usize, value: u64| {
        words[offset / 8] |= value << 32;
        words[offset / 8 + 1] |= value >> 32;
    };
    put(4, (&raw const pleat_stack_top).addr() as u64);
    for (index, top) in tops.into_iter().enumerate() {
        put(36 + index * 8, top.addr() as u64);
    }
    // The I/O permission map lies behind the limit: none.
    words[12] = 104 << 48;
    words
}

/// modes.s names the legacy ones, from the eighth on, by number.
fn descriptors() -> [u64; 12] {
    let base = TSS.address();
    let low = 103 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    let user_data = 0x00cf_f300_0000_ffff;
    let user_code = 0x00af_fb00_0000_ffff;
    [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        user_data,
        user_code,
        low,
        base >> 32,
        0x00cf_9b00_0000_ffff, // 0x38: 32-bit code
        0x0000_9b00_0000_ffff, // 0x40: 16-bit code
        0x0000_9300_0000_ffff, // 0x48: 16-bit data
        0x00cf_fb00_0000_ffff, // 0x50: 32-bit code of privilege level 3
        low,                   // 0x58: a 32-bit TSS that nobody may enter
    ]
}

fn gates() -> [u64; 512] {
    let mut words = [0; 512];
    for vector in 0..256_usize {
        let stub = match u8::try_from(vector) {
            Ok(FAST_VECTOR) => (&raw const pleat_trap_fast).addr(),
            _ => (&raw const pleat_trap_stubs).addr() + vector * 16,
        } as u64;
        let stack = match vector {
            2 | 8 => 3,
            0..32 => 1,
            _ => 2,
        };
        let present_interrupt_gate = 0x8e;
        words[vector * 2] = stub & 0xffff
            | KERNEL_CODE << 16
            | stack << 32
            | present_interrupt_gate << 40
            | (stub >> 16 & 0xffff) << 48;
        words[vector * 2 + 1] = stub >> 32;
    }
    words
}
