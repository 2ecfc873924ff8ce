//! Crashes on purpose: each must end in a crash record, or a protection of paging.rs is not there.

use core::arch::asm;
use core::hint::black_box;

use pleat_types::Provocation;

use crate::power::{Ending, power_off};
use crate::{crash, paging};

/// Brings Pleat down.
pub fn provoke(how: Provocation) -> ! {
    match how {
        Provocation::Panic => panic!("provoked at the console"),
        Provocation::ReadNull => read(0),
        Provocation::WriteCode => write(paging::image_range().0),
        Provocation::ExecuteData => execute(),
        Provocation::OverflowStack => {
            black_box(descend(1));
        }
    }
    crash::print(format_args!("PLEAT IS NOT PROTECTED against {how:?}\n"));
    power_off(Ending::Failed)
}

fn read(address: u64) {
    // SAFETY: none is claimed: the page is unmapped and the processor says so.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack, readonly)) }
}

fn write(address: u64) {
    // SAFETY: none is claimed: the page is read-only and the processor says so.
    unsafe { asm!("mov byte ptr [{}], 0x90", in(reg) address, options(nostack)) }
}

fn execute() {
    // A lone RET in data: where data could be executed this would come back.
    static RET: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0xc3);
    // SAFETY: none is claimed: the page is not executable and the processor says so.
    unsafe { asm!("call {}", in(reg) RET.as_ptr(), clobber_abi("C")) }
}

/// Uses stack until there is none; the sum keeps the compiler from making a loop of it.
#[allow(unconditional_recursion)]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    descend(depth + 1) + frame[usize::try_from(depth % 64).unwrap_or(0)]
}
