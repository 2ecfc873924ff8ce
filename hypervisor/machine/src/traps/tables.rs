//! GDT, TSS and IDT (SDM vol. 3, 3.4.5, 6.14 and 8.7).

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use x86::dtables::{DescriptorTablePointer, lgdt, lidt};
use x86::segmentation::{SegmentSelector, load_ds, load_es, load_ss};

/// 64-bit code.
pub const CODE_SELECTOR: u16 = 0x08;
/// Data.
pub const DATA_SELECTOR: u16 = 0x10;
/// The task-state segment.
pub const TSS_SELECTOR: u16 = 0x18;

const STACK_BYTES: usize = 16 * 1024;

/// A stack with a page below it that paging.rs leaves unmapped.
#[repr(C, align(4096))]
struct GuardedStack {
    guard: [u8; 4096],
    stack: UnsafeCell<[u8; STACK_BYTES]>,
}

// SAFETY: only the processor writes a stack, and only the one processor that its TSS belongs to.
unsafe impl Sync for GuardedStack {}

impl GuardedStack {
    const fn empty() -> Self {
        Self {
            guard: [0; 4096],
            stack: UnsafeCell::new([0; STACK_BYTES]),
        }
    }

    fn top(&self) -> u64 {
        self.stack.get() as u64 + STACK_BYTES as u64
    }
}

/// By IST number less one: interrupts and plain exceptions, NMI, double fault and machine check. The
/// last two can strike while another handler runs.
static STACKS: [GuardedStack; 3] = [const { GuardedStack::empty() }; 3];

/// The page at `address` is the guard of one of the stacks.
pub fn is_stack_guard(address: u64) -> bool {
    STACKS.iter().any(|stack| stack.guard.as_ptr() as u64 == address)
}

/// The interrupt stack table entry that a vector uses.
fn stack_of(vector: usize) -> u64 {
    match vector {
        2 => 2,
        8 | 18 => 3,
        _ => 1,
    }
}

#[repr(C, align(16))]
struct Quads<const N: usize>([AtomicU64; N]);

impl<const N: usize> Quads<N> {
    const fn zero() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }

    fn set(&self, index: usize, value: u64) {
        self.0[index].store(value, Ordering::Relaxed);
    }

    fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

const TSS_BYTES: u64 = 104;
static GDT: Quads<5> = Quads::zero();
static IDT: Quads<512> = Quads::zero();
/// The TSS's 64-bit fields are at odd multiples of four: kept as 32-bit halves in 64-bit words.
static TSS: Quads<13> = Quads::zero();

/// Base addresses of GDT, IDT and TSS, for the host state of a VMCS.
pub fn table_bases() -> [u64; 3] {
    [GDT.address(), IDT.address(), TSS.address()]
}

unsafe extern "C" {
    static pleat_trap_stubs: u8;
}

/// The vector whose stub pushed this return address.
pub fn vector_of_stub(return_address: u64) -> u8 {
    let offset = return_address.wrapping_sub(&raw const pleat_trap_stubs as u64);
    u8::try_from(offset / 16).unwrap_or(u8::MAX)
}

/// Fills the tables and loads them.
pub fn start() {
    fill_tss();
    fill_gdt();
    fill_idt();
    load();
}

fn fill_tss() {
    // IST1 is at byte 36; each entry straddles two 64-bit words.
    for (index, stack) in STACKS.iter().enumerate() {
        let (word, top) = (4 + index, stack.top());
        let low = TSS.0[word].load(Ordering::Relaxed) & 0xffff_ffff;
        TSS.set(word, low | top << 32);
        TSS.set(word + 1, top >> 32);
    }
    TSS.set(12, TSS_BYTES << 48); // no I/O permission map
}

fn fill_gdt() {
    let base = TSS.address();
    GDT.set(1, 0x00af_9b00_0000_ffff);
    GDT.set(2, 0x00cf_9300_0000_ffff);
    let base_fields = (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
    GDT.set(3, base_fields | 0x89 << 40 | (TSS_BYTES - 1));
    GDT.set(4, base >> 32);
}

fn fill_idt() {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
    let stubs = &raw const pleat_trap_stubs as u64;
    for vector in 0..256 {
        let target = stubs + vector as u64 * 16;
        let low = (target & 0xffff)
            | u64::from(CODE_SELECTOR) << 16
            | stack_of(vector) << 32
            | PRESENT_INTERRUPT_GATE
            | (target >> 16 & 0xffff) << 48;
        IDT.set(vector * 2, low);
        IDT.set(vector * 2 + 1, target >> 32);
    }
}

fn load() {
    let gdt = DescriptorTablePointer::<u64> {
        limit: 5 * 8 - 1,
        base: GDT.0.as_ptr().cast(),
    };
    let idt = DescriptorTablePointer::<u64> {
        limit: 512 * 8 - 1,
        base: IDT.0.as_ptr().cast(),
    };
    // SAFETY: the tables are static and filled; the selectors name their entries; code continues in a
    // segment that is like the one before.
    unsafe {
        lgdt(&gdt);
        x86::segmentation::load_cs(SegmentSelector::from_raw(CODE_SELECTOR));
        load_ss(SegmentSelector::from_raw(DATA_SELECTOR));
        load_ds(SegmentSelector::from_raw(DATA_SELECTOR));
        load_es(SegmentSelector::from_raw(DATA_SELECTOR));
        lidt(&idt);
        x86::task::load_tr(SegmentSelector::from_raw(TSS_SELECTOR));
    }
}
