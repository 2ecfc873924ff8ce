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
mod rounds;

use pleat_machine::{Bare, Ending, power_off};
use pleat_types::{DiskDirection, DiskFailure, DiskRequest, Hfn, Tsc};

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

/// Checks everything; the number of mistakes, each of which is in the log.
fn check(machine: &mut Bare) -> u64 {
    let Some(kind) = config::disk_kind(machine) else {
        log::error!("disk-check: the guests file gives the machine no disk");
        return 1;
    };
    let patience = Tsc(machine.tsc_hz());
    let Some(info) = machine.disk_open(kind, patience) else {
        log::error!("disk-check: no such disk was found");
        return 1;
    };
    log::info!("disk-check: {}, {} blocks", info.kind.name(), info.blocks);
    let mut rounds = Rounds::new(machine, info);
    rounds.write();
    rounds.read();
    let mistakes = rounds.report();
    mistakes + refusals(machine, info.blocks)
}

/// What must be refused is, and changes nothing: the disk goes on working.
fn refusals(machine: &mut Bare, blocks: u64) -> u64 {
    let first = machine.ranges()[0].first;
    let frames: [Hfn; 33] = core::array::from_fn(|index| Hfn::new(first.get() + index as u64));
    let mut mistakes = 0;
    for (first, count, expected) in [
        (blocks, 1, DiskFailure::BeyondEnd),
        (blocks - 1, 2, DiskFailure::BeyondEnd),
        (u64::MAX, 32, DiskFailure::BeyondEnd),
        (0, 0, DiskFailure::Malformed),
        (0, 33, DiskFailure::Malformed),
    ] {
        let request = DiskRequest {
            direction: DiskDirection::Write,
            first,
            frames: &frames[..count],
        };
        let said = machine.disk_start(&request);
        log::info!(
            "disk-check: {count} blocks at {first} of {blocks}: {}",
            text(said)
        );
        mistakes += u64::from(said != Err(expected) || machine.disk_poll().is_some());
    }
    mistakes
}

/// What to say about the end of a request.
fn text(result: Result<(), DiskFailure>) -> &'static str {
    result.map_or_else(DiskFailure::text, |()| "well")
}
