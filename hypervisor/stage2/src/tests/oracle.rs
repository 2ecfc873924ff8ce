//! A walker that knows the SDM and nothing of the codec: what a processor would make of the tables.

use std::collections::BTreeSet;
use std::vec::Vec;

use pleat_types::Hfn;

use super::memory::{FakeMemory, TRAP};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// With our kind: 0 hole, 1 untouched, 2 ballooned, 3 device.
    Absent(u64),
    /// With the slot that has its content.
    Swapped(u64),
    Mapped {
        frame: u64,
        size: u64,
        is_writable: bool,
        accessed: bool,
        dirty: bool,
        /// Bits 52 to 62, which the processor ignores.
        marks: u64,
    },
    Broken,
}

/// In [`View::Mapped`]: whose frame it is not, or not now; and where the epochs are that it owes.
pub const SHARED: u64 = 1;
pub const FROZEN: u64 = 1 << 10;
pub const OWED_SHIFT: u32 = 1;
pub const AGE_SHIFT: u32 = 5;
pub const AGE: u64 = 31 << AGE_SHIFT;

/// Kind 4, and an address that no memory has: bits 51 to 44 are all ones.
fn is_swapped(raw: u64) -> bool {
    raw & 0xfff == 0x20 && raw >> 44 == 0xff
}

pub fn view(memory: &FakeMemory, root: Hfn, gfn: u64) -> View {
    match place(memory, root, gfn) {
        Some((_, _, raw, _)) if raw & 7 == 0 && raw >> 3 < 4 => View::Absent(raw >> 3),
        Some((_, _, raw, 0)) if is_swapped(raw) => View::Swapped(!raw >> 12 & 0xff_ffff_ffff),
        Some((_, _, raw, level)) => mapped(raw, level, gfn),
        None => View::Broken,
    }
}

/// Whether a mapping is the same but for its size and what we note in it.
pub fn is_part_of(part: View, whole: View) -> bool {
    let resized = |view| match view {
        View::Mapped {
            frame,
            is_writable,
            accessed,
            dirty,
            ..
        } => Some((frame, is_writable, accessed, dirty)),
        View::Absent(_) | View::Swapped(_) | View::Broken => None,
    };
    resized(part).is_some() && resized(part) == resized(whole)
}

/// Table, index, raw entry and level (0 to 3) where the walk ends; `None` if it ends nowhere good.
pub fn place(memory: &FakeMemory, root: Hfn, gfn: u64) -> Option<(Hfn, usize, u64, u32)> {
    place_at(memory, root, gfn, 0)
}

/// The same for a walk that ends at this level, at a link too.
pub fn place_at(memory: &FakeMemory, root: Hfn, gfn: u64, down_to: u32) -> Option<(Hfn, usize, u64, u32)> {
    let mut table = root;
    for level in (down_to..4).rev() {
        let index = usize::try_from((gfn >> (9 * level)) & 511).unwrap();
        let raw = memory.raw(table, index)?;
        let is_leaf = level == 0 || raw & 0x80 != 0;
        if raw & 7 == 0 || is_leaf || level == down_to {
            return Some((table, index, raw, level));
        }
        // Everything is allowed on the way down; the leaf decides. Reserved bits 6:3 (SDM table 29-5).
        if raw & 0x7f != 7 || raw >> 52 != 0 {
            return None;
        }
        table = Hfn::new((raw >> 12) & 0xff_ffff_ffff);
    }
    None
}

/// All tables that a processor can come to.
pub fn tables(memory: &FakeMemory, root: Hfn) -> BTreeSet<Hfn> {
    let mut found = BTreeSet::from([root]);
    let mut upper = Vec::from([root]);
    for _ in 1..4 {
        let entries = upper
            .iter()
            .flat_map(|table| (0..512).map(move |index| memory.raw(*table, index)));
        let links = entries.flatten().filter(|raw| raw & 0x87 == 7);
        upper = links.map(|raw| Hfn::new((raw >> 12) & 0xff_ffff_ffff)).collect();
        found.extend(&upper);
    }
    found
}

/// The links that the walk to a page goes by.
pub fn links(memory: &FakeMemory, root: Hfn, gfn: u64) -> impl Iterator<Item = (Hfn, usize)> {
    (1..4).filter_map(move |level| {
        let (table, index, raw, at) = place_at(memory, root, gfn, level)?;
        (at == level && raw & 0x87 == 7).then_some((table, index))
    })
}

fn mapped(raw: u64, level: u32, gfn: u64) -> View {
    let size = 1 << (9 * level);
    let first = (raw >> 12) & 0xff_ffff_ffff;
    let is_write_back = raw & 0x78 == 0x30;
    let is_ours = raw >> 63 == 0 && level < 3;
    if !is_ours || !is_write_back || raw & 5 != 5 || !first.is_multiple_of(size) || first == TRAP {
        return View::Broken;
    }
    View::Mapped {
        frame: first + gfn % size,
        size,
        is_writable: raw & 2 != 0,
        accessed: raw & 0x100 != 0,
        dirty: raw & 0x200 != 0,
        marks: raw >> 52,
    }
}
