//! The registers that a hypervisor must carry from exit to entry by software: x87, SSE, AVX and the
//! general-purpose ones. They are loaded with seeded values, held across an exit, and read back.

use crate::cpu;
use crate::random::Random;

core::arch::global_asm!(include_str!("hold.s"));

unsafe extern "C" {
    fn pleat_hold(set: *const Registers, seen: *mut Registers, how: u64, count: u64, has_avx: u64);
}

const X87_CONTROL_DEFAULT: u64 = 0x37f;
const X87_ALL_IN_USE: u64 = 0xff;
const MXCSR_DEFAULT: u64 = 0x1f80;
const XCR0_AVX: u64 = 1 << 2;
/// Words of the FXSAVE area: control words, MXCSR, ST0 and XMM0.
const MXCSR_WORD: usize = 3;
const ST0_WORD: usize = 4;
const XMM0_WORD: usize = 20;

/// A set of values.
#[repr(C, align(64))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    fxsave: [u64; 64],
    ymm: [[u64; 4]; 16],
    gprs: [u64; 9],
}

/// What happens while the registers are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Across {
    /// A loop, in which the time slice may end.
    Run = 0,
    /// CPUID.
    Cpuid = 1,
    /// STI and HLT, until an interrupt that the caller has arranged.
    Sleep = 2,
    /// The null hypercall; only on Pleat.
    Vmcall = 3,
}

impl Registers {
    /// Values that the processor takes as they are: any bits in XMM, YMM and ST registers, all exceptions
    /// masked, seeded rounding.
    #[must_use]
    pub fn seeded(random: &mut Random) -> Self {
        let mut set = Self {
            fxsave: [0; 64],
            ymm: [[0; 4]; 16],
            gprs: [0; 9],
        };
        let rounding = random.next_u64() & 3;
        set.fxsave[0] = X87_CONTROL_DEFAULT | rounding << 10 | X87_ALL_IN_USE << 32;
        set.fxsave[MXCSR_WORD] = MXCSR_DEFAULT | rounding << 13 | (random.next_u64() & 1) << 15;
        for register in 0..8 {
            set.fxsave[ST0_WORD + register * 2] = random.next_u64();
            set.fxsave[ST0_WORD + register * 2 + 1] = random.next_u64() & 0xffff;
        }
        for (register, value) in set.ymm.iter_mut().enumerate() {
            *value = core::array::from_fn(|_| random.next_u64());
            set.fxsave[XMM0_WORD + register * 2..][..2].copy_from_slice(&value[..2]);
        }
        set.gprs = core::array::from_fn(|_| random.next_u64());
        set
    }

    /// Loads the values, does `across` `count` times (at least once), and returns what the registers
    /// hold then.
    #[must_use]
    pub fn hold(&self, across: Across, count: u64) -> Self {
        let mut seen = self.clone();
        let has_avx = has_avx();
        // SAFETY: both sets have the layout that the routine expects; it restores the callee-saved
        // registers, and x87 and MXCSR to their defaults.
        unsafe {
            pleat_hold(
                self,
                &raw mut seen,
                across as u64,
                count.max(1),
                u64::from(has_avx),
            );
        };
        seen
    }

    /// The name of the first register that differs, and both values (its lowest differing 64 bits).
    #[must_use]
    pub fn difference(&self, seen: &Self) -> Option<(&'static str, usize, u64, u64)> {
        let words = |name, mine: &[u64], other: &[u64], width: usize| {
            let index = mine.iter().zip(other).position(|(a, b)| a != b)?;
            Some((name, index / width, mine[index], other[index]))
        };
        let control = [self.fxsave[0], self.fxsave[MXCSR_WORD] & 0xffff];
        let seen_control = [seen.fxsave[0] & 0xff_ffff_ffff, seen.fxsave[MXCSR_WORD] & 0xffff];
        let part = |set: &Self, start: usize, len: usize| -> [u64; 32] {
            core::array::from_fn(|index| if index < len { set.fxsave[start + index] } else { 0 })
        };
        words("FCW/FSW/FTW, MXCSR", &control, &seen_control, 1)
            .or_else(|| words("ST", &part(self, ST0_WORD, 16), &part(seen, ST0_WORD, 16), 2))
            .or_else(|| words("XMM", &part(self, XMM0_WORD, 32), &part(seen, XMM0_WORD, 32), 2))
            .or_else(|| words("YMM", self.ymm.as_flattened(), seen.ymm.as_flattened(), 4))
            .or_else(|| words("R8 to R15, RBP:", &self.gprs, &seen.gprs, 1))
    }
}

/// AVX is there and switched on.
#[must_use]
pub fn has_avx() -> bool {
    let needed = cpu::ECX_OSXSAVE | cpu::ECX_AVX;
    cpu::cpuid(1, 0).ecx & needed == needed && cpu::read_xcr0() & XCR0_AVX != 0
}
