//! `bench exits`: what exits cost, beside Linux KVM's figures and our goals.
//!
//! KVM was measured inside the same Bochs with the same processor model: a Debian 6.1 host, mitigations
//! off, EPT and PML on, its best case of many. The way to init is that of kvmtool.

use anyhow::Result;

use super::rows::{Measured, Row};
use super::scenario::{self, Source};
use crate::context::Context;
use crate::session::Silent;

/// Who is in the other column.
pub const PEER: &str = "Linux KVM";

/// First entry of a Linux guest to its init.
const GUEST_TO_INIT: &str = "guest-to-init";
/// Reset of the machine to Pleat's first line.
const RESET_TO_FIRST_LINE: &str = "reset-to-first-line";

const fn row(name: &'static str, peer: f64, goal: f64) -> Row {
    Row::instructions(name).peer(peer).goal(goal)
}

/// All rows, in the order in which they are shown.
const ROWS: [Row; 16] = [
    row("cpuid", 1_193.0, 400.0),
    row("vmcall", 1_029.0, 350.0),
    row("invd", 874.0, 400.0),
    row("wbinvd", 879.0, 400.0),
    row("port-in", 1_288.0, 500.0),
    row("port-out", 1_292.0, 500.0),
    row("rdmsr-tsc-adjust", 1_107.0, 450.0),
    row("wrmsr-tsc-adjust", 1_661.0, 450.0),
    row("tsc-deadline", 5_601.0, 2_000.0),
    row("self-ipi", 5_356.0, 2_500.0),
    row("mov-cr8", 7.0, 10.0),
    row("mov-dr", 7.0, 10.0),
    row("cr0-wp-toggle", 3_948.0, 100.0),
    Row::instructions("demand-zero"),
    row(GUEST_TO_INIT, 523_000_000.0, 480_000_000.0),
    Row::instructions(RESET_TO_FIRST_LINE),
];

/// Measures all rows.
pub fn measure(context: &Context) -> Result<Vec<Measured>> {
    let [exits, linux] = scenario::prepare(context, ["bench-exits", "bench-linux"])?;
    let exits = scenario::measure(context, &exits, &mut Silent)?;
    let linux = scenario::measure(context, &linux, &mut Silent)?;
    let measured = |row: Row| Measured {
        ours: match row.name {
            GUEST_TO_INIT => ticks_to_init(&linux),
            RESET_TO_FIRST_LINE => ticks_to_first_line(&exits),
            name => scenario::measured(&exits, name),
        },
        row,
    };
    Ok(ROWS.map(measured).into())
}

fn ticks_to_init(source: &Source) -> Result<f64, String> {
    let outcome = source.as_ref().map_err(Clone::clone)?;
    let guests = outcome.transcript.guests.values();
    let up = guests
        .flat_map(|guest| &guest.events)
        .find(|(event, _)| event == "up");
    up.map(|(_, ticks)| super::float(*ticks))
        .ok_or_else(|| "up was not reported".to_owned())
}

fn ticks_to_first_line(source: &Source) -> Result<f64, String> {
    let outcome = source.as_ref().map_err(Clone::clone)?;
    let ticks = outcome.transcript.ticks_to_first_line();
    ticks
        .map(super::float)
        .ok_or_else(|| "the first line does not say when it was said".to_owned())
}
