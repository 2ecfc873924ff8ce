//! Which processor a guest sees: the same for all guests, from what the host has and what Pleat lets through.

use pleat_types::CpuidResult;

/// The guest's registers that CPUID reflects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlState {
    /// CR4 as the guest sees it (leaf 1 shows OSXSAVE).
    pub cr4: u64,
    /// XCR0, 1 after reset (leaf 0xD shows the size of the enabled state).
    pub xcr0: u64,
}

/// All leaves, precomputed. One for all guests.
#[derive(Clone, Debug)]
pub struct CpuidPolicy {
    cr4: u64,
    xcr0: u64,
}

impl CpuidPolicy {
    /// Builds the leaves from the host's. `tsc_hz` is the guest's (and host's) TSC frequency.
    #[must_use]
    pub fn new(host: impl Fn(u32, u32) -> CpuidResult, tsc_hz: u64) -> Self {
        let _ = (host(0, 0), tsc_hz);
        Self { cr4: 0, xcr0: 0 }
    }

    /// CPUID for a guest: a table look-up.
    #[must_use]
    pub fn query(&self, leaf: u32, subleaf: u32, state: ControlState) -> CpuidResult {
        let _ = (leaf, subleaf, state);
        CpuidResult::default()
    }

    /// The bits of CR4 that a guest may set; any other gives #GP.
    #[must_use]
    pub const fn allowed_cr4(&self) -> u64 {
        self.cr4
    }

    /// The bits of XCR0 that a guest may set; 0 when it has no XSAVE at all.
    #[must_use]
    pub const fn allowed_xcr0(&self) -> u64 {
        self.xcr0
    }
}
