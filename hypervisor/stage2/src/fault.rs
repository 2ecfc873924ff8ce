//! What an EPT violation asks for.

use pleat_types::{Access, PageSize, SwapSlot};

use crate::find::Mapping;
use crate::table::Page;

/// What has to happen before the access can succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultAction {
    /// A first read: map the zero frame.
    MapZero,
    /// A first write, or a write to the zero frame: map a frame of its own. `largest` is the largest
    /// mapping that the untouched memory around the page has room for.
    MapUnique {
        /// [`PageSize::Small`] where some of the 2 MiB around the page is mapped or something else.
        largest: PageSize,
    },
    /// A write to a page that shares its frame: give it a copy, or the frame itself when nobody else has a
    /// share in it ([`crate::Stage2::part`]).
    BreakShare,
    /// A write to a page that is being compared: enter again when it was thawed. Cannot be while the
    /// processor that compares is the one that runs the guest.
    Thaw,
    /// The guest took the page back from its balloon without saying so: make it untouched, and look
    /// again.
    Deflate,
    /// A slot of the swap store has its content: bring it back ([`crate::Stage2::swap_in`]).
    SwapIn(SwapSlot),
    /// A device answers there.
    Device,
    /// Nothing was promised there.
    Hole,
    /// The mapping allows it already: the fault came from a translation that was stale; enter again.
    Spurious,
}

impl Mapping {
    /// What an access to this page asks for.
    #[must_use]
    pub const fn action(&self, access: Access) -> FaultAction {
        match (self.page, access) {
            (Page::Hole, _) => FaultAction::Hole,
            (Page::Device, _) => FaultAction::Device,
            (Page::Ballooned, _) => FaultAction::Deflate,
            (Page::Swapped(slot), _) => FaultAction::SwapIn(slot),
            (Page::Untouched, Access::Read | Access::Fetch) => FaultAction::MapZero,
            (Page::Untouched | Page::Zero, Access::Write) => FaultAction::MapUnique {
                largest: self.largest(),
            },
            (Page::Shared(_), Access::Write) => FaultAction::BreakShare,
            (Page::Frozen(_), Access::Write) => FaultAction::Thaw,
            (Page::Zero | Page::Shared(_) | Page::Frozen(_), Access::Read | Access::Fetch)
            | (Page::Unique(_), _) => FaultAction::Spurious,
        }
    }

    const fn largest(&self) -> PageSize {
        match self.level.page_size() {
            Some(size) => size,
            None => PageSize::Huge,
        }
    }
}
