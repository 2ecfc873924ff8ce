//! What kinds of virtio devices have in their own way.

use super::hands::{Denied, Hands};
use super::queue::Queue;

/// What a device has left to do with a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// Nothing, until the guest notifies it again.
    Done,
    /// More of the same: what one call may take is used up.
    More,
}

/// Why a device cannot go on with a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The guest broke the rules, in this way: the device needs a reset.
    Guest(&'static str),
    /// No host frame is free, or a page is away. The chain is still there; the same call later goes on.
    HostShort,
}

impl From<Denied> for Trouble {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NoRam => Self::Guest("an address without RAM"),
            Denied::HostShort => Self::HostShort,
        }
    }
}

/// A kind of virtio device. Its transport has the registers, features and queues.
pub trait Device {
    /// Its device ID (virtio 1.2, chapter 5).
    const ID: u16;
    /// The largest size of each of its queues, a power of two: as many queues as the guest sees with the most features.
    const QUEUE_SIZES: &'static [u16];

    /// The features it offers, beside `VIRTIO_F_VERSION_1`.
    fn offered(&self) -> u64;
    /// How many queues the guest sees (a device without an optional feature may have less).
    fn queues(&self) -> usize {
        Self::QUEUE_SIZES.len()
    }
    /// The guest has accepted these features; queues come after this.
    fn negotiated(&mut self, features: u64);
    /// The guest resets it: as it was before [`Device::negotiated`].
    fn reset(&mut self);
    /// A byte of its configuration space; 0 beyond its end.
    fn config(&self, at: usize) -> u8;
    /// The guest writes a byte there.
    fn write_config(&mut self, at: usize, byte: u8) {
        let _ = (at, byte);
    }
    /// Works on a queue: a bounded part of what is there.
    ///
    /// # Errors
    /// After one of them the queue is as if the last chain had not been looked at.
    fn serve<H: Hands>(&mut self, index: usize, queue: &mut Queue, hands: &mut H) -> Result<Step, Trouble>;
    /// Queues, as bits, that have something to do without having been notified, because of what happened to another;
    /// asking clears them.
    fn take_wishes(&mut self) -> u32 {
        0
    }
}
