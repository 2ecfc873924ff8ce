//! Guests: their life, their exits, their share of the processor, and the console.
//!
//! This crate decides and the machine does: an [exit](pleat_types::Exit) comes up, its outcome goes
//! down. It is generic over the [`Platform`](pleat_types::Platform), so that all of it runs on the host
//! in tests, with virtual processors that follow a script.
//!
//! ```text
//!   run loop (run.rs)  -- script, console, wake-ups, scheduler, release of ended guests
//!     one guest's turn (cpu.rs)  -- enter, apply the outcome, deliver interrupts
//!       exit table (exits.rs)  -- CPUID, ports, MSRs, faults, hypercalls
//!         memory (memory.rs) over stage2 and the ledger;  devices: one board per guest
//! ```
//!
//! What happens when the host runs out of memory: a guest whose fault finds no free frame waits until
//! there are more. It waits as long as another guest runs or will be woken by a timer, for that one may
//! end and free its memory; and for ten seconds at most. Then, of those that wait for memory, the guest
//! with the lowest weight (the last one among equals) is stopped with a report that says so, and the
//! others go on with its frames. Paused guests are no part of this.
#![no_std]
#![forbid(unsafe_code)]

mod audit;
mod boot;
mod console;
mod cooperation;
mod cpu;
mod devices;
mod exits;
mod frames;
mod guest;
mod host;
mod hypercalls;
mod images;
mod life;
mod loader;
mod memory;
mod merge;
mod output;
mod peek;
mod reclaim;
mod run;
mod scheduler;
mod script;
mod shortage;
mod space;
mod statistics;
mod stop;
mod stream;
mod swap;
mod waiting;

pub use boot::{BootContext, StartError, Storage};
pub use frames::BootRegion;
pub use run::{Hypervisor, Outcome};
