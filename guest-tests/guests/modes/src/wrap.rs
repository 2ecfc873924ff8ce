//! Compatibility mode at the end of the address space: CPUID is the last instruction below 4 GiB, and the
//! instruction pointer wraps to 0.

use pleat_guest::memory::{Pages, WORDS};
use pleat_guest::{check, cpu, modes};

const PRESENT_WRITABLE: u64 = 3;
const LARGE: u64 = 1 << 7;
/// The code's last eight bytes before 4 GiB: XOR EAX,EAX; XOR ECX,ECX; NOP; NOP; CPUID.
const ENTRY: u32 = 0xffff_fff8;
const CODE: [u8; 8] = [0x31, 0xc0, 0x31, 0xc9, 0x90, 0x90, 0x0f, 0xa2];

/// Builds tables in pages 0 to 5 (top, PDPT, first and last directory, first and last table), code in 6 and 7.
pub(crate) fn check_all(pages: &mut Pages) {
    let before = cpu::read_cr3();
    let at: [u64; 8] = core::array::from_fn(|index| pages.page(index).address());
    for index in 0..8 {
        pages.page(index).fill(0..WORDS, |_| 0);
    }
    let link = |address: u64| address | PRESENT_WRITABLE;
    pages.page(0).store(0, link(at[1]));
    pages.page(1).store(0, link(at[2]));
    pages.page(1).store(3, link(at[3]));
    pages.page(2).store(0, link(at[4]));
    pages
        .page(2)
        .fill(1..WORDS, |index| link(LARGE | (index as u64) << 21));
    pages.page(4).store(0, link(at[6]));
    pages.page(4).fill(1..WORDS, |index| link((index as u64) << 12));
    pages.page(3).store(WORDS - 1, link(at[5]));
    pages.page(5).store(WORDS - 1, link(at[7]));
    pages.page(7).store(WORDS - 1, u64::from_le_bytes(CODE));
    let (selector, offset) = modes::compatibility_exit();
    // JMP FAR selector:offset.
    pages
        .page(6)
        .store(0, 0xea | (offset & 0xffff_ffff) << 8 | u64::from(selector) << 40);
    let expected = cpu::cpuid(0, 0).eax;
    cpu::write_cr3(at[0]);
    let found = modes::run_compatibility(ENTRY);
    cpu::write_cr3(before);
    check!(
        found == u64::from(expected),
        "CPUID before 4 GiB gave {found:#x}, not {expected:#x}"
    );
}
