//! Drivers for virtio devices (virtio 1.2) on PCI: the transport, split queues, and what each kind of device wants.
//!
//! They are small and obedient. A kernel that wants to be something else has all parts in its hands: the
//! registers, the addresses of the rings, and chains of any shape.

pub mod balloon;
pub mod block;
pub mod console;
pub mod entropy;
pub mod mem;
pub mod msix;
pub mod queue;
pub mod transport;

pub use queue::{Piece, Queue, Used};
pub use transport::{Interrupts, Transport};
