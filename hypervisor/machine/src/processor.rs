//! What each processor has of its own, behind one accessor.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::trace::Ring;

/// The state of one processor.
pub struct Processor {
    /// Address of the VMCS that is current here; [`NO_VMCS`] for none.
    current_vmcs: AtomicU64,
    /// What happened here last.
    pub trace: Ring,
}

/// No VMCS has this address.
const NO_VMCS: u64 = u64::MAX;

/// The processor that booted; others have theirs beside it once they are started.
static BOOT_PROCESSOR: Processor = Processor {
    current_vmcs: AtomicU64::new(NO_VMCS),
    trace: Ring::new(),
};

/// The state of the processor that runs this.
#[inline]
pub fn this() -> &'static Processor {
    &BOOT_PROCESSOR
}

impl Processor {
    /// The VMCS at this address is current here.
    #[inline]
    pub fn has_current(&self, vmcs: u64) -> bool {
        self.current_vmcs.load(Ordering::Relaxed) == vmcs
    }

    /// Notes which VMCS VMPTRLD has just made current.
    pub fn set_current(&self, vmcs: u64) {
        self.current_vmcs.store(vmcs, Ordering::Relaxed);
    }

    /// Notes that this VMCS was cleared.
    pub fn forget(&self, vmcs: u64) {
        let _ = self
            .current_vmcs
            .compare_exchange(vmcs, NO_VMCS, Ordering::Relaxed, Ordering::Relaxed);
    }
}
