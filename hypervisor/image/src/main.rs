//! Pleat: entry and wiring.
#![no_std]
#![no_main]

use pleat_machine::{Board, Boot, Ending, power_off};

pleat_machine::entry!(main);

fn main(board: Board, boot: Boot) -> ! {
    log::info!("first line at {} ticks after reset", boot.entry_tsc - boot.reset_tsc);
    log::info!("{:?}", boot.memory);
    let _ = board;
    power_off(Ending::Ok)
}
