//! Looking at a page of a guest from outside.

use crate::memory::MemoryError;
use crate::run::Hypervisor;
use pleat_types::{FRAME_SIZE, Gfn, Platform};

/// How often, and after how many microseconds each time, it is looked whether a page that is peeked at has come.
const PEEK_POLLS: u32 = 1000;
const PEEK_POLL_US: u64 = 1000;

impl<P: Platform> Hypervisor<P> {
    /// What a guest's page has, wherever that is, without anything of it changing: for debuggers and tests. Waits for a
    /// disk. `false`, and zeros, where there is nothing, or nothing can be had.
    pub fn peek(&mut self, guest: usize, gfn: Gfn, out: &mut [u8; FRAME_SIZE]) -> bool {
        for _ in 0..PEEK_POLLS {
            let Some(slot) = self.slots.get_mut(guest) else {
                break;
            };
            let memory = &mut slot.guest.memory;
            match self.host.copy_out(memory, gfn.base(), out) {
                Ok(()) => return true,
                Err(MemoryError::Away) => {}
                Err(_) => break,
            }
            memory.want_nothing();
            if self.host.want_page(memory, gfn).is_err() {
                break;
            }
            self.host.serve_disk();
            let soon = self.host.platform.now().after(self.host.micros(PEEK_POLL_US));
            self.host.platform.idle(soon);
        }
        out.fill(0);
        false
    }
}
