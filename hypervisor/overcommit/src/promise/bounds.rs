//! Between what bounds a guest's target may move in one period.

use super::amount::FRAMES_PER_MIB;
use super::cache::{self, CacheView};
use super::host_state::HostState;
use super::view::{GuestView, OutOfMemory, Reason};

/// What a stock Debian kernel takes for itself, with the least user space: its image fills 46 MiB, and with 64 MiB
/// promised it starts with nothing to spare.
const KERNEL: u64 = 56 * FRAMES_PER_MIB;
/// What is promised costs the guest a 64-byte record for each 4 KiB page; twice that leaves room for other tables
/// that grow with memory.
const RECORDS_DIVISOR: u64 = 32;
/// With less promised than its image fills no stock kernel runs. What does run there gives up to three quarters.
const SMALL: u64 = 48 * FRAMES_PER_MIB;
/// The least cushion: the free pages that Linux keeps for itself in a guest of some hundred MiB
/// (`min_free_kbytes`, 1 to 2 MiB, and its low and high marks above).
const CUSHION_MIN: u64 = 4 * FRAMES_PER_MIB;

/// Frames that keep a guest alive of which nothing else is known. Without statistics no balloon is asked to leave
/// it less; in the low state none at all.
#[must_use]
pub fn survival(promised: u64) -> u64 {
    if promised < SMALL {
        promised.div_ceil(4)
    } else {
        (KERNEL + promised / RECORDS_DIVISOR).min(promised)
    }
}

/// Frames of what a guest says is available that it is left with.
#[must_use]
pub fn cushion(promised: u64) -> u64 {
    (promised / 16).max(CUSHION_MIN)
}

/// Part of its memory that a guest can be asked for in one period.
pub(super) fn urgent_step(promised: u64) -> u64 {
    (promised / 8).max(1)
}

/// The same while there is no hurry; and what is given back in one period where nobody is in need.
pub(super) fn easy_step(promised: u64) -> u64 {
    (promised / 16).max(1)
}

/// The bounds of one guest, in frames in its balloon.
pub(super) struct Bounds {
    /// What the operator wants.
    pub(super) operator: u64,
    /// What the limit wants, as far as one period goes.
    pub(super) limit: u64,
    /// What the strict limit of the cache wants.
    pub(super) strict: u64,
    /// What would stay of the last target, if nothing went back whoever gives.
    pub(super) before: u64,
    /// What stays of it.
    pub(super) kept: u64,
    /// Below this cache would grow beyond its strict limit.
    pub(super) hold: u64,
    /// What a shortage may raise the target to, period by period.
    pub(super) bound: u64,
    /// What it may raise it to in this period.
    pub(super) ceiling: u64,
    /// The same, as long as cache beyond the soft limit is to be had.
    pub(super) cache_ceiling: u64,
    /// A guest in need: what its target should fall to.
    pub(super) relief: Option<u64>,
}

impl Bounds {
    pub(super) fn of(view: &GuestView, state: HostState) -> Self {
        let promised = view.terms.promised();
        let ballooned = view.ballooned.min(promised);
        let claimed = view.claims.ballooned.min(promised);
        // What it has given since it said so it held then.
        let held_then = view.held.saturating_add(ballooned.saturating_sub(claimed));
        let look = cache::look(&view.terms, held_then, &view.claims);
        let step = match state {
            HostState::High | HostState::Soft => easy_step(promised),
            HostState::Hard | HostState::Low => urgent_step(promised),
        };
        let bound = bound(view, state);
        let ceiling = bound.min(ballooned.saturating_add(step));
        let limit_step = ballooned.saturating_add(urgent_step(promised));
        let limit = (promised - view.terms.limit()).min(limit_step);
        let before = kept(view, ballooned.max(ceiling), limit);
        let relief = relief(view, before);
        // A guest that has been squeezed, because its needs grew or its statistics came late, does not depend on others
        // to get out of that.
        let kept = if is_spared(view, state) {
            before.min(bound)
        } else {
            before
        };
        let strict_look = look.filter(|_| view.terms.has_strict_cache() && relief.is_none());
        let soft_look = look.filter(|_| view.terms.has_soft_cache());
        let strict = strict_look.filter(|look| look.beyond_strict > 0);
        let hold = |look: CacheView| claimed.saturating_sub(look.room);
        Self {
            operator: view.operator(),
            limit,
            strict: strict.map_or(0, |look| claimed.saturating_add(look.beyond_strict).min(ceiling)),
            before,
            kept,
            hold: strict_look.map_or(0, hold),
            bound,
            ceiling,
            cache_ceiling: soft_look.map_or(0, |look| claimed.saturating_add(look.beyond_soft).min(ceiling)),
            relief,
        }
    }
}

/// What a guest is left with in the low state, whatever else it says.
pub(super) fn least(view: &GuestView) -> u64 {
    let terms = &view.terms;
    let alive = survival(terms.promised()).min(terms.limit());
    alive.max(terms.reservation())
}

/// The target at which a guest says that it would have nothing left. What the host knows that nothing backs refutes
/// a claim to have less. Counted in frames of the balloon, so that it holds for as long as the guest does not change.
fn exhausted(view: &GuestView) -> Option<u64> {
    let claimed = view.claims.ballooned.saturating_add(view.claims.available?);
    Some(claimed.max(view.ballooned.saturating_add(view.untouched)))
}

/// The target up to which a guest says that it can give.
pub(super) fn spared(view: &GuestView) -> Option<u64> {
    Some(exhausted(view)?.saturating_sub(cushion(view.terms.promised())))
}

/// Whether a guest is left with what it says that it needs. In the low state that holds only for one that would end
/// processes: others take what they need from their balloons when they really do.
fn is_spared(view: &GuestView, state: HostState) -> bool {
    state != HostState::Low || view.out_of_memory == OutOfMemory::Kills
}

/// How far a shortage may ever raise the target while the guest stays as it is.
fn bound(view: &GuestView, state: HostState) -> u64 {
    let promised = view.terms.promised();
    let blind = promised - least(view);
    let bound = if is_spared(view, state) {
        spared(view).unwrap_or(blind)
    } else {
        // What it says does not count; but who says that it has more than that gives more.
        spared(view).unwrap_or(0).max(blind)
    };
    bound.min(promised - view.terms.reservation())
}

/// What stays of the last target: no more than could be asked for now, or has been given already. What only the
/// operator or the limit wanted goes with them.
fn kept(view: &GuestView, most: u64, limit: u64) -> u64 {
    let told = match view.told.reason {
        Reason::Operator => 0,
        Reason::Limit => limit,
        _ => view.told.frames,
    };
    let beyond_reservation = view.terms.promised() - view.terms.reservation();
    told.min(most).min(beyond_reservation)
}

/// A guest that has hardly anything left with this target is to have two cushions again. It is asked only for what is
/// beyond one, and is in need only below half of one, so that what goes back to it is not asked for again.
fn relief(view: &GuestView, target: u64) -> Option<u64> {
    let (cushion, exhausted) = (cushion(view.terms.promised()), exhausted(view)?);
    let is_in_need = target.saturating_add(cushion / 2) > exhausted;
    is_in_need.then(|| exhausted.saturating_sub(cushion * 2))
}
