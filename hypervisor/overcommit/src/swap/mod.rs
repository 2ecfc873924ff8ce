//! Where contents of guests' pages wait that nobody looks at: compressed in frames of the host, or on a disk.
//!
//! A page that is cold gives up its frame. Its content goes into a *slot* ([`Slots`]), whose number takes the
//! frame's place in the page's entry, and in the entries of all pages that shared the frame. A slot says where the
//! content is: all words of it are equal, and the slot itself has the word; or it is packed
//! ([`Compressor`]) and lies with others in a frame of the [`Pool`]; or on a disk (`disk`), or on its way there. What leaves for a disk is
//! encrypted ([`Cipher`]), and what comes back from anywhere is compared with its [`Fingerprint`]: bytes that are
//! not the guest's own are never delivered.
//!
//! All of it is logic over bytes: who is cold, what is flushed when, and which frame the ledger counts as what is
//! decided elsewhere. **No path needs memory to free memory**: neither the pool nor the table of slots ever asks
//! for a frame. They are offered the very frame that is given up, and take it only if they have no room otherwise.

mod cipher;
mod compress;
mod disk;
mod error;
mod fingerprint;
mod pool;
mod slots;
mod store;
#[cfg(test)]
mod tests;

pub use cipher::{Cipher, Nonce};
pub use compress::{Compressor, Content, DEFAULT_BOUND, Damaged, fill, unpack};
pub use disk::{
    BlockCounts, CLEAN_FRAMES_MAX, Coming, Direction, DiskError, DiskPlan, DiskRequest, DiskState, DiskWork,
    MAX_BLOCKS, RUN,
};
pub use error::{Bug, Corruption, Error};
pub use fingerprint::{Fingerprint, Fingerprinter};
pub use pool::{MAX_OBJECT, Place, Pool, PoolCounts, Step};
pub use slots::{
    DiskPlace, Location, MAX_REFERENCES, MAX_SLOTS, Released, Slot, SlotCounts, Slots, StagedPlace,
};
pub use store::{NotHad, NotKept, PURSE, Store, StoreWork};

/// Some bits of a word, at most 32 of them.
#[allow(clippy::cast_possible_truncation)] // no more than 32 bits are left
const fn bits(word: u64, shift: u32, count: u32) -> u32 {
    (word >> shift & ((1 << count) - 1)) as u32
}
