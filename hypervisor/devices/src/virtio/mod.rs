//! Virtio devices (virtio 1.2) on the guest's PCI bus: split virtqueues, one I/O BAR for each, no legacy interface.
//!
//! ```text
//!   guest driver -- port I/O --> transport   registers, features, queues' addresses, interrupts
//!                                  |  serve(queue)
//!                                  v
//!                               Device       what this kind does with a chain of buffers
//!                                  |  Hands
//!                                  v
//!                                owner       guest memory, pages, disk, console
//! ```
//!
//! Everything in guest memory is a claim: it is copied out once, checked, and every loop over it is bounded. A guest
//! that breaks the rules gets `DEVICE_NEEDS_RESET` (2.1.2) from that device and harms nobody else.

mod balloon;
mod block;
mod console;
mod device;
mod entropy;
mod hands;
mod mem;
mod msix;
mod queue;
mod registers;
mod set;
mod span;
// Each of the test binaries that it is part of uses some of it.
#[cfg(test)]
#[allow(dead_code)]
pub(crate) mod testing;
mod transport;

pub use balloon::{Balloon, BalloonSetup, BalloonStatistics, Observation, Pace, Progress};
pub use block::Block;
pub use console::{Console, PortClosed};
pub use device::{Device, Step, Trouble};
pub use entropy::Entropy;
pub use hands::{Denied, Hands, Plugged, Unwritten};
pub use mem::{Mem, MemSetup};
pub(crate) use msix::deliver;
pub use queue::{Buffer, Chain, Direction, QUEUE_SIZE_MAX, Queue};
pub(crate) use set::{BALLOON, CONSOLE, MEM, NAMES, VirtioSet};
pub use set::{DeviceSet, FunctionView};
pub(crate) use transport::NOTIFY;
pub use transport::Served;
