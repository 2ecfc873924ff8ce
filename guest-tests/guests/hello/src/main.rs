//! The smallest kernel: it boots, says so, and ends.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pleat_guest::parameters::Parameters;
use pleat_guest::{hypercall, memory, println};

pleat_guest::main!(run);

fn run(_: Parameters<'_>) {
    println!("hello from a guest with RAM up to {:#x}", memory::ram_end());
    hypercall::event("up");
}
