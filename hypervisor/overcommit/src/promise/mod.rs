//! What guests are entitled to, and how they are asked for memory when there is too little of it.
//!
//! Pure policy: nothing here changes a mapping or tells a guest anything.

mod host_state;

pub use host_state::{HostState, Thresholds};
