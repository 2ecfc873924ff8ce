//! What each processor has of its own, behind one accessor.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::trace::Ring;

/// The state of one processor.
pub struct Processor {
    /// Address of the VMCS that is current here; [`NONE`] for none.
    current_vmcs: AtomicU64,
    /// Address of the state frame of the virtual processor whose extended state is in the registers.
    loaded_state: AtomicU64,
    /// What happened here last.
    pub trace: Ring,
}

/// Nothing has this address.
const NONE: u64 = u64::MAX;

/// The processor that booted; others have theirs beside it once they are started.
static BOOT_PROCESSOR: Processor = Processor {
    current_vmcs: AtomicU64::new(NONE),
    loaded_state: AtomicU64::new(NONE),
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

    /// The registers hold the extended state that belongs to this frame.
    #[inline]
    pub fn has_loaded(&self, state: u64) -> bool {
        self.loaded_state.load(Ordering::Relaxed) == state
    }

    /// The frame that the extended state in the registers belongs to, if there is one.
    pub fn loaded_state(&self) -> Option<u64> {
        Some(self.loaded_state.load(Ordering::Relaxed)).filter(|state| *state != NONE)
    }

    /// Notes whose extended state is in the registers now.
    pub fn set_loaded(&self, state: u64) {
        self.loaded_state.store(state, Ordering::Relaxed);
    }

    /// Notes that a virtual processor with this VMCS and this state frame has ended.
    pub fn forget(&self, vmcs: u64, state: u64) {
        for (slot, ended) in [(&self.current_vmcs, vmcs), (&self.loaded_state, state)] {
            let _ = slot.compare_exchange(ended, NONE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
