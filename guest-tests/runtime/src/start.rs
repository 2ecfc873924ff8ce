//! From the first Rust line to the kernel's main function.

use core::panic::PanicInfo;

use crate::parameters::Parameters;
use crate::{apic, cpu, hypercall, println, start_info, trap};

core::arch::global_asm!(include_str!("boot.s"));

unsafe extern "Rust" {
    fn pleat_guest_main(parameters: Parameters<'static>);
}

#[unsafe(no_mangle)]
extern "C" fn pleat_guest_start(info: u64) -> ! {
    trap::load_tables();
    start_info::set_address(info);
    enable_extended_state();
    apic::init();
    // SAFETY: defined by `main!` with this signature.
    unsafe { pleat_guest_main(start_info::parameters()) };
    hypercall::finish(0)
}

/// x87, SSE and AVX, as far as the processor has them.
fn enable_extended_state() {
    let features = cpu::cpuid(1, 0).ecx;
    if features & cpu::ECX_XSAVE == 0 {
        return;
    }
    cpu::write_cr4(cpu::read_cr4() | cpu::CR4_OSXSAVE);
    cpu::write_xcr(0, u64::from(cpu::cpuid(0xd, 0).eax) & 0x7);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("FAILED: {info}");
    hypercall::finish(1)
}
