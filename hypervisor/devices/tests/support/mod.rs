//! A guest that does what some bytes say, to all devices of its board: for tests, and for the fuzz target.
// Each program that this is part of uses some of it.
#![allow(dead_code)]

#[path = "../../src/virtio/testing/driver.rs"]
mod driver;
#[path = "../../src/virtio/testing/fake_hands.rs"]
mod fake_hands;
#[path = "../../src/virtio/testing/guest_queue.rs"]
mod guest_queue;

mod guest;
mod operations;
mod watched;

use driver::{Driver, NO_VECTOR, VERSION_1, config, input, output, set_config};
use fake_hands::FakeHands;
pub use guest::{Reached, drive};
use guest_queue::{GuestQueue, RawDescriptor};
