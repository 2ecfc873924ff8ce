//! Whether a guest follows its balloon's target.
//!
//! A guest cannot be made to give memory: its driver may be missing, wait for the guest's own reclaim, or be written
//! by somebody who does not want to. So nobody waits for a balloon; whoever needs the memory looks at this and turns
//! to other means.

/// A guest that has not moved a page towards the target for this long does not follow it.
const PATIENCE_SECONDS: u64 = 5;

/// A balloon at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// The time, in ticks.
    pub now: u64,
    /// Ticks in a second.
    pub tsc_hz: u64,
    /// Pages that are to be in the balloon.
    pub target: u64,
    /// Pages that are in it, as the owner counts them.
    pub in_balloon: u64,
    /// The guest has a driver for it.
    pub has_driver: bool,
}

/// How a guest follows its balloon's target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// It has no driver.
    Absent,
    /// The target is reached.
    Settled,
    /// It has come nearer to it within the last seconds, or the time is not up.
    Moving,
    /// It has not come nearer to it.
    Stuck {
        /// Since this time, in ticks.
        since: u64,
    },
}

/// Where the pages are to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    In,
    Out,
}

/// What is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Course {
    way: Way,
    /// Pages in the balloon to do better than.
    mark: u64,
    /// When `mark` was set.
    marked: u64,
    /// When it last came nearer.
    since: u64,
    is_stuck: bool,
}

/// Watches one balloon.
///
/// What counts is that the guest does better than before, not that it moves: one that puts a page in and takes it out
/// again gets nowhere. A new target on the same side does not set the clock back, as otherwise a policy that changes
/// its mind every second would never see that nothing happens.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    course: Option<Course>,
}

impl Progress {
    /// Nothing has been seen yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { course: None }
    }

    /// Says how the guest is doing; to be asked about once a second.
    pub fn observe(&mut self, seen: &Observation) -> Pace {
        let way = match seen.target.cmp(&seen.in_balloon) {
            _ if !seen.has_driver => {
                self.course = None;
                return Pace::Absent;
            }
            core::cmp::Ordering::Equal => {
                self.course = None;
                return Pace::Settled;
            }
            core::cmp::Ordering::Greater => Way::In,
            core::cmp::Ordering::Less => Way::Out,
        };
        let mut course = match self.course {
            Some(course) if course.way == way => course,
            _ => Course::begin(way, seen),
        };
        let pace = course.follow(seen);
        self.course = Some(course);
        pace
    }
}

impl Course {
    const fn begin(way: Way, seen: &Observation) -> Self {
        Self {
            way,
            mark: seen.in_balloon,
            marked: seen.now,
            since: seen.now,
            is_stuck: false,
        }
    }

    fn follow(&mut self, seen: &Observation) -> Pace {
        let is_nearer = match self.way {
            Way::In => seen.in_balloon > self.mark,
            Way::Out => seen.in_balloon < self.mark,
        };
        if is_nearer {
            *self = Self::begin(self.way, seen);
        }
        let patience = seen.tsc_hz.saturating_mul(PATIENCE_SECONDS).max(1);
        if seen.now.saturating_sub(self.marked) >= patience {
            // A guest that had to take pages back is measured from there, once it has been called stuck.
            self.is_stuck = true;
            self.mark = seen.in_balloon;
            self.marked = seen.now;
        }
        if self.is_stuck {
            return Pace::Stuck { since: self.since };
        }
        Pace::Moving
    }
}

#[cfg(test)]
mod tests {
    use super::{Observation, Pace, Progress};
    use proptest::collection::vec;
    use proptest::prelude::{prop_assert, proptest};

    const HZ: u64 = 1000;

    fn seen(second: u64, target: u64, in_balloon: u64) -> Observation {
        Observation {
            now: second * HZ,
            tsc_hz: HZ,
            target,
            in_balloon,
            has_driver: true,
        }
    }

    /// Observes these (second, target, pages).
    fn paces<const N: usize>(observations: [(u64, u64, u64); N]) -> [Pace; N] {
        let mut progress = Progress::new();
        observations.map(|(second, target, pages)| progress.observe(&seen(second, target, pages)))
    }

    fn stuck(second: u64) -> Pace {
        Pace::Stuck { since: second * HZ }
    }

    #[test]
    fn a_guest_without_a_driver_is_absent_and_begins_anew_with_one() {
        let mut progress = Progress::new();
        let absent = |second| Observation {
            has_driver: false,
            ..seen(second, 10, 0)
        };
        assert_eq!(progress.observe(&absent(0)), Pace::Absent);
        assert_eq!(progress.observe(&seen(100, 10, 0)), Pace::Moving);
        assert_eq!(progress.observe(&seen(105, 10, 0)), stuck(100));
        assert_eq!(progress.observe(&absent(106)), Pace::Absent);
        assert_eq!(progress.observe(&seen(107, 10, 0)), Pace::Moving);
    }

    #[test]
    fn five_seconds_without_a_page_are_stuck_and_a_page_ends_it() {
        assert_eq!(
            paces([
                (0, 10, 0),
                (4, 10, 0),
                (5, 10, 0),
                (30, 10, 0),
                (31, 10, 1),
                (36, 10, 1)
            ]),
            [
                Pace::Moving,
                Pace::Moving,
                stuck(0),
                stuck(0),
                Pace::Moving,
                stuck(31)
            ]
        );
    }

    #[test]
    fn a_page_in_five_seconds_is_enough_in_both_directions() {
        for (target, first, step) in [(100, 0, 1i64), (0, 100, -1)] {
            let mut progress = Progress::new();
            for n in 0..50u64 {
                let pages = u64::try_from(first + step * i64::try_from(n).unwrap()).unwrap();
                assert_eq!(progress.observe(&seen(4 * n, target, pages)), Pace::Moving);
            }
        }
    }

    #[test]
    fn to_be_there_is_settled_and_the_next_target_has_its_own_time() {
        assert_eq!(
            paces([
                (0, 5, 5),
                (100, 5, 5),
                (200, 6, 5),
                (204, 6, 5),
                (205, 6, 5),
                (206, 6, 6),
                (207, 0, 6)
            ]),
            [
                Pace::Settled,
                Pace::Settled,
                Pace::Moving,
                Pace::Moving,
                stuck(200),
                Pace::Settled,
                Pace::Moving
            ]
        );
    }

    #[test]
    fn targets_that_change_do_not_hide_a_guest_that_does_nothing() {
        let mut progress = Progress::new();
        for second in 0..5 {
            assert_eq!(progress.observe(&seen(second, 100 + second, 50)), Pace::Moving);
        }
        assert_eq!(progress.observe(&seen(5, 200, 50)), stuck(0));
        // The other way is another matter.
        assert_eq!(progress.observe(&seen(6, 10, 50)), Pace::Moving);
    }

    #[test]
    fn to_and_fro_is_not_progress() {
        let mut progress = Progress::new();
        let mut paces = (0..9).map(|second| progress.observe(&seen(second, 100, 50 - second % 2)));
        assert!(paces.by_ref().take(5).all(|pace| pace == Pace::Moving));
        assert_eq!(paces.next(), Some(stuck(0)));
    }

    #[test]
    fn a_guest_that_took_pages_back_moves_when_it_gives_them_again() {
        // Deflated for want of memory, from 50 to 10, then slowly up again.
        let mut progress = Progress::new();
        assert_eq!(progress.observe(&seen(0, 100, 50)), Pace::Moving);
        assert_eq!(progress.observe(&seen(1, 100, 10)), Pace::Moving);
        assert_eq!(progress.observe(&seen(5, 100, 10)), stuck(0));
        assert_eq!(progress.observe(&seen(7, 100, 11)), Pace::Moving);
        assert_eq!(progress.observe(&seen(11, 100, 12)), Pace::Moving);
    }

    #[test]
    fn times_that_make_no_sense_do_no_harm() {
        let mut progress = Progress::new();
        let at = |now, tsc_hz| Observation {
            now,
            tsc_hz,
            ..seen(0, 10, 0)
        };
        assert_eq!(progress.observe(&at(u64::MAX, u64::MAX)), Pace::Moving);
        assert_eq!(progress.observe(&at(0, 0)), Pace::Moving);
        assert_eq!(progress.observe(&at(u64::MAX, 0)), Pace::Moving);
        let mut progress = Progress::new();
        assert_eq!(progress.observe(&at(0, 0)), Pace::Moving);
        assert_eq!(progress.observe(&at(1, 0)), Pace::Stuck { since: 0 });
    }

    proptest! {
        /// Observed each second: who has stood still for 5 s is stuck, and who has more than ever before is not.
        #[test]
        fn whoever_stands_still_is_stuck_and_whoever_comes_nearer_is_not(steps in vec(-1i64..3, 1..60)) {
            let mut progress = Progress::new();
            let mut pages = 1000i64;
            let mut history = std::vec::Vec::new();
            for (second, step) in (0u64..).zip(&steps) {
                pages += step;
                history.push(pages);
                let pace = progress.observe(&seen(second, 5000, u64::try_from(pages).unwrap()));
                let window = &history[history.len().saturating_sub(6)..];
                if window.len() == 6 && window.iter().all(|seen| *seen == pages) {
                    prop_assert!(matches!(pace, Pace::Stuck { .. }), "{second} {window:?}");
                }
                if history.iter().rev().skip(1).all(|before| *before < pages) {
                    prop_assert!(pace == Pace::Moving, "{second} {history:?}");
                }
                if let Pace::Stuck { since } = pace {
                    prop_assert!(since + 5 * HZ <= second * HZ);
                }
            }
        }
    }
}
