//! The processor that a guest sees: CPUID, MSRs, control registers, instructions that must fault, and
//! port space. What only Pleat promises is checked on Pleat only; the rest holds on every processor.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod control;
mod debug;
mod instructions;
mod leaves;
mod msrs;
mod ports;

use pleat_guest::parameters::Parameters;
use pleat_guest::trap::{self, GENERAL_PROTECTION};
use pleat_guest::{check, hypercall, memory, println};

pleat_guest::main!(run);

/// Fails unless the operation ends in this exception.
fn expect_fault(what: &str, vector: u8, operation: impl FnOnce()) {
    match trap::catch_fault(operation) {
        Err(fault) => check!(
            fault.vector == vector,
            "{what}: exception {}, not {vector}",
            fault.vector
        ),
        Ok(()) => check!(false, "{what}: no exception, expected {vector}"),
    }
}

/// Fails unless the operation ends in #GP(0).
fn expect_gp(what: &str, operation: impl FnOnce()) {
    expect_fault(what, GENERAL_PROTECTION, operation);
}

/// Fails when the operation ends in an exception.
fn expect_no_fault<T>(what: &str, operation: impl FnOnce() -> T) -> T {
    match trap::catch_fault(operation) {
        Ok(value) => value,
        Err(fault) => {
            println!(
                "FAILED: {what}: exception {} error {:#x}",
                fault.vector, fault.error
            );
            hypercall::finish(1)
        }
    }
}

fn run(_: Parameters<'_>) {
    hypercall::event("up");
    leaves::check_all();
    msrs::check_all();
    control::check_all();
    let mut pages = memory::take_all();
    instructions::check_all(&mut pages);
    debug::check_all(pages.page(0));
    ports::check_all();
    println!("CPUID, MSRs, control registers, instructions and ports are as they should be");
    hypercall::event("work-ok");
}
