//! Who runs next: fair by weights.
//!
//! Each guest has a *virtual time*: processor time divided by its weight. The ready guest with the
//! least virtual time runs. So two guests that are always ready get time in proportion to their
//! weights, and their virtual times never differ by more than one slice of each.
//!
//! A guest that waited must not come back with a claim to all the time it did not use, so at waking
//! its virtual time is lifted to the least one of the ready guests, less a small credit: the credit
//! lets it run soon (it waited for an event that a person or a timer is interested in) and is so
//! small that waiting and waking in turn gains nothing that lasts.

use arrayvec::ArrayVec;
use pleat_bundle::config::MAX_GUESTS;
use pleat_types::Tsc;

/// Virtual time that one tick costs a guest of weight 1: leaves precision for large weights.
const SCALE: u64 = 1 << 12;
/// The largest weight that counts; a larger one would make a tick cost nothing.
const WEIGHT_MAX: u32 = 4096;
/// When the floor is this high everybody's virtual time is lowered: a guest of weight 1 reaches the end of
/// 64 bits after 2^52 ticks, 17 days at 3 GHz, and then all would be equal for ever.
const REBASE_AT: u64 = 1 << 60;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Readiness {
    Ready,
    Waiting,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Entity {
    weight: u32,
    virtual_time: u64,
    /// When it last ran, as a count of picks: among equals the one that waited longest runs.
    last_pick: u64,
    readiness: Readiness,
    /// It does not run though it is ready.
    is_held: bool,
}

/// The scheduler of one processor. Guests are numbered as they are added.
#[derive(Debug)]
pub(crate) struct Scheduler {
    entities: ArrayVec<Entity, MAX_GUESTS>,
    /// No ready guest that has been charged has less than this, save for its credit; it grows, except when
    /// everybody's virtual time is lowered.
    floor: u64,
    picks: u64,
    credit: Tsc,
}

impl Scheduler {
    /// A scheduler without guests. `credit` is how much processor time a waking guest may be ahead of
    /// the others.
    pub(crate) const fn new(credit: Tsc) -> Self {
        Self {
            entities: ArrayVec::new_const(),
            floor: 0,
            picks: 0,
            credit,
        }
    }

    /// Adds a guest that waits. Guests are numbered from 0 in the order of these calls.
    pub(crate) fn add(&mut self, weight: u32) {
        let weight = weight.clamp(1, WEIGHT_MAX);
        let entity = Entity {
            weight,
            virtual_time: self.floor,
            last_pick: 0,
            readiness: Readiness::Waiting,
            is_held: false,
        };
        // There is one entity for each configured guest, and those fit.
        let _ = self.entities.try_push(entity);
    }

    /// This guest can run from now on.
    pub(crate) fn wake(&mut self, index: usize) {
        let (floor, credit) = (self.floor, self.credit);
        if let Some(entity) = self.entities.get_mut(index)
            && entity.readiness == Readiness::Waiting
        {
            let earliest = floor.saturating_sub(virtual_span(credit, entity.weight));
            entity.virtual_time = entity.virtual_time.max(earliest);
            entity.readiness = Readiness::Ready;
        }
    }

    /// This guest cannot run until it is woken.
    pub(crate) fn wait(&mut self, index: usize) {
        if let Some(entity) = self.entities.get_mut(index)
            && entity.readiness == Readiness::Ready
        {
            entity.readiness = Readiness::Waiting;
        }
    }

    /// This guest does not run though it can, or does again: what it did not use meanwhile it has no claim to.
    pub(crate) fn hold(&mut self, index: usize, is_held: bool) {
        let (floor, credit) = (self.floor, self.credit);
        if let Some(entity) = self.entities.get_mut(index) {
            entity.is_held = is_held;
            let earliest = floor.saturating_sub(virtual_span(credit, entity.weight));
            entity.virtual_time = entity.virtual_time.max(earliest);
        }
    }

    /// This guest never runs again.
    pub(crate) fn remove(&mut self, index: usize) {
        if let Some(entity) = self.entities.get_mut(index) {
            entity.readiness = Readiness::Gone;
        }
    }

    /// This guest used so much processor time.
    pub(crate) fn charge(&mut self, index: usize, used: Tsc) {
        if let Some(entity) = self.entities.get_mut(index) {
            let span = virtual_span(used, entity.weight);
            entity.virtual_time = entity.virtual_time.saturating_add(span);
        }
        let least = self.ready().map(|(_, entity)| entity.virtual_time).min();
        self.floor = self.floor.max(least.unwrap_or(0));
        if self.floor >= REBASE_AT {
            self.rebase();
        }
    }

    /// Lowers everybody's virtual time by the same, so that who runs when stays as it is. Who has waited
    /// for so long that it would get below 0 is lifted when it wakes anyway: the credit stays below the floor.
    fn rebase(&mut self) {
        let lower_by = self.floor.saturating_sub(virtual_span(self.credit, 1));
        self.floor -= lower_by;
        for entity in &mut self.entities {
            entity.virtual_time = entity.virtual_time.saturating_sub(lower_by);
        }
    }

    /// Lets the next of the other ready guests go first: this one gets at least its virtual time, and
    /// among equals the one that waited longest runs.
    pub(crate) fn yield_to_others(&mut self, index: usize) {
        let next = self
            .ready()
            .filter(|(other, _)| *other != index)
            .map(|(_, entity)| entity.virtual_time)
            .min();
        if let (Some(entity), Some(next)) = (self.entities.get_mut(index), next) {
            entity.virtual_time = entity.virtual_time.max(next);
        }
    }

    /// The ready guest that runs next.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        let (index, _) = self
            .ready()
            .min_by_key(|(_, entity)| (entity.virtual_time, entity.last_pick))?;
        self.picks += 1;
        self.entities[index].last_pick = self.picks;
        Some(index)
    }

    fn ready(&self) -> impl Iterator<Item = (usize, &Entity)> {
        self.entities
            .iter()
            .enumerate()
            .filter(|(_, entity)| entity.readiness == Readiness::Ready && !entity.is_held)
    }
}

/// What `used` costs a guest of this weight in virtual time.
fn virtual_span(used: Tsc, weight: u32) -> u64 {
    used.0.saturating_mul(SCALE) / u64::from(weight.max(1))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::{ProptestConfig, any, proptest};
    use proptest::{collection::vec, prop_assert};
    use std::vec::Vec;

    const SLICE: u64 = 1000;

    fn ready_with(weights: &[u32]) -> Scheduler {
        let mut scheduler = Scheduler::new(Tsc(SLICE));
        for (index, weight) in weights.iter().enumerate() {
            scheduler.add(*weight);
            scheduler.wake(index);
        }
        scheduler
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Shares are proportional to weights within one slice of each, whatever part of its slice a guest uses.
        #[test]
        fn shares_follow_weights(weights in vec(1u32..=400, 2..8), uses in vec(1u64..=SLICE, 2000)) {
            let mut scheduler = ready_with(&weights);
            let mut used = std::vec![0u64; weights.len()];
            for span in uses {
                let index = scheduler.pick().expect("all are ready");
                used[index] += span;
                scheduler.charge(index, Tsc(span));
            }
            for (a, &weight_a) in weights.iter().enumerate() {
                for (b, &weight_b) in weights.iter().enumerate() {
                    let share_a = used[a] as f64 / f64::from(weight_a);
                    let share_b = used[b] as f64 / f64::from(weight_b);
                    let bound = SLICE as f64 / f64::from(weight_a) + SLICE as f64 / f64::from(weight_b) + 1.0;
                    prop_assert!((share_a - share_b).abs() <= bound, "{share_a} {share_b} {bound}");
                }
            }
        }

        /// A guest that wakes runs before any other guest has run two slices more.
        #[test]
        fn a_waker_runs_soon(others in 1usize..8, rounds in 0u64..500, naps in vec(any::<bool>(), 20)) {
            let mut scheduler = ready_with(&std::vec![100; others + 1]);
            let sleeper = others;
            scheduler.wait(sleeper);
            for _ in 0..rounds {
                let index = scheduler.pick().expect("others are ready");
                scheduler.charge(index, Tsc(SLICE));
            }
            for _ in naps {
                scheduler.wake(sleeper);
                let mut runs: Vec<usize> = Vec::new();
                while runs.last() != Some(&sleeper) {
                    prop_assert!(runs.len() <= 2 * others, "waited for {runs:?}");
                    let index = scheduler.pick().expect("ready");
                    scheduler.charge(index, Tsc(SLICE));
                    runs.push(index);
                }
                scheduler.wait(sleeper);
            }
        }
    }

    #[test]
    fn waiting_saves_no_time_up() {
        let mut scheduler = ready_with(&[100, 100]);
        scheduler.wait(1);
        for _ in 0..1000 {
            assert_eq!(scheduler.pick(), Some(0));
            scheduler.charge(0, Tsc(SLICE));
        }
        scheduler.wake(1);
        let mut runs = [0; 2];
        for _ in 0..100 {
            let index = scheduler.pick().expect("both are ready");
            runs[index] += 1;
            scheduler.charge(index, Tsc(SLICE));
        }
        assert!(runs[1] <= 52, "the sleeper caught up: {runs:?}");
    }

    #[test]
    fn shares_outlast_64_bits_of_virtual_time() {
        let mut scheduler = ready_with(&[1, 3]);
        // In all 2^56 ticks, most of a year at 3 GHz; 64 bits are 2^52 ticks of a guest of weight 1.
        let (span, mut runs) = (Tsc(1 << 40), [0u32; 2]);
        for _ in 0..1 << 16 {
            let index = scheduler.pick().expect("both are ready");
            runs[index] += 1;
            scheduler.charge(index, span);
        }
        assert!(runs[0].abs_diff(1 << 14) <= 2, "{runs:?}");
        scheduler.wait(0);
        for _ in 0..1 << 16 {
            scheduler.charge(1, span);
        }
        scheduler.wake(0);
        assert_eq!(scheduler.pick(), Some(0));
        scheduler.charge(0, Tsc(2 * SLICE));
        assert_eq!(scheduler.pick(), Some(1), "waiting has saved no time up");
    }

    #[test]
    fn who_is_gone_never_runs() {
        let mut scheduler = ready_with(&[1, 1]);
        scheduler.remove(0);
        scheduler.wake(0);
        assert_eq!(scheduler.pick(), Some(1));
        scheduler.wait(1);
        assert_eq!(scheduler.pick(), None);
    }

    #[test]
    fn who_is_held_does_not_run_and_saves_nothing_up() {
        let mut scheduler = ready_with(&[100, 100]);
        scheduler.hold(1, true);
        for _ in 0..1000 {
            assert_eq!(scheduler.pick(), Some(0));
            scheduler.charge(0, Tsc(SLICE));
        }
        scheduler.hold(0, true);
        assert_eq!(scheduler.pick(), None);
        scheduler.hold(0, false);
        scheduler.hold(1, false);
        let mut runs = [0; 2];
        for _ in 0..100 {
            let index = scheduler.pick().expect("both are ready");
            runs[index] += 1;
            scheduler.charge(index, Tsc(SLICE));
        }
        assert!(runs[1] <= 52, "who was held caught up: {runs:?}");
    }

    #[test]
    fn a_yield_lets_others_go_first() {
        let mut scheduler = ready_with(&[100, 100]);
        scheduler.charge(1, Tsc(10));
        assert_eq!(scheduler.pick(), Some(0));
        scheduler.yield_to_others(0);
        assert_eq!(scheduler.pick(), Some(1));
    }
}
