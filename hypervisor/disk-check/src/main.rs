//! Checks the disk drivers on an emulated disk: writes a pattern that says what it is, reads it back, compares all.
//!
//! It boots in the hypervisor's place (`[machine] disk_check = true` in a guests file), with its start-up code and its
//! drivers but without guests. So it runs where there is no VMX, and each driver meets a second implementation of its
//! device. The disk's content is lost.
#![no_std]
#![no_main]

mod area;
mod config;
mod count;
mod failures;
mod rounds;

use pleat_machine::{Bare, Ending, power_off};
use pleat_types::{DiskFailure, Tsc};

use self::rounds::Rounds;

pleat_machine::bare_entry!(main);

fn main(mut machine: Bare) -> ! {
    let mistakes = check(&mut machine);
    let outcome = match mistakes {
        0 => "{\"t\":0,\"k\":\"end\",\"outcome\":\"ok\",\"failures\":[]}\n",
        _ => {
            "{\"t\":0,\"k\":\"end\",\"outcome\":\"failed\",\"failures\":[\"the disk is not what it should be: host.log says why\"]}\n"
        }
    };
    machine.stream_write(outcome.as_bytes());
    power_off(if mistakes == 0 { Ending::Ok } else { Ending::Failed })
}

/// Seconds that a request may take, as in the hypervisor.
const PATIENCE_S: u64 = 5;

/// Checks everything; the number of mistakes, each of which is in the log.
fn check(machine: &mut Bare) -> u64 {
    let Some(kind) = config::disk_kind(machine) else {
        log::error!("disk-check: the guests file gives the machine no disk");
        return 1;
    };
    let patience = Tsc(PATIENCE_S * machine.tsc_hz());
    let Some(info) = machine.disk_open(kind, patience) else {
        log::error!("disk-check: no such disk was found");
        return 1;
    };
    log::info!("disk-check: {}, {} blocks", info.kind.name(), info.blocks);
    let mut rounds = Rounds::new(machine, info);
    rounds.write();
    rounds.read();
    let mistakes = rounds.report();
    mistakes + failures::refusals(machine, info) + failures::time_out(machine, info, patience)
}

/// What to say about the end of a request.
fn text(result: Result<(), DiskFailure>) -> &'static str {
    result.map_or_else(DiskFailure::text, |()| "well")
}
