//! Page cache against computation.
//!
//! The model is AIX, whose administrators bound what files may hold of real memory (`vmo`):
//!
//! | AIX | here |
//! |---|---|
//! | real memory | the guest's limit (all that it was promised, where there is none) |
//! | `numperm`: frames with file pages | `disk_caches` of the balloon's statistics, as far as it can go |
//! | `maxperm`: beyond it only file pages are stolen | soft limit: cache beyond it goes before any guest's computation |
//! | `minperm`: below it file and computational pages are stolen alike | below the soft limit shares decide |
//! | `strict_maxperm=1`: `maxperm` is never exceeded | strict limit: the balloon takes what is beyond, short or not |
//!
//! AIX steals the very page. A balloon cannot choose: the guest's kernel gives what is free first, then cache. So what
//! is free is taken along with the cache beyond a limit, and the limits hold after a few periods. A strict
//! limit also bounds what is given back: cache and free memory together stay within it, because what is free
//! would be cache soon; computation that grows pushes cache out, and thereby gets memory back.
//!
//! What can go is less than `disk_caches`: Linux counts tmpfs with it. What is available and not free is
//! cache that can go, so the smaller of both counts. All of this is the guest's own word. If it claims too much
//! it is asked for more than it has, down to its reservation; if it claims too little, nothing is taken early.

use super::terms::Terms;
use super::view::Claims;

/// The cache of a guest beside its limits, in frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheView {
    /// Cache that can go.
    pub cache: u64,
    /// What of it is beyond the soft limit.
    pub beyond_soft: u64,
    /// What of it is beyond the strict limit.
    pub beyond_strict: u64,
    /// What the guest could get back without cache growing beyond the strict limit.
    pub room: u64,
}

/// Looks at what a guest claims, that held so much when it did. `None` if it has said nothing of its cache. What is beyond a limit is never more
/// than what the guest holds beyond its reservation.
#[must_use]
pub fn look(terms: &Terms, held: u64, claims: &Claims) -> Option<CacheView> {
    let free = claims.free.unwrap_or(0);
    let reclaimable = claims.available.map_or(u64::MAX, |all| all.saturating_sub(free));
    let cache = claims.disk_caches?.min(reclaimable).min(held);
    let takable = held.saturating_sub(terms.reservation());
    let beyond = |limit: u64| cache.saturating_sub(limit).min(takable);
    Some(CacheView {
        cache,
        beyond_soft: beyond(terms.cache_soft()),
        beyond_strict: beyond(terms.cache_strict()),
        room: terms.cache_strict().saturating_sub(cache.saturating_add(free)),
    })
}
