//! The page-modification log (SDM vol. 3, 29.3.6): which pages a guest has written, without asking the tables.
//!
//! Whenever the processor sets the dirty flag of a page in the extended page tables it writes the page's
//! address to the log, from entry 511 down to 0. Once the log is full it exits before each access that would
//! set an accessed or dirty flag, and does so again and again as long as nobody empties the log: the guest
//! gets no further, but the exits let its time run out, and so nobody else waits for it.
//!
//! The log is memory that only the processor writes, and only while the guest runs.

use pleat_types::{Gfn, Gpa, Hpa};
use x86::vmx::vmcs::control::SecondaryControls;

use super::capability::Capabilities;
use super::vmcs::{CurrentVmcs, field};

/// Entries of a log.
const ENTRIES: u16 = 512;
/// The index of an empty log: the entry that is written first.
const EMPTY: u16 = ENTRIES - 1;

/// This processor has such logs, and they are in use.
pub fn is_available(capabilities: &Capabilities) -> bool {
    capabilities.secondary & SecondaryControls::ENABLE_PML.bits() != 0
}

/// The log of one virtual processor, in a frame of its own.
pub struct DirtyLog(Hpa);

impl DirtyLog {
    /// Gives a virtual processor an empty log.
    ///
    /// # Safety
    /// The frame is the log's own as long as the VMCS is in use, and is mapped at its address.
    pub unsafe fn start(vmcs: CurrentVmcs<'_>, frame: Hpa) -> Self {
        // SAFETY: the caller vouches for the frame.
        unsafe { (frame.get() as *mut [u64; ENTRIES as usize]).write_bytes(0, 1) };
        vmcs.write(field::DIRTY_LOG, frame.get());
        vmcs.write(field::DIRTY_LOG_INDEX, EMPTY);
        Self(frame)
    }

    /// Reports what is in the log, the first page first, and empties it.
    pub fn take(&self, vmcs: CurrentVmcs<'_>, mut report: impl FnMut(Gfn)) {
        let index = vmcs.read(field::DIRTY_LOG_INDEX);
        if index == EMPTY {
            return;
        }
        for entry in logged(index).rev() {
            // SAFETY: within the log's own frame, and the guest does not run.
            let address = unsafe {
                (self.0.get() as *const u64)
                    .add(usize::from(entry))
                    .read_volatile()
            };
            report(Gpa::new(address).gfn());
        }
        vmcs.write(field::DIRTY_LOG_INDEX, EMPTY);
    }
}

/// The entries that are written when the index is this one; that of a full log is 0xffff.
fn logged(index: u16) -> core::ops::Range<u16> {
    index.wrapping_add(1)..ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_above_the_index_are_written() {
        assert_eq!(logged(EMPTY).len(), 0);
        assert_eq!(logged(510), 511..512);
        assert_eq!(logged(0), 1..512);
        assert_eq!(logged(0xffff), 0..512);
    }
}
