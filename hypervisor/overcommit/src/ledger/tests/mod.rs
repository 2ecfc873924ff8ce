//! Tests: directed cases, random operations against one state a frame, and injected corruption.

mod cases;
mod corruption;
mod huge;
mod list_corruption;
mod memory;
mod model;
mod parts;
mod rows;
mod sharing;
mod sharing_model;

use std::vec;
use std::vec::Vec;

use super::{FrameRecord, Ledger, Owner, Region};
use pleat_types::{Gfn, GuestId, Hfn};

/// Frames in the test machine: three large blocks and something ragged.
pub const FRAMES: u64 = 3 * 512 + 300;
/// Where the bundle lies: a large block and a few frames.
pub const BUNDLE: (u64, u64) = (1024, 520);

pub fn records() -> Vec<FrameRecord> {
    vec![FrameRecord::RESERVED; usize::try_from(FRAMES).unwrap()]
}

/// Frame 0 is reserved, the hypervisor is in 2 to 9, its records in 10 to 17.
pub fn machine(records: &mut [FrameRecord]) -> Ledger<'_> {
    let mut ledger = Ledger::new(records).unwrap();
    let regions = [
        (1, FRAMES - 1, Region::Usable),
        (2, 8, Region::Image),
        (10, 8, Region::Metadata),
        (BUNDLE.0, BUNDLE.1, Region::Bundle),
    ];
    for (first, count, what) in regions {
        ledger.add_region(Hfn::new(first), count, what).unwrap();
    }
    ledger.audit().unwrap();
    ledger
}

pub const fn owner(guest: u16, gfn: u64) -> Owner {
    Owner {
        guest: GuestId(guest),
        gfn: Gfn::new(gfn),
    }
}
