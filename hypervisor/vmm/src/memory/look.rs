//! Where the scanner for equal pages stands with one guest.

use super::regions::Regions;
use pleat_overcommit::promise::HostState;
use pleat_types::{Gfn, Tsc};

/// One look after another at a guest's pages. A look takes what was due when it began; meanwhile things become due
/// for the next one.
#[derive(Debug)]
pub(crate) struct Look {
    /// For the next look.
    pub(crate) due: Regions,
    /// Where pages found no room in the index: to be tried again when there is some.
    pub(crate) missed: Regions,
    /// What this look has not come to yet.
    pub(crate) left: Regions,
    /// The rest of the region that this look is in.
    pub(crate) within: Option<(Gfn, Gfn)>,
    /// When this look began; `None` before the first one.
    pub(crate) began: Option<Tsc>,
    /// Pages that this look found written in the 2 MiB that it is in.
    pub(crate) written_here: u64,
    /// Pages that this look found written again before they were calm.
    pub(crate) rewritten: u64,
    /// The same for the last look that was finished.
    pub(crate) volatile: u64,
    /// The guest's processor time when the look began: who has not run has written nothing.
    pub(crate) ran: Tsc,
    /// How scarce memory was when the look began.
    pub(crate) state: HostState,
    /// How many 2 MiB mappings, of all guests, had been split when it began.
    pub(crate) splits: u64,
}

impl Look {
    /// No look yet, at a guest whose addresses end there.
    pub(crate) const fn new(end: Gfn) -> Self {
        Self {
            due: Regions::none(end),
            missed: Regions::none(end),
            left: Regions::none(end),
            within: None,
            began: None,
            written_here: 0,
            rewritten: 0,
            volatile: 0,
            ran: Tsc(0),
            state: HostState::High,
            splits: 0,
        }
    }

    /// The next stretch of memory to be looked at; `None` when the look is over.
    pub(crate) fn next_stretch(&mut self) -> Option<(Gfn, Gfn)> {
        self.within.take().or_else(|| self.left.take_first())
    }
}
