//! What the policy looks at, and what it says.

use super::host_state::{HostState, Thresholds};
use super::terms::Terms;

/// The host, as the policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct HostView {
    /// How short of memory it is.
    pub state: HostState,
    /// Frames that are free: the same number that `state` comes from.
    pub free: u64,
    /// All frames that the thresholds are percents of.
    pub total: u64,
    /// Where the states begin.
    pub thresholds: Thresholds,
}

/// What a guest says of itself through the balloon's statistics, in frames. Claims: the policy believes them
/// only where that costs nobody else. Statistics that are much older than their period are to be left out (`None`).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Claims {
    /// Memory that its kernel manages.
    pub total: Option<u64>,
    /// Memory that is in no use.
    pub free: Option<u64>,
    /// Memory that it could use without harm: free, and cache that can go.
    pub available: Option<u64>,
    /// Page cache. Linux counts tmpfs with it, which cannot go.
    pub disk_caches: Option<u64>,
    /// Not a claim: frames that were in the balloon when the statistics came. A target that follows from them
    /// counts from there, so that statistics two periods old do not ask for the same frames twice.
    pub ballooned: u64,
}

/// Whether a balloon can be counted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It is where it should be, or it moves.
    Moving,
    /// It should move and has not for some time (5 s).
    Stuck,
    /// There is no driver.
    Absent,
}

/// What a guest does when it runs out of memory while there is some in its balloon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutOfMemory {
    /// Its driver takes from the balloon what is needed (`VIRTIO_BALLOON_F_DEFLATE_ON_OOM`, virtio 1.3, 5.5.3).
    Deflates,
    /// It ends processes.
    Kills,
}

/// A guest, as the policy sees it.
#[derive(Clone, Copy, Debug)]
pub struct GuestView {
    /// What it is entitled to, for the memory that it has been promised today.
    pub terms: Terms,
    /// Frames that would be free if it gave all of its memory: its own, not those that it shares.
    pub held: u64,
    /// Frames of its memory that nothing backs: never touched, or reported free. The balloon's are not among them.
    pub untouched: u64,
    /// Frames in its balloon, as the host counts them.
    pub ballooned: u64,
    /// Whether its balloon can be counted on.
    pub health: Health,
    /// The target that its balloon was told last, and why. What a grace held back was not told.
    pub told: Asked,
    /// What it does when it runs out of memory.
    pub out_of_memory: OutOfMemory,
    /// Frames that the operator leaves it, if they have said so: no less than its reservation stays, and the policy
    /// may take more, and gives back no more.
    pub left: Option<u64>,
    /// What it says of itself.
    pub claims: Claims,
}

/// A target with its reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Frames in the balloon.
    pub frames: u64,
    /// Why.
    pub reason: Reason,
}

impl GuestView {
    /// The target that the operator wants; 0 for none.
    pub(super) fn operator(&self) -> u64 {
        let promised = self.terms.promised();
        let left = self.left.unwrap_or(promised).min(promised);
        promised - left.max(self.terms.reservation())
    }
}

impl Asked {
    /// Nothing yet.
    pub const NOTHING: Self = Self {
        frames: 0,
        reason: Reason::Rest,
    };
}

/// Why a balloon is to have the size that it is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nothing is asked for.
    Rest,
    /// The guest has more than its limit.
    Limit,
    /// Page cache beyond the strict limit.
    CacheStrict,
    /// Page cache beyond the soft limit, while the host is short.
    CacheSoft,
    /// The host, or a guest that is entitled to more, needs memory.
    Shortage,
    /// The operator wants it.
    Operator,
    /// Memory goes back to the guest.
    Return,
}

impl Reason {
    /// Its name at the console and in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Limit => "limit",
            Self::CacheStrict => "cache-strict",
            Self::CacheSoft => "cache-soft",
            Self::Shortage => "shortage",
            Self::Operator => "operator",
            Self::Return => "return",
        }
    }
}

/// What a balloon is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Which guest: the place in the list of views.
    pub guest: usize,
    /// Frames that are to be in its balloon.
    pub frames: u64,
    /// Of these, what does not wait for a grace: the operator's, the limit's and the strict cache's.
    pub firm: u64,
    /// Frames that it is asked for because the host is short: what the guest is told, and what its level of
    /// pressure comes from.
    pub wanted: u64,
    /// Why.
    pub reason: Reason,
}

impl Target {
    /// The target with its reason, to be kept when it was told as it is.
    #[must_use]
    pub const fn asked(&self) -> Asked {
        Asked {
            frames: self.frames,
            reason: self.reason,
        }
    }
}
