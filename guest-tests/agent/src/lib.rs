//! What runs inside a Linux guest of Pleat, beside its applications.
//!
//! The host tells a guest how short of memory it is, over a port of the virtio console. The agent
//! ([`daemon`]) turns these lines into wake-ups for processes that subscribed ([`client`]), so that they can give memory
//! back by themselves before it is taken by force. [`heap`] is such an application: a heap with a garbage collector.
//! The protocol is in `hypervisor/docs/pressure.md`.

#![forbid(unsafe_code)]

pub mod client;
pub mod daemon;
pub mod heap;
pub mod lines;
pub mod log;
pub mod message;
pub mod places;
pub mod subscriber;
pub mod workload;
