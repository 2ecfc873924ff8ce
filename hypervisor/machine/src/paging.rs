//! Pleat's own address space: every address maps to itself, nothing is writable and executable at once.
//!
//! ```text
//! 0          4 KiB      2 MiB         6 MiB                     4 GiB             RAM above
//! | unmapped | RW, NX   | image, by   | RW, NX, 2 MiB pages     | RW, NX, 1 GiB   |
//! | (null)   | 4 KiB    | its segment |                         | pages           |
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

use x86::msr::{IA32_EFER, wrmsr};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const DATA: u64 = PRESENT | WRITABLE | NO_EXECUTE;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const HUGE_PAGE: u64 = 1 << 30;
const FOUR_GIB: u64 = 4 << 30;
/// One PDPT maps 512 GiB; more memory than that is not used.
pub const HIGHEST: u64 = 512 * HUGE_PAGE;

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn set(&self, index: u64, entry: u64) {
        self.0[usize::try_from(index).expect("64-bit")].store(entry, Ordering::Relaxed);
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }
}

static PML4: Table = Table::empty();
static PDPT: Table = Table::empty();
static DIRECTORIES: [Table; 4] = [const { Table::empty() }; 4];
/// 0 to 2 MiB, and the image's 2 to 6 MiB.
static SMALL: [Table; 3] = [const { Table::empty() }; 3];

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __stack_guard: u8;
    static __image_end: u8;
}

/// Where the image lies: first byte, and the byte after the last.
pub fn image_range() -> (u64, u64) {
    (&raw const __image_start as u64, &raw const __image_end as u64)
}

/// What the image's page at `address` may be used for; 0 leaves it unmapped.
fn protection(address: u64) -> u64 {
    let (start, end) = image_range();
    match address {
        a if a < start || a >= end => DATA,
        a if a < &raw const __text_end as u64 => PRESENT,
        a if a < &raw const __rodata_end as u64 => PRESENT | NO_EXECUTE,
        a if a == &raw const __stack_guard as u64 || crate::traps::is_stack_guard(a) => 0,
        _ => DATA,
    }
}

/// Builds the tables and switches to them. `highest` is the end of memory; `reach` says how much of it can be mapped.
pub fn start(highest: u64, reach: Reach) {
    PML4.set(0, PDPT.address() | PRESENT | WRITABLE);
    for (index, directory) in (0..).zip(&DIRECTORIES) {
        PDPT.set(index, directory.address() | PRESENT | WRITABLE);
        for entry in 0..512 {
            let address = index * HUGE_PAGE + entry * LARGE_PAGE;
            directory.set(entry, address | DATA | LARGE);
        }
    }
    for (index, table) in (0..).zip(&SMALL) {
        for entry in 0..512 {
            let address = index * LARGE_PAGE + entry * PAGE;
            let rights = if address == 0 { 0 } else { protection(address) };
            table.set(entry, if rights == 0 { 0 } else { address | rights });
        }
        DIRECTORIES[0].set(index, table.address() | PRESENT | WRITABLE);
    }
    if reach == Reach::All {
        for index in 4..highest.min(HIGHEST).div_ceil(HUGE_PAGE) {
            PDPT.set(index, (index * HUGE_PAGE) | DATA | LARGE);
        }
    }
    activate();
}

/// How much of memory the processor can map with the tables above.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// No 1 GiB pages: the first 4 GiB.
    FourGiB,
    /// Everything up to [`HIGHEST`].
    All,
}

impl Reach {
    /// The first address that is not mapped.
    pub fn limit(self) -> u64 {
        match self {
            Self::FourGiB => FOUR_GIB,
            Self::All => HIGHEST,
        }
    }
}

fn activate() {
    const NX_LME: u64 = 1 << 11 | 1 << 8;
    // SAFETY: the tables map all that runs or is read now at its own address, so nothing moves; NX is
    // enabled before a table that uses it, and WP last, when the read-only pages are in force.
    unsafe {
        wrmsr(IA32_EFER, NX_LME);
        x86::controlregs::cr3_write(PML4.address());
        x86::controlregs::cr0_write(x86::controlregs::cr0() | x86::controlregs::Cr0::CR0_WRITE_PROTECT);
    }
}

/// The physical address of the top table.
pub fn root() -> u64 {
    PML4.address()
}
