//! Who may start: reservations must be kept, so their sum must fit.
//!
//! What a guest costs beside its memory (tables, virtual processor) cannot be taken back from it either, so that
//! counts with its reservation. What is promised beyond reservations is not checked at all: that is
//! overcommitment.

use super::amount::Amount;
use super::terms::Terms;
use arrayvec::ArrayVec;
use core::fmt;
use pleat_types::GuestId;

/// The most guests.
pub const MAX_GUESTS: usize = 64;

/// Entries in a table of EPT (SDM vol. 3C, 30.3.2).
const TABLE_ENTRIES: u64 = 512;
/// Tables of each of the three lower levels that a hole in the guest's memory costs: below it and above it begin
/// tables of their own. The hole at 3 GiB for devices is the only one.
const HOLES: u64 = 1;

/// Frames that a guest of this size costs beside its memory at most, with so many frames for its virtual
/// processor.
///
/// Tables of 4-level EPT when every page is mapped by 4 KiB: one of the lowest level for each 512 pages, one of the
/// next for each 512 of those, and so on, one root; and one more of each lower level for the hole.
#[must_use]
pub fn overhead(promised: u64, vcpu_frames: u64) -> u64 {
    let tables_of_one_kind = promised.div_ceil(TABLE_ENTRIES);
    let directories = tables_of_one_kind.div_ceil(TABLE_ENTRIES);
    let pointers = directories.div_ceil(TABLE_ENTRIES);
    let root = 1;
    tables_of_one_kind + directories + pointers + root + 3 * HOLES + vcpu_frames
}

/// What is set aside for one guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    guest: GuestId,
    reservation: u64,
    overhead: u64,
}

/// What is set aside for whom.
#[derive(Clone, Debug)]
pub struct Book {
    for_guests: u64,
    entries: ArrayVec<Entry, MAX_GUESTS>,
}

/// Why a guest is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its reservation and overhead do not fit beside those of others. It displays as `guest needs a reservation of
    /// 96 MiB and 1 MiB of overhead; of 300 MiB for guests 240 MiB are reserved: 37 MiB are missing; a reservation
    /// of up to 59 MiB would fit`.
    Short {
        /// The reservation it needs, in frames.
        reservation: u64,
        /// The overhead it needs.
        overhead: u64,
        /// What the machine has for guests.
        for_guests: u64,
        /// What of that is set aside for others.
        reserved: u64,
    },
    /// As many guests as there can be.
    TooMany,
    /// It has been admitted already.
    Twice(GuestId),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reservation, overhead, for_guests, reserved) = match *self {
            Self::TooMany => return write!(f, "there are {MAX_GUESTS} guests: no more can be admitted"),
            Self::Twice(guest) => return write!(f, "{guest} has been admitted already"),
            Self::Short {
                reservation,
                overhead,
                for_guests,
                reserved,
            } => (reservation, overhead, for_guests, reserved),
        };
        let left = for_guests.saturating_sub(reserved);
        let missing = reservation.saturating_add(overhead).saturating_sub(left);
        let (needs, and) = (Amount(reservation), Amount(overhead));
        write!(
            f,
            "guest needs a reservation of {needs} and {and} of overhead; of "
        )?;
        write!(
            f,
            "{} for guests {} are reserved: ",
            Amount(for_guests),
            Amount(reserved)
        )?;
        write!(f, "{} are missing; ", Amount(missing))?;
        match left.checked_sub(overhead) {
            Some(fits) => write!(f, "a reservation of up to {} would fit", Amount(fits)),
            None => f.write_str("not even its overhead would fit"),
        }
    }
}

impl core::error::Error for Refusal {}

impl Book {
    /// For a machine that has so many frames beside Pleat itself, of which so many are kept free as a floor for the
    /// host (relief of shared pages, reclaim).
    #[must_use]
    pub fn new(frames: u64, floor: u64) -> Self {
        Self {
            for_guests: frames.saturating_sub(floor),
            entries: ArrayVec::new(),
        }
    }

    /// What the machine has for guests.
    #[must_use]
    pub const fn for_guests(&self) -> u64 {
        self.for_guests
    }

    /// What of that is set aside, overheads included.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        // Each was admitted into what was left, so the sum is no more than `for_guests`.
        self.entries
            .iter()
            .map(|entry| entry.reservation + entry.overhead)
            .sum()
    }

    /// The largest reservation that a guest with this overhead could have now; `None`: not even none.
    #[must_use]
    pub fn fitting(&self, overhead: u64) -> Option<u64> {
        (self.for_guests - self.reserved()).checked_sub(overhead)
    }

    /// Admits a guest and sets aside what it needs.
    ///
    /// # Errors
    /// As [`admit`]; and a guest enters only once.
    pub fn enter(&mut self, guest: GuestId, terms: &Terms, overhead: u64) -> Result<(), Refusal> {
        if self.entries.iter().any(|entry| entry.guest == guest) {
            return Err(Refusal::Twice(guest));
        }
        admit(self, terms, overhead)?;
        let entry = Entry {
            guest,
            reservation: terms.reservation(),
            overhead,
        };
        self.entries.try_push(entry).map_err(|_| Refusal::TooMany)
    }

    /// A guest has left: what was set aside for it is for others. Says how much that was.
    pub fn leave(&mut self, guest: GuestId) -> u64 {
        let at = self.entries.iter().position(|entry| entry.guest == guest);
        at.map_or(0, |at| {
            let entry = self.entries.swap_remove(at);
            entry.reservation + entry.overhead
        })
    }
}

/// Whether a guest with these terms, and so many frames of overhead, fits beside those that were admitted.
///
/// # Errors
/// What is missing, and what would fit.
pub fn admit(book: &Book, terms: &Terms, overhead: u64) -> Result<(), Refusal> {
    let (reservation, reserved) = (terms.reservation(), book.reserved());
    if book.entries.is_full() {
        return Err(Refusal::TooMany);
    }
    let needed = reservation.saturating_add(overhead);
    let fits = needed <= book.for_guests - reserved;
    fits.then_some(()).ok_or(Refusal::Short {
        reservation,
        overhead,
        for_guests: book.for_guests,
        reserved,
    })
}
