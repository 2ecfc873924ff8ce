//! Debug exceptions: single steps, also over an instruction that exits, and breakpoints of both kinds.

use pleat_guest::trap::{self, DEBUG};
use pleat_guest::{check, cpu, memory};

const DR6_DEFAULT: u64 = 0xffff_0ff0;
const DR6_SINGLE_STEP: u64 = 1 << 14;
const DR7_DEFAULT: u64 = 0x400;
/// Breakpoint 0, global; on execution.
const DR7_EXECUTE_0: u64 = DR7_DEFAULT | 2;
/// Breakpoint 1, global; on writes of eight bytes.
const DR7_WRITE_1: u64 = DR7_DEFAULT | 8 | 0b1001 << 20;

pub(crate) fn check_all(page: &mut memory::Page) {
    single_step();
    execution_breakpoint();
    write_breakpoint(page);
}

fn take_dr6() -> u64 {
    let dr6 = cpu::read_dr6();
    cpu::write_dr6(DR6_DEFAULT);
    dr6
}

/// The trap flag traps behind each instruction. A hypervisor that emulates the instruction has to raise
/// the trap itself, or it comes an instruction late.
fn single_step() {
    cpu::write_dr6(DR6_DEFAULT);
    let (fault, expected) = trap::step_over_cpuid();
    let dr6 = take_dr6();
    let place = fault.map(|fault| (fault.vector, fault.rip));
    check!(
        place == Some((DEBUG, expected)),
        "a step over CPUID: {fault:x?}, expected at {expected:#x}"
    );
    check!(dr6 & DR6_SINGLE_STEP != 0, "a step over CPUID: DR6 is {dr6:#x}");
}

fn execution_breakpoint() {
    let (fault, address) = trap::run_breakpoint_target(|address| {
        cpu::write_dr0(address);
        cpu::write_dr7(DR7_EXECUTE_0);
    });
    cpu::write_dr7(DR7_DEFAULT);
    let dr6 = take_dr6();
    let place = fault.map(|fault| (fault.vector, fault.rip));
    check!(
        place == Some((DEBUG, address)),
        "a breakpoint at {address:#x}: {fault:x?}"
    );
    check!(dr6 & 0xf == 1, "a breakpoint: DR6 is {dr6:#x}");
}

fn write_breakpoint(page: &mut memory::Page) {
    cpu::write_dr1(page.address() + 8);
    cpu::write_dr7(DR7_WRITE_1);
    let fault = trap::catch_fault(|| page.store(1, 1)).err();
    cpu::write_dr7(DR7_DEFAULT);
    let dr6 = take_dr6();
    let vector = fault.map(|fault| fault.vector);
    check!(
        vector == Some(DEBUG) && dr6 & 0xf == 2,
        "a watched write: {fault:x?}, DR6 {dr6:#x}"
    );
    check!(page.load(1) == 1, "a watched write is lost");
}
