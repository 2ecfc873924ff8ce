//! Pleat: entry and wiring, no logic.
#![no_std]
#![no_main]

use arrayvec::ArrayVec;
use pleat_machine::{Board, Boot, Ending, FrameRange, MemoryMap, power_off};
use pleat_overcommit::ledger::{FrameRecord, Region};
use pleat_overcommit::merge;
use pleat_types::{FRAME_SIZE, Tsc};
use pleat_vmm::{BootContext, BootRegion, Hypervisor, Outcome, Storage};
use spin::{Mutex, MutexGuard};

pleat_machine::entry!(main);

/// The hypervisor's tables; [`main`] takes them once.
static STORAGE: Mutex<Storage<Board>> = Mutex::new(Storage::EMPTY);

fn main(mut board: Board, mut boot: Boot) -> ! {
    log::info!(
        "Pleat {}: first line {} ticks after reset",
        env!("CARGO_PKG_VERSION"),
        boot.entry_tsc - boot.reset_tsc
    );
    let frames = boot.memory.highest().div_ceil(FRAME_SIZE as u64);
    let count = usize::try_from(frames).expect("addresses have 64 bits");
    let records = boot.memory.claim_records(count, FrameRecord::RESERVED);
    let index = usize::try_from(merge::bytes_for(frames)).expect("addresses have 64 bits");
    let heap = boot.memory.claim_heap(index);
    board.seal(&boot.memory);
    let regions = regions(&boot.memory);
    let context = BootContext {
        regions: &regions,
        records,
        bundle: boot.memory.bundle().first.base(),
        bundle_bytes: boot.memory.bundle().count * FRAME_SIZE as u64,
        reset: Tsc(boot.reset_tsc),
    };
    let storage = MutexGuard::leak(STORAGE.lock());
    let hypervisor = Hypervisor::new(board, context, storage);
    heap.close();
    match hypervisor {
        Ok(mut hypervisor) => match hypervisor.run() {
            Outcome::Ok => power_off(Ending::Ok),
            Outcome::Failed => power_off(Ending::Failed),
        },
        Err(error) => {
            log::error!("Pleat cannot start: {error}");
            power_off(Ending::Failed)
        }
    }
}

/// The machine's memory map in the ledger's terms.
fn regions(memory: &MemoryMap) -> ArrayVec<BootRegion, 40> {
    let region = |range: FrameRange, class| BootRegion {
        first: range.first,
        frames: range.count,
        class,
    };
    let usable = memory.usable().iter().map(|range| region(*range, Region::Usable));
    usable
        .chain([
            region(memory.image(), Region::Image),
            region(memory.metadata(), Region::Metadata),
        ])
        .collect()
}
