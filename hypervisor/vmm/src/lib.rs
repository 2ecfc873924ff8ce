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
//! one is given back. When no guest can run and one waits for memory, nothing will give one back any more;
//! then, of those that wait for memory, the guest with the lowest weight (the last one among equals) is
//! stopped with a report that says so, and the others go on with its frames.
#![no_std]
#![forbid(unsafe_code)]

mod audit;
mod boot;
mod console;
mod cpu;
mod exits;
mod frames;
mod guest;
mod host;
mod hypercalls;
mod images;
mod life;
mod loader;
mod memory;
mod output;
mod run;
mod scheduler;
mod script;
mod statistics;
mod stop;
mod stream;

pub use boot::{BootContext, StartError, Storage};
pub use frames::BootRegion;
pub use run::{Hypervisor, Outcome};
