//! The other side of a virtio device, for tests: an owner whose guest is some bytes, and a driver's queues in them.
//!
//! The files below name this crate as its users do, so that the tests outside of it and the fuzz target are built
//! from the same text.

mod driver;
mod fake_hands;
mod grudging;
mod guest_queue;

pub(crate) use driver::{Driver, NO_VECTOR, VERSION_1, config, input, output, set_config};
pub(crate) use fake_hands::{DISCARDED, FakeHands, Short};
pub(crate) use grudging::Grudging;
pub(crate) use guest_queue::{GuestQueue, RawDescriptor};

use super::Queue;

impl GuestQueue {
    /// The device's side of it, as the transport makes it when the driver enables a queue of this size.
    pub(crate) fn enabled(&self) -> Queue {
        let mut queue = Queue::new(self.size, u16::MAX);
        queue.is_enabled = true;
        queue.descriptors = self.descriptors;
        queue.available = self.available;
        queue.used = self.used;
        queue
    }
}
