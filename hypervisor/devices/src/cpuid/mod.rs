//! Which processor a guest sees: the same for all guests, from what the host has and what Pleat lets through.
//!
//! All leaves are built once; a query is a look-up. Leaves that do not exist read 0 (a real processor would
//! answer with its highest basic leaf, which helps nobody).
//!
//! Leaf 0x15 gives the TSC's frequency as crystal times EBX, EAX = 1. The product is the frequency exactly
//! wherever it has a divisor that makes a crystal of 1 to 25 MHz, preferably a whole number of kHz, in which
//! Linux computes. Otherwise (a frequency that was measured, not set) the crystal is rounded down, and the
//! guest believes in a TSC that is slower by less than EBX Hz. The local APIC timer ticks once in EBX TSC
//! ticks in any case.

mod build;
mod features;

use pleat_types::CpuidResult;

use build::{CACHES, HYPERVISOR, HostFeatures};
use features::{CR4_OSXSAVE, OSXSAVE, XCR0_AVX, XSAVE};

/// Leaves 0 to 0x16.
const BASIC: usize = 0x17;
/// Leaves 0x8000_0000 to 0x8000_0008.
const EXTENDED: usize = 9;

/// The guest's registers that CPUID reflects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlState {
    /// CR4 as the guest sees it (leaf 1 shows OSXSAVE).
    pub cr4: u64,
    /// XCR0, 1 after reset (leaf 0xD shows the size of the enabled state).
    pub xcr0: u64,
}

/// Leaf 0xD; all zero where guests have no XSAVE.
#[derive(Clone, Copy, Debug, Default)]
struct XsaveLeaves {
    /// The bits that XCR0 may have.
    components: u32,
    base_bytes: u32,
    avx_bytes: u32,
    /// Subleaf 1: XSAVEOPT and nothing else.
    instructions: u32,
    /// Subleaf 2.
    avx: CpuidResult,
}

impl XsaveLeaves {
    const fn bytes(&self, xcr0: u32) -> u32 {
        if xcr0 & self.components & XCR0_AVX != 0 {
            self.avx_bytes
        } else {
            self.base_bytes
        }
    }

    fn query(&self, subleaf: u32, xcr0: u64) -> CpuidResult {
        let xcr0 = u32::try_from(xcr0 & 0xffff_ffff).unwrap_or(0);
        match subleaf {
            0 => CpuidResult {
                eax: self.components,
                ebx: self.bytes(xcr0),
                ecx: self.bytes(self.components),
                edx: 0,
            },
            1 => CpuidResult {
                eax: self.instructions,
                ..CpuidResult::default()
            },
            2 => self.avx,
            _ => CpuidResult::default(),
        }
    }
}

/// All leaves, precomputed. One for all guests.
#[derive(Clone, Debug)]
pub struct CpuidPolicy {
    basic: [CpuidResult; BASIC],
    extended: [CpuidResult; EXTENDED],
    xsave: XsaveLeaves,
}

impl CpuidPolicy {
    /// Builds the leaves from the host's. `tsc_hz` is the guest's (and host's) TSC frequency.
    #[must_use]
    pub fn new(host: impl Fn(u32, u32) -> CpuidResult, tsc_hz: u64) -> Self {
        let features = HostFeatures::read(host);
        Self {
            basic: features.basic(tsc_hz),
            extended: features.extended(),
            xsave: features.xsave,
        }
    }

    /// CPUID for a guest: a table look-up.
    #[must_use]
    #[inline]
    pub fn query(&self, leaf: u32, subleaf: u32, state: ControlState) -> CpuidResult {
        match leaf {
            1 => {
                let mut result = self.basic[1];
                if result.ecx & XSAVE != 0 && state.cr4 & CR4_OSXSAVE != 0 {
                    result.ecx |= OSXSAVE;
                }
                result
            }
            4 => CACHES.get(subleaf as usize).copied().unwrap_or_default(),
            7 if subleaf != 0 => CpuidResult::default(),
            0xb => topology(subleaf),
            0xd => self.xsave.query(subleaf, state.xcr0),
            0..=0x16 => self.basic[leaf as usize],
            0x4000_0000..=0x4000_0001 => HYPERVISOR[(leaf & 1) as usize],
            0x8000_0000..=0x8000_0008 => self.extended[(leaf & 0xf) as usize],
            _ => CpuidResult::default(),
        }
    }

    /// The bits of XCR0 that a guest may set; 0 when it has no XSAVE at all.
    #[must_use]
    pub const fn allowed_xcr0(&self) -> u64 {
        self.xsave.components as u64
    }
}

/// Leaf 0xB: one thread (level type 1) in one core (type 2), x2APIC ID 0.
const fn topology(subleaf: u32) -> CpuidResult {
    let kind = match subleaf {
        0 => 1,
        1 => 2,
        _ => 0,
    };
    CpuidResult {
        eax: 0,
        ebx: if kind == 0 { 0 } else { 1 },
        ecx: (subleaf & 0xff) | kind << 8,
        edx: 0,
    }
}

#[cfg(test)]
mod tests;
