//! The processor and the board. The only crate of the hypervisor that says `unsafe`.
//!
//! What it offers is [`Board`], which implements `pleat_types::Platform`, and [`Boot`], which says what
//! was found at start-up. Both go to the function that `image` names with [`entry!`]. A program that checks a part of
//! this crate without guests gets a [`Bare`] machine instead ([`bare_entry!`]).
//!
//! Locks: the console's and nothing else. It is taken with interrupts off, or by the interrupt that serves it,
//! and no other lock is taken inside.
#![cfg_attr(not(test), no_std)] // host tests of what needs no processor
#![cfg_attr(test, allow(dead_code))] // whose start-up they leave out

mod bare;
mod board;
mod boot;
mod clock;
mod cpu;
mod crash;
mod disk;
mod entropy;
mod frames;
mod heap;
mod interrupts;
mod log_sink;
mod paging;
mod pci;
mod power;
mod processor;
mod provoke;
mod serial;
mod trace;
mod traps;
mod vmx;

#[cfg(not(test))] // a test has a C library
use pleat_freestanding as _;

pub use bare::Bare;
pub use board::Board;
pub use boot::{Boot, MemoryMap, Start};
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
        fn pleat_program(start: $crate::Start) -> ! {
            let (board, boot) = start.board();
            $main(board, boot)
        }

        #[panic_handler]
        fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::on_panic(info)
        }
    };
}

/// The same for a program that has no guests and so needs no processor with VMX; its main function is of type
/// `fn(Bare) -> !`.
#[macro_export]
macro_rules! bare_entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn pleat_program(start: $crate::Start) -> ! {
            $main(start.bare())
        }

        #[panic_handler]
        fn on_panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::on_panic(info)
        }
    };
}
