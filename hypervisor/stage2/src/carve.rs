//! A part of something larger becomes something else, and the rest stays what it is.

use pleat_types::{Gfn, Hfn};

use crate::codec::{ENTRIES, Entry, Leaf, Level};
use crate::error::Bug;
use crate::memory::TableMemory;
use crate::table::{ATTEMPTS, Page, Place, Spares, Stage2};

/// What a part left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Carved {
    /// The table that holds the part's entry.
    pub table: Hfn,
    /// The first frame that the part was mapped to; a flush is due then.
    pub frame: Option<Hfn>,
}

impl Stage2 {
    /// Puts the absent entry `new` at level `target` in the midst of what `place` says for more than that, in one
    /// step: the tables in between come from `spares`, one for each level. Of a mapping the other parts become
    /// mappings of their own, as with [`Stage2::split`].
    pub(crate) fn carve<M: TableMemory>(
        &mut self,
        memory: &mut M,
        place: Place,
        gfn: Gfn,
        target: Level,
        new: Entry,
        spares: &mut Spares,
    ) -> Result<Carved, Bug> {
        // The lowest one is taken first.
        let table = *spares.last().ok_or(Bug::WrongState(gfn))?;
        let Entry::Leaf(_) = place.entry else {
            self.install(memory, place, gfn, target, new, spares)?;
            return Ok(Carved { table, frame: None });
        };
        let part = Part {
            gfn,
            level: target,
            new: Some(new),
        };
        spares.reverse();
        let whole = link_parts(memory, place, &part, spares)?;
        spares.clear();
        let parts = Page::Unique(whole.frame);
        self.counters.remove(parts, place.level, 1);
        for level in Level::ALL
            .into_iter()
            .filter(|level| (target..place.level).contains(level))
        {
            self.counters.add(parts, level, ENTRIES as u64 - 1);
            self.counters.add_table(level);
        }
        self.counters.add(self.page(new, target)?, target, 1);
        let offset = target.first(gfn).get() - place.level.first(gfn).get();
        Ok(Carved {
            table,
            frame: Some(Hfn::new(whole.frame.get() + offset)),
        })
    }
}

/// A part of a mapping.
pub(crate) struct Part {
    /// A page in it.
    pub gfn: Gfn,
    /// Its size.
    pub level: Level,
    /// What it becomes; `None`: a mapping, as the other parts.
    pub new: Option<Entry>,
}

/// Replaces a large leaf by a link to its parts in `tables`, the lowest one first, and says what it was.
pub(crate) fn link_parts<M: TableMemory>(
    memory: &mut M,
    place: Place,
    part: &Part,
    tables: &[Hfn],
) -> Result<Leaf, Bug> {
    let (mut raw, level) = (place.raw, place.level);
    for _ in 0..ATTEMPTS {
        let Entry::Leaf(whole) = Entry::decode(raw, level)? else {
            break;
        };
        let link = fill_parts(memory, whole, part, tables).ok_or(Bug::Malformed { raw, level })?;
        match memory.compare_exchange(place.table, place.index, raw, link.encode()) {
            Ok(()) => return Ok(whole),
            Err(now) => raw = now,
        }
    }
    Err(Bug::Malformed { raw, level })
}

/// Fills the tables from the bottom up; the link to the uppermost one. Every part inherits the accessed and dirty bits,
/// so no write is forgotten, and owes an epoch, so that it is looked at for itself.
fn fill_parts<M: TableMemory>(memory: &mut M, whole: Leaf, part: &Part, tables: &[Hfn]) -> Option<Entry> {
    let mut inner = part.new;
    let levels = Level::ALL.into_iter().skip_while(|level| *level < part.level);
    let within = part.gfn.get() % whole.size.frames();
    for (level, table) in levels.zip(tables) {
        let size = level.page_size()?;
        let first = whole.frame.get() + within - within % (size.frames() * ENTRIES as u64);
        let around = Leaf {
            size,
            calm_owed: 1,
            ..whole
        };
        for (index, number) in (0..ENTRIES).zip(0..) {
            let frame = Hfn::new(first + number * size.frames());
            let entry = match inner {
                Some(inner) if index == level.index(part.gfn) => inner,
                _ => Entry::Leaf(Leaf { frame, ..around }),
            };
            memory.store(*table, index, entry.encode());
        }
        inner = Some(Entry::Table(*table));
    }
    inner
}
