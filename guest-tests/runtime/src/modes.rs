//! Other modes of the processor than the 64-bit one: real mode, 16-bit and 32-bit protected mode, the
//! legacy paging modes, compatibility mode. Interrupts are off; what faults where no fault is expected
//! ends the guest as a triple fault.

use crate::memory::{Page, WORDS};

core::arch::global_asm!(include_str!("modes.s"), options(att_syntax));
core::arch::global_asm!(include_str!("real.s"), options(att_syntax));

unsafe extern "C" {
    fn pleat_excursion(routine: u64);
    fn pleat_compatibility(entry: u64) -> u64;
    static pleat_compatibility_back: u8;
    static pleat_visit_real_mode: u8;
    static pleat_paging_32: u8;
    static pleat_paging_pae: u8;
    static pleat_call_task: u8;
    static pleat_alignment_loop: u8;
    static pleat_modes_seen: [u32; 4];
    static pleat_modes_mark: u32;
    static pleat_real_page: [u64; WORDS];
}

/// Where the 16-bit code runs.
pub const REAL_CODE: u64 = 0x8000;
/// The six stacks of the cases: from here to [`REAL_END`].
pub const REAL_STACKS: u64 = 0x9000;
/// The page at whose end the last case executes CPUID ends here.
pub const REAL_END: u64 = 0x1_0000;
/// Where the 16-bit code leaves what came of the cases, and of the rest: word indices in its page.
const SLOTS: usize = 0xc00 / 8;
const WORDS_AT: usize = 0xe00 / 8;

/// An instruction in real mode that had to end in a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealCase {
    /// SP in the handler.
    pub stack_in_handler: u16,
    /// IP on its stack.
    pub instruction: u16,
    /// CS on its stack.
    pub code_segment: u16,
    /// SP after IRET.
    pub stack_afterwards: u16,
    /// The right IP.
    pub expected_instruction: u16,
    /// SP before.
    pub stack_before: u16,
    /// Which handler it was; 0 when none.
    pub vector: u16,
}

/// What real mode and 16-bit protected mode gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealMode {
    /// In this order: RDMSR, WRMSR (unknown numbers), XSETBV (0), VMXOFF, INT 0x32, each on a fresh stack
    /// page; RDMSR again; a step over CPUID; CPUID at the end of the segment.
    pub cases: [RealCase; 8],
    /// CPUID 0x40000000's EBX in 16-bit protected mode.
    pub signature_16: u32,
    /// The same in real mode.
    pub signature: u32,
    /// The null call's result.
    pub null_call: u32,
    /// EAX after 0x5a5a5a00 and an IN of the byte 0x77.
    pub port: u32,
    /// IA32_APIC_BASE, low half.
    pub apic_base: u32,
    /// Interrupts after HLT until the TSC deadline.
    pub after_deadline: u32,
    /// Interrupts after HLT with another one pending.
    pub after_self_ipi: u32,
    /// The way back was reached.
    pub is_complete: bool,
}

/// Goes to real mode, with the code in this page.
///
/// # Panics
/// When the page is not the one at [`REAL_CODE`].
pub fn visit_real_mode(page: &mut Page) -> RealMode {
    assert!(page.address() == REAL_CODE, "16-bit code runs at {REAL_CODE:#x}");
    // SAFETY: a constant page of the image.
    let code = unsafe { &pleat_real_page };
    page.fill(0..WORDS, |index| code[index]);
    excursion(&raw const pleat_visit_real_mode);
    let bytes = |word: usize, half: usize| -> u16 {
        let bytes = page.load(word).to_le_bytes();
        u16::from_le_bytes([bytes[half * 2], bytes[half * 2 + 1]])
    };
    let dword = |index: usize| -> u32 {
        let half = index % 2 * 2;
        let word = WORDS_AT + index / 2;
        u32::from(bytes(word, half)) | u32::from(bytes(word, half + 1)) << 16
    };
    RealMode {
        cases: core::array::from_fn(|case| {
            let field = |index: usize| bytes(SLOTS + case * 2 + index / 4, index % 4);
            RealCase {
                stack_in_handler: field(0),
                instruction: field(1),
                code_segment: field(2),
                stack_afterwards: field(4),
                expected_instruction: field(5),
                stack_before: field(6),
                vector: field(7),
            }
        }),
        signature_16: dword(0),
        signature: dword(1),
        null_call: dword(2),
        port: dword(3),
        apic_base: dword(4),
        after_deadline: dword(5),
        after_self_ipi: dword(6),
        is_complete: dword(7) == 0x1de,
    }
}

/// What a legacy paging mode gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// CPUID 0x40000000's EBX.
    pub signature: u32,
    /// The null call's result.
    pub null_call: u32,
    /// A word that was read through an alias, after the exits; with PAE once more after a write of CR0.CD.
    pub read: [u32; 2],
    /// That word.
    pub expected: u32,
}

/// 32-bit paging with pages of 4 MiB.
#[must_use]
pub fn visit_32_bit_paging() -> Paging {
    visit_paging(&raw const pleat_paging_32)
}

/// PAE paging; the PDPTE of the alias is taken out of memory before the exits.
#[must_use]
pub fn visit_pae_paging() -> Paging {
    visit_paging(&raw const pleat_paging_pae)
}

fn visit_paging(routine: *const u8) -> Paging {
    excursion(routine);
    // SAFETY: plain words, which only the routines write; volatile, because the compiler sees no write.
    let (seen, expected) = unsafe {
        (
            (&raw const pleat_modes_seen).read_volatile(),
            (&raw const pleat_modes_mark).read_volatile(),
        )
    };
    Paging {
        signature: seen[0],
        null_call: seen[1],
        read: [seen[2], seen[3]],
        expected,
    }
}

/// A far call of a TSS in 32-bit protected mode.
pub fn call_task() {
    excursion(&raw const pleat_call_task);
}

/// Alignment checks whose delivery is an alignment check again, without end.
pub fn alignment_loop() {
    excursion(&raw const pleat_alignment_loop);
}

fn excursion(routine: *const u8) {
    // SAFETY: the routines of modes.s and real.s come back with the stack as it was, or never; the way back
    // restores all that Rust relies on.
    unsafe { pleat_excursion(routine.addr() as u64) }
}

/// Runs code in compatibility mode; it has to end with a far jump to [`compatibility_exit`]. Returns EAX.
#[must_use]
pub fn run_compatibility(entry: u32) -> u64 {
    // SAFETY: the caller's code leaves memory of Rust alone, as every kernel's (see `cpu`).
    unsafe { pleat_compatibility(u64::from(entry)) }
}

/// Where 32-bit code goes back to: selector and offset.
#[must_use]
pub fn compatibility_exit() -> (u16, u64) {
    (0x08, (&raw const pleat_compatibility_back).addr() as u64)
}
