//! The processor and the board. The only crate of the hypervisor that says `unsafe`.
//!
//! What it offers is [`Board`], which implements `pleat_types::Platform`, and [`Boot`], which says what
//! was found at start-up. Both go to the function that `image` names with [`entry!`].
//!
//! Locks: the console's and nothing else. It is taken with interrupts off, or by the interrupt that serves it,
//! and no other lock is taken inside.
#![cfg_attr(not(test), no_std)] // host tests of what needs no processor
#![cfg_attr(test, allow(dead_code))] // whose start-up they leave out

mod board;
mod boot;
mod clock;
mod cpu;
mod crash;
mod entropy;
mod frames;
mod heap;
mod interrupts;
mod log_sink;
mod paging;
mod power;
mod processor;
mod provoke;
mod serial;
mod trace;
mod traps;
mod vmx;

#[cfg(not(test))] // a test has a C library
use pleat_freestanding as _;

pub use board::Board;
pub use boot::{Boot, MemoryMap};
pub use crash::on_panic;
pub use frames::{FrameRange, Frames};
pub use heap::BootHeap;
pub use power::{Ending, power_off};
pub use vmx::VirtualProcessor;

/// Names the program's main function, of type `fn(Board, Boot) -> !`, and makes a panic of the program end in a
/// crash record.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn pleat_main(board: $crate::Board, boot: $crate::Boot) -> ! {
            $main(board, boot)
        }

        #[panic_handler]
        fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::on_panic(info)
        }
    };
}
