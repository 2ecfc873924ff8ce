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
