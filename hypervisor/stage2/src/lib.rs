//! The extended page tables of a guest, as pure logic over table memory.
//!
//! An entry is the only record of a guest's page: what is not present still says why (never touched,
//! given back by the balloon, a device, nothing at all), at any level, for its whole reach. So a guest
//! that was promised much and uses little costs a handful of table frames.
//!
//! ```text
//!   root (level 4, 512 GiB an entry)
//!    +- absent(hole)
//!    +- table (level 3, 1 GiB an entry)
//!        +- table (level 2, 2 MiB an entry)
//!        |   +- absent(untouched)             2 MiB never touched: no table below
//!        |   +- leaf: Large                   2 MiB owned
//!        |   +- table (level 1, 4 KiB an entry)
//!        |       +- leaf, writable: Unique    owned by this page
//!        |       +- leaf, read-only: Shared   with pages of this guest or others
//!        |       +- leaf, read-only: Zero     the one zero frame
//!        |       +- swapped: a slot of the swap store has it
//!        |       +- absent(untouched)
//!        +- absent(device)
//! ```
//!
//! Two rules shape every operation. **No broken moment**: a table is complete before one store links
//! it, so that the processor (and a test that rewinds the stores one by one) sees the old mapping or
//! the new one, never something else. **No early reuse**: what an operation takes out is in a
//! [`PendingFlush`] until the flush is done. An operation that fails has changed nothing.
//!
//! Sharing is safe by form: a mapping that shares its frame is another kind of entry than one that owns it,
//! and there is no writable one of that kind. Who gives a frame to a page, or takes it, hands over an
//! [`pleat_types::OwnedFrame`]; for a frame that pages share, each hands over a [`pleat_types::Share`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod age;
mod audit;
mod carve;
mod codec;
mod discard;
mod discard_range;
mod error;
mod fault;
mod find;
mod flush;
mod gather;
mod level;
mod map;
mod memory;
mod parts;
mod range;
mod reshape;
mod share;
mod swap;
mod sweep;
mod table;
mod teardown;
#[cfg(test)]
mod tests;

pub use age::{Aged, Ages, Cold};
pub use audit::{Counters, Held};
pub use codec::{AGE_MAX, Absent, Backing, CALM_OWED_MAX, ENTRIES, Entry, GFN_LIMIT, Leaf, Level};
pub use discard::{DISCARD_PAGES, DISCARD_ROOM, Discarded};
pub use discard_range::RangeDiscarded;
pub use error::{Bug, Error, Refused};
pub use fault::FaultAction;
pub use find::{Mapping, Spot};
pub use flush::{BATCH, PendingFlush, ProcessorSet, Retired};
pub use memory::TableMemory;
pub use parts::{Part, Parts};
pub use share::{Frozen, Parted, Parting};
pub use sweep::{Calm, Sweep, Touched};
pub use table::{Page, Stage2};
pub use teardown::Teardown;
