//! The vocabulary of Pleat: addresses, exits, register access, hypercalls and records.
//!
//! Every other crate depends on this one and it depends on none of them. The two traits that let
//! `vmm` (which decides) and `machine` (which does) work together without naming each other live
//! here: [`Platform`] is the board, [`Vcpu`] is one virtual processor on it.
#![no_std]
#![forbid(unsafe_code)]

mod addr;
mod cpu;
mod disk;
mod exit;
mod frame;
pub mod hypercall;
mod platform;
pub mod stats;
mod swap;

pub use addr::{FRAME_SIZE, Gfn, Gpa, GuestId, Gva, Hfn, Hpa, LARGE_FRAMES};
pub use cpu::{Event, Gpr, Injection, Registers, Segment, SegmentName, Vcpu};
pub use disk::{DISK_RUN, DiskDirection, DiskFailure, DiskInfo, DiskKind, DiskRequest};
pub use exit::{Access, CrAccess, EptViolation, Exit, PortAccess, PortSize};
pub use frame::{FrozenFrame, OwnedFrame, PageSize, Share};
pub use platform::{CpuidResult, FrameMemory, LINE, Platform, Provocation, Tsc};
pub use swap::{SlotReference, SwapSlot};
