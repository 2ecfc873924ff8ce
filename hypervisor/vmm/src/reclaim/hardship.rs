//! What a guest has to bear while memory is short.

use crate::memory::Cause;
use pleat_types::Tsc;

/// It is kept from running so that its pages can be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Suspension {
    pub(crate) since: Tsc,
    /// Frames that it had then.
    pub(crate) held: u64,
}

/// What has become of a guest because memory is short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hardship {
    /// It is suspended until there is memory for it.
    pub(crate) suspended: Option<Suspension>,
    /// It does not run while the host is low: it has more than its part.
    pub(crate) is_held: bool,
    /// How often each was so.
    pub(crate) suspensions: u64,
    pub(crate) holds: u64,
    /// How often it had the token.
    pub(crate) turns: u64,
    /// Frames taken, by cause, that are on record; and since when they are.
    pub(super) recorded: [u64; Cause::ALL.len()],
    pub(super) recorded_at: Tsc,
}

impl Hardship {
    /// None so far.
    pub(crate) const NONE: Self = Self {
        suspended: None,
        is_held: false,
        suspensions: 0,
        holds: 0,
        turns: 0,
        recorded: [0; Cause::ALL.len()],
        recorded_at: Tsc(0),
    };

    /// The guest has ended, or starts again: what was counted stays.
    pub(crate) const fn is_over(&mut self) {
        self.suspended = None;
        self.is_held = false;
        self.recorded = [0; Cause::ALL.len()];
    }
}
