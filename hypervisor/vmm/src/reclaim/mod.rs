//! Taking memory from guests that do not give it.
//!
//! ```text
//!   a generation ends    A bits read and cleared, ages counted          age.rs
//!   need                 free memory, who waits, who gives              pleat_overcommit::reclaim
//!   a guest is chosen    shares, idle pages, priority                   pleat_overcommit::reclaim
//!   one cold page        freeze, flush, pack, one store, flush          take.rs
//! ```
//!
//! All work is done between time slices, in small steps. Between two steps no page is frozen. A page leaves its frame only
//! when its content is safe in the swap store ([`crate::swap`]); that takes no memory but the frame it leaves.

mod age;
mod compact;
mod hardship;
mod page;
mod records;
mod suspend;
mod take;
mod watch;

use crate::guest::Guest;
use crate::memory::Cause;
use crate::run::Hypervisor;
use arrayvec::ArrayVec;
pub(crate) use hardship::Hardship;
use pleat_bundle::config::ReclaimConfig;
use pleat_overcommit::reclaim::{Holds, Token};
use pleat_overcommit::swap::DiskState;
use pleat_stage2::{BATCH, Cold};
use pleat_types::{Platform, Tsc};
use records::Condition;

/// What was done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Work {
    /// Frames that were freed.
    pub(crate) taken: u64,
    /// Of these, those that were taken because memory was short.
    pub(crate) forced: u64,
    /// Pages that turned out to be in use, or to be no page to take.
    pub(crate) passed: u64,
    /// Shared frames that were taken from all their pages.
    pub(crate) shared: u64,
    /// Large mappings that were split because they were cold.
    pub(crate) split: u64,
    /// Pages of zeros that had a frame.
    pub(crate) zero: u64,
    /// Pages that were brought back to a frame that others share.
    pub(crate) rejoined: u64,
    /// Ticks of ageing, and of taking.
    pub(crate) age_ticks: u64,
    pub(crate) take_ticks: u64,
}

/// Taking pages from one guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Taking {
    guest: usize,
    cause: Cause,
    least_age: u8,
    /// Frames that are still wanted.
    left: u64,
    /// Where the hand was when it began, and whether it has been at the end of memory since.
    start: pleat_types::Gfn,
    has_wrapped: bool,
    /// The hand has gone round: what was found is still taken, and then something else is thought of.
    is_last: bool,
}

impl Taking {
    /// The same, of younger pages, when the hand has gone round. Of those that are old, many may be none to take, because
    /// others use their frames or they cannot be packed: they must not stand before those that are.
    fn younger(self, hand: pleat_types::Gfn) -> Option<Self> {
        let has_younger = self.cause != Cause::Cold && self.least_age > 1;
        has_younger.then_some(Self {
            least_age: self.least_age / 2,
            start: hand,
            has_wrapped: false,
            ..self
        })
    }
}

/// The reclaimer's state.
pub(crate) struct Reclaimer {
    pub(crate) is_on: bool,
    generation: Tsc,
    cold: Option<u8>,
    /// The guest whose generation is ending.
    aging: Option<usize>,
    taking: Option<Taking>,
    /// Cold pages that were found and not looked at yet.
    batch: ArrayVec<Cold, BATCH>,
    /// When the last step ended.
    ended: Tsc,
    /// In so many generations in a row that were hurried nothing was taken.
    futile: u32,
    /// With so many contents the pool could not be made denser.
    dense_at: Option<u64>,
    /// The pool was full when it had so many frames.
    full_at: Option<u64>,
    /// The way to the disk is full: nothing is taken until some of it has got there.
    pub(crate) is_stalled: bool,
    /// So many frames were free when there was none to keep a content with.
    starved_at: Option<u64>,
    /// Who is shielded while guests thrash.
    pub(crate) token: Token,
    /// Who waits while the host is low.
    holds: Holds,
    /// When that is looked at next, and what had been taken by force when it was done last.
    watch_at: Tsc,
    forced_before: u64,
    /// What is on record of the store.
    condition: Option<Condition>,
    failures_recorded: u64,
    store_recorded_at: Tsc,
    pub(crate) work: Work,
}

impl<P: Platform> Hypervisor<P> {
    /// Lets the disk go on.
    pub(crate) fn serve_disk(&mut self) {
        if self.host.swap.store.disk_state() == DiskState::None {
            return;
        }
        if self.guests().any(Guest::waits_for_memory) {
            self.host.swap.store.hurry();
        }
        if self.host.serve_disk() {
            self.reclaimer.is_stalled = false;
        }
    }
}

impl Reclaimer {
    /// One that rests. Large, and all zero.
    pub(crate) const RESTING: Self = Self {
        is_on: false,
        generation: Tsc(0),
        cold: None,
        aging: None,
        taking: None,
        batch: ArrayVec::new_const(),
        ended: Tsc(0),
        futile: 0,
        dense_at: None,
        full_at: None,
        is_stalled: false,
        starved_at: None,
        token: Token::new(),
        holds: Holds::new(),
        watch_at: Tsc(0),
        forced_before: 0,
        condition: None,
        failures_recorded: 0,
        store_recorded_at: Tsc(0),
        work: Work {
            taken: 0,
            forced: 0,
            passed: 0,
            shared: 0,
            split: 0,
            zero: 0,
            rejoined: 0,
            age_ticks: 0,
            take_ticks: 0,
        },
    };

    /// Begins to work as configured.
    pub(crate) const fn begin(&mut self, config: &ReclaimConfig, generation: Tsc) {
        self.is_on = config.is_on;
        self.cold = config.cold_generations;
        self.generation = generation;
    }

    /// From which age on pages are taken even where memory is plentiful.
    pub(crate) const fn cold(&self) -> Option<u8> {
        self.cold
    }

    /// How long a generation lasts at least.
    pub(crate) const fn generation(&self) -> Tsc {
        self.generation
    }

    /// Nothing is left to do with a guest that ends, or that starts again.
    pub(crate) fn forget(&mut self, guest: usize) {
        self.holds.release(guest);
        if self.aging == Some(guest) {
            self.aging = None;
        }
        if self.taking.is_some_and(|taking| taking.guest == guest) {
            self.stop_taking();
        }
    }

    /// Something has changed: what was in vain before need not be.
    const fn hope_again(&mut self) {
        self.futile = 0;
        self.starved_at = None;
    }

    fn stop_taking(&mut self) {
        self.taking = None;
        self.batch.clear();
    }
}
