//! Registers that no hardware carries from a VM exit to the next entry, or from one guest to the next,
//! hold what this guest put there: x87, XMM, YMM, MXCSR, general-purpose, debug, CR2, CR8, XCR0 and the
//! MSRs of system calls and segment bases. Several guests with different seeds run it at once.
//!
//! Parameters: `seed` (1), `rounds` (50), `spin` (iterations of the running loop, 200000), `avx` (`on`,
//! or `off`: XCR0 has x87 and SSE only, so that guests differ in XCR0 too).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::extended::{self, Across, Registers};
use pleat_guest::parameters::Parameters;
use pleat_guest::random::{Random, mix};
use pleat_guest::{apic, check, cpu, hypercall, println};

pleat_guest::main!(run);

const X87_AND_SSE: u64 = 3;
const IA32_PAT: u32 = 0x277;
/// MSRs that hold linear addresses: FS.base, KERNEL_GS_BASE, LSTAR, CSTAR, SYSENTER_ESP, SYSENTER_EIP.
const ADDRESS_MSRS: [u32; 6] = [0xc000_0100, 0xc000_0102, 0xc000_0082, 0xc000_0083, 0x175, 0x176];
const IA32_STAR: u32 = 0xc000_0081;
const IA32_FMASK: u32 = 0xc000_0084;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_GS_BASE: u32 = 0xc000_0101;
/// Canonical for 48-bit linear addresses.
const CANONICAL: u64 = 0x7fff_ffff_ffff;

/// All the state that is set by single instructions, as numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct System {
    msrs: [u64; 11],
    debug: [u64; 6],
    cr2: u64,
    cr8: u64,
    xcr0: u64,
}

const MSRS: [u32; 11] = [
    ADDRESS_MSRS[0],
    ADDRESS_MSRS[1],
    ADDRESS_MSRS[2],
    ADDRESS_MSRS[3],
    ADDRESS_MSRS[4],
    ADDRESS_MSRS[5],
    IA32_STAR,
    IA32_FMASK,
    IA32_SYSENTER_CS,
    IA32_GS_BASE,
    IA32_PAT,
];

impl System {
    fn seeded(random: &mut Random, xcr0: u64) -> Self {
        let mut msrs: [u64; 11] = core::array::from_fn(|_| random.next_u64() & CANONICAL);
        msrs[7] &= 0xffff_ffff;
        msrs[8] &= 0xffff;
        // PAT: any of the types 0, 1, 4, 5, 6, 7 in each byte; entry 0 stays write-back.
        let types = [0, 1, 4, 5, 6, 7];
        msrs[10] = (1..8).fold(6, |pat, byte| pat | types[random.below(6)] << (byte * 8));
        let debug = core::array::from_fn(|_| random.next_u64() & CANONICAL | 1 << 40);
        let mut debug: [u64; 6] = debug;
        // DR6 and DR7 have fixed bits (SDM figure 18-1). Execution breakpoints may be switched on: nothing
        // runs at these addresses, above all memory.
        debug[4] = 0xffff_0ff0 | (random.next_u64() & 0xf);
        debug[5] = 0x400 | (random.next_u64() & 0x55);
        Self {
            msrs,
            debug,
            cr2: random.next_u64() & CANONICAL,
            cr8: 1 + random.next_u64() % 12,
            xcr0,
        }
    }

    fn load(&self) {
        for (index, value) in MSRS.into_iter().zip(self.msrs) {
            cpu::write_msr(index, value);
        }
        cpu::write_dr0(self.debug[0]);
        cpu::write_dr1(self.debug[1]);
        cpu::write_dr2(self.debug[2]);
        cpu::write_dr3(self.debug[3]);
        cpu::write_dr6(self.debug[4]);
        cpu::write_dr7(self.debug[5]);
        cpu::write_cr2(self.cr2);
        cpu::write_cr8(self.cr8);
    }

    fn read() -> Self {
        let has_xsave = cpu::cpuid(1, 0).ecx & cpu::ECX_OSXSAVE != 0;
        Self {
            msrs: MSRS.map(cpu::read_msr),
            debug: [
                cpu::read_dr0(),
                cpu::read_dr1(),
                cpu::read_dr2(),
                cpu::read_dr3(),
                cpu::read_dr6(),
                cpu::read_dr7(),
            ],
            cr2: cpu::read_cr2(),
            cr8: cpu::read_cr8(),
            xcr0: if has_xsave { cpu::read_xcr0() } else { 0 },
        }
    }

    fn expect(&self, across: Across) {
        let seen = Self::read();
        for ((index, mine), found) in MSRS.into_iter().zip(self.msrs).zip(seen.msrs) {
            check!(
                mine == found,
                "MSR {index:#x} held {mine:#x}, after {across:?} {found:#x}"
            );
        }
        for (place, (mine, found)) in self.debug.into_iter().zip(seen.debug).enumerate() {
            let number = if place < 4 { place } else { place + 2 };
            check!(
                mine == found,
                "DR{number} held {mine:#x}, after {across:?} {found:#x}"
            );
        }
        check!(
            self.cr2 == seen.cr2,
            "CR2 held {:#x}, after {across:?} {:#x}",
            self.cr2,
            seen.cr2
        );
        check!(
            self.cr8 == seen.cr8,
            "CR8 held {:#x}, after {across:?} {:#x}",
            self.cr8,
            seen.cr8
        );
        check!(
            self.xcr0 == seen.xcr0,
            "XCR0 held {:#x}, after {across:?} {:#x}",
            self.xcr0,
            seen.xcr0
        );
    }
}

fn choose_xcr0(parameters: Parameters<'_>) -> u64 {
    if cpu::cpuid(1, 0).ecx & cpu::ECX_OSXSAVE == 0 {
        return 0;
    }
    if parameters.text("avx") == Some("off") {
        cpu::write_xcr(0, X87_AND_SSE);
    }
    cpu::read_xcr0()
}

fn hold_once(random: &mut Random, across: Across, spin: u64, xcr0: u64) {
    let registers = Registers::seeded(random);
    let system = System::seeded(random, xcr0);
    system.load();
    if across == Across::Sleep {
        cpu::write_msr(apic::LVT_TIMER, apic::DEADLINE | u64::from(apic::SLEEP_VECTOR));
        cpu::write_msr(apic::TSC_DEADLINE, cpu::tsc() + apic::ticks(200));
    }
    let count = if across == Across::Run {
        spin
    } else {
        1 + random.next_u64() % 4
    };
    let seen = registers.hold(across, count);
    system.expect(across);
    if let Some((what, number, mine, found)) = registers.difference(&seen) {
        check!(
            false,
            "{what}{number} held {mine:#018x}, after {across:?} {found:#018x}"
        );
    }
}

fn run(parameters: Parameters<'_>) {
    let mut random = Random::new(mix(parameters.number("seed", 1)));
    let spin = parameters.number("spin", 200_000);
    let xcr0 = choose_xcr0(parameters);
    hypercall::event("up");
    println!(
        "XCR0 is {xcr0:#x}, AVX is {}",
        if extended::has_avx() { "on" } else { "off" }
    );
    for _ in 0..parameters.number("rounds", 50) {
        for across in [Across::Run, Across::Cpuid, Across::Sleep, Across::Vmcall] {
            let is_possible = match across {
                Across::Sleep => apic::is_usable(),
                Across::Vmcall => hypercall::is_on_pleat(),
                Across::Run | Across::Cpuid => true,
            };
            if is_possible {
                hold_once(&mut random, across, spin, xcr0);
            }
        }
    }
    cpu::write_cr8(0);
    hypercall::event("work-ok");
}
