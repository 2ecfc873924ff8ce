//! Tests of the policy: by case, and as it plays out over time ([`world`]).

mod admission;
mod cache;
mod entitlement;
mod late;
mod pressure;
mod properties;
mod relief;
mod share;
mod targets;
mod terms;
mod trade;
mod world;

use super::{Terms, Wishes};

/// Frames in so many MiB.
const fn mib(mib: u64) -> u64 {
    mib * 256
}

/// Plain terms for so much memory.
const fn wishes(promised: u64) -> Wishes {
    Wishes {
        promised,
        reservation: 0,
        limit: None,
        shares: 100,
        priority: 100,
        idle_tax_percent: 75,
        cache_soft_percent: 100,
        cache_strict_percent: 100,
    }
}

/// Checked terms.
fn terms(wishes: Wishes) -> Terms {
    Terms::new(wishes).expect("terms that can be")
}
