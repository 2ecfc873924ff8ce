//! A table that was taken out with all that its pages had.

use pleat_types::{Hfn, OwnedFrame, PageSize, Share, SlotReference};

use crate::codec::{Backing, ENTRIES, Entry, Level};
use crate::error::Bug;
use crate::memory::TableMemory;

/// A table that nothing links to any more, and what its 512 pages had: each comes out once.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "the frames have to go back to the ledger"]
pub struct Parts {
    table: Hfn,
}

/// What one of the pages had.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "it has to go back to the ledger"]
pub enum Part {
    /// A frame of its own.
    Frame(OwnedFrame),
    /// A share in a frame.
    Share(Share),
    /// The reference to a slot.
    Slot(SlotReference),
}

impl Parts {
    /// Of a table without pages that are compared, or that map the zero frame: a table alone does not tell it from
    /// other frames that pages share.
    pub(crate) const fn of(table: Hfn) -> Self {
        Self { table }
    }

    /// Gives out what the pages had, and then the table.
    pub fn drain<M: TableMemory>(
        self,
        memory: &mut M,
        mut give: impl FnMut(&mut M, Part),
    ) -> Result<Hfn, Bug> {
        for index in 0..ENTRIES {
            let raw = memory.load(self.table, index);
            let leaf = match Entry::decode(raw, Level::One)? {
                Entry::Leaf(leaf) => leaf,
                Entry::Swapped(slot) => {
                    give(memory, Part::Slot(SlotReference::claim(slot)));
                    continue;
                }
                _ => continue,
            };
            let part = match leaf.backing {
                Backing::Owned => Part::Frame(OwnedFrame::claim(leaf.frame, PageSize::Small)),
                Backing::Shared => Part::Share(Share::claim(leaf.frame)),
                Backing::Frozen => {
                    let level = Level::One;
                    return Err(Bug::Malformed { raw, level });
                }
            };
            give(memory, part);
        }
        Ok(self.table)
    }
}
