//! Frames that are refused on purpose: what becomes of whoever asks when there is none, at each place where one is asked
//! for? For tests, with the feature `refusals`, each thread for itself.

use core::cell::{Cell, RefCell};
use core::ops::Range;
use std::thread_local;

thread_local! {
    /// Blocks that were asked for.
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static REFUSED: RefCell<Range<u64>> = const { RefCell::new(0..0) };
}

/// From now on blocks are counted from 0 on as they are asked for, and those with these numbers are refused.
pub fn refuse(numbers: Range<u64>) {
    ASKED.set(0);
    REFUSED.replace(numbers);
}

/// How many blocks were asked for since.
#[must_use]
pub fn asked() -> u64 {
    ASKED.get()
}

/// Counts a block that is asked for; whether it is refused.
pub(super) fn is_next() -> bool {
    let number = ASKED.replace(ASKED.get() + 1);
    REFUSED.with_borrow(|refused| refused.contains(&number))
}
