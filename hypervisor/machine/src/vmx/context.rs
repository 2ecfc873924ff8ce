//! What a virtual processor is besides its VMCS: its registers on the exit path, and whose it is.

use pleat_types::GuestId;

/// The guest's registers that world_switch.s saves and restores.
#[repr(C, align(16))]
pub struct Context {
    /// By [`Gpr`] number; RSP is in the VMCS.
    pub gprs: [u64; 16],
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// The guest's MXCSR.
    pub mxcsr: u32,
    /// Pleat's MXCSR while the guest runs.
    pub host_mxcsr: u32,
}

/// Which guest, and by which tables it sees memory.
#[derive(Clone, Copy)]
pub struct Identity {
    /// The guest.
    pub guest: GuestId,
    /// Its EPT pointer.
    pub eptp: u64,
}

impl Identity {
    /// Tags the guest's translations; 0 is the host's.
    pub fn vpid(self) -> u16 {
        self.guest.0 + 1
    }
}
