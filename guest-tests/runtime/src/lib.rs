//! A tiny library for test kernels: freestanding programs that run as Pleat's guests and check from
//! inside what a guest may rely on.
//!
//! A kernel is a safe Rust program: it names its main function with [`main!`], reads its parameters from
//! the command line, and ends with [`finish`](hypercall::finish) or by panicking (which is a failure).
//! What needs `unsafe` lives here. The boot code accepts the PVH boot protocol, so that kernels
//! can be developed under `qemu-system-x86_64 -kernel` too; [`hypercall`] has stand-ins for that.
//! The first 4 GiB are mapped, linear addresses equal physical ones.
#![cfg_attr(not(test), no_std)]

#[cfg(not(test))]
mod builtins;

pub mod contents;
pub mod parameters;
pub mod random;
pub mod regions;

#[cfg(not(test))]
pub mod apic;
#[cfg(not(test))]
mod bare;
#[cfg(not(test))]
pub mod console;
#[cfg(not(test))]
pub mod cpu;
#[cfg(not(test))]
pub mod extended;
#[cfg(not(test))]
pub mod hypercall;
#[cfg(not(test))]
pub mod interrupts;
#[cfg(not(test))]
pub mod memory;
#[cfg(not(test))]
pub mod modes;
#[cfg(not(test))]
pub mod pci;
#[cfg(not(test))]
mod start;
#[cfg(not(test))]
pub mod start_info;
#[cfg(not(test))]
pub mod step;
#[cfg(not(test))]
pub mod store;
#[cfg(not(test))]
pub mod table;
#[cfg(not(test))]
pub mod timing;
#[cfg(not(test))]
pub mod trap;
#[cfg(not(test))]
pub mod virtio;
#[cfg(not(test))]
pub mod window;

/// Names the function that a kernel starts with: `fn(Parameters<'static>)`. When it returns, the guest
/// has succeeded.
#[macro_export]
macro_rules! main {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn pleat_guest_main(parameters: $crate::parameters::Parameters<'static>) {
            $main(parameters)
        }
    };
}

/// Stops the guest as failed unless the condition holds; the reason is printed.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            $crate::println!("FAILED: {}", core::format_args!($($reason)+));
            $crate::hypercall::finish(1);
        }
    };
}
