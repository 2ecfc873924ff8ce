//! How short of memory the host is.

/// Free memory, as the states of the host have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum HostState {
    /// Enough.
    High,
    /// Getting less.
    Soft,
    /// Short.
    Hard,
    /// All but gone.
    Low,
}

impl HostState {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Soft => "soft",
            Self::Hard => "hard",
            Self::Low => "low",
        }
    }
}

/// Where the states begin, in percent of all frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// Below so many percent free: soft.
    pub soft_below_percent: u8,
    /// Below so many: hard.
    pub hard_below_percent: u8,
    /// Below so many: low.
    pub low_below_percent: u8,
    /// A state gets better only so many percent above its bound, so that it does not flip with each frame.
    pub hysteresis_percent: u8,
}

impl Thresholds {
    /// The state after another one, with so many of all frames free.
    #[must_use]
    pub fn state_after(&self, before: HostState, free: u64, total: u64) -> HostState {
        let now = self.state(free, total, 0);
        let surely = self.state(free, total, self.hysteresis_percent);
        now.max(before.min(surely))
    }

    fn state(&self, free: u64, total: u64, lifted_percent: u8) -> HostState {
        let is_below = |percent: u8| free * 100 < total * u64::from(percent.saturating_add(lifted_percent));
        if is_below(self.low_below_percent) {
            HostState::Low
        } else if is_below(self.hard_below_percent) {
            HostState::Hard
        } else if is_below(self.soft_below_percent) {
            HostState::Soft
        } else {
            HostState::High
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn the_state_of_the_host_follows_its_free_memory() {
        let thresholds = Thresholds {
            soft_below_percent: 6,
            hard_below_percent: 4,
            low_below_percent: 2,
            hysteresis_percent: 1,
        };
        let walk = |frees: &[u64]| {
            let mut state = HostState::High;
            let states = frees.iter().map(|free| {
                state = thresholds.state_after(state, *free, 1000);
                state.name()
            });
            states.collect::<std::vec::Vec<_>>()
        };
        let down = [1000, 60, 59, 40, 39, 20, 19, 0];
        assert_eq!(
            walk(&down),
            ["high", "high", "soft", "soft", "hard", "hard", "low", "low"]
        );
        // It does not come back at the bound that it fell below.
        let up = [59, 60, 69, 70, 0, 29, 30, 50, 49, 1000];
        assert_eq!(
            walk(&up),
            [
                "soft", "soft", "soft", "high", "low", "low", "hard", "soft", "soft", "high"
            ]
        );
    }
}
