//! How the fake processor translates: its walks, the flags that they set, and what it remembers of them.
//!
//! It remembers as much as the manual allows (SDM 29.4), so that whoever forgets a flush is found out: a translation
//! stays, with its right to write and its dirty flag, whatever becomes of the entry; so do links to tables of 4 KiB
//! pages. A page has several linear addresses, and an EPT violation drops only what belongs to the one that was used.

use crate::fake_memory::FakeMemory;
use pleat_types::{Access, Gfn};
use std::collections::HashMap;

const READ: u64 = 1;
const WRITE: u64 = 1 << 1;
const LEAF: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Leaves with one of these do not own their frame: nobody may write through them.
const NOT_OWNED: u64 = 1 << 52 | 1 << 62;
/// In an EPT pointer: the processor sets accessed and dirty flags (SDM 26.6.11).
const FLAGS_ARE_SET: u64 = 1 << 6;
/// Entries of the page-modification log (SDM 29.3.6).
const LOG_ENTRIES: usize = 512;

/// Why an access did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    Violation,
    LogFull,
}

/// An access to guest-physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    pub eptp: u64,
    /// Which of the page's linear addresses is used.
    pub alias: usize,
    pub gpa: u64,
    pub access: Access,
}

/// What the processor remembers of a mapping.
#[derive(Clone, Copy, Debug)]
struct Translation {
    base: u64,
    is_writable: bool,
    is_dirty: bool,
}

/// What it remembers of the tables behind one EPT pointer.
#[derive(Debug, Default)]
struct Space {
    /// By linear address, level and number of the mapping at this level.
    mappings: HashMap<(usize, u32, u64), Translation>,
    /// Tables of 4 KiB pages, by the number of their 2 MiB.
    tables: HashMap<u64, u64>,
}

/// An entry on the way.
#[derive(Clone, Copy, Debug)]
struct Step {
    level: u32,
    at: u64,
    entry: u64,
}

/// All that it remembers.
#[derive(Debug, Default)]
pub struct Tlb {
    spaces: HashMap<u64, Space>,
    pub flushes: u64,
}

impl Tlb {
    /// INVEPT for one EPT pointer.
    pub fn flush(&mut self, eptp: u64) {
        self.spaces.remove(&eptp);
        self.flushes += 1;
    }

    /// Where the access goes. Pages that become dirty are written to `log`, if there is one.
    pub fn translate(
        &mut self,
        memory: &mut FakeMemory,
        reference: Reference,
        log: Option<&mut Vec<Gfn>>,
    ) -> Result<u64, Miss> {
        let space = self.spaces.entry(reference.eptp).or_default();
        if let Some(found) = space.remembered(reference)? {
            return Ok(found);
        }
        let Some(way) = space.walk(memory, reference) else {
            space.drop_one(reference);
            return Err(Miss::Violation);
        };
        let leaf = way[way.len() - 1];
        let becomes_dirty = reference.access == Access::Write && leaf.entry & DIRTY == 0;
        if let Some(log) = log.filter(|_| becomes_dirty) {
            if log.len() == LOG_ENTRIES {
                return Err(Miss::LogFull);
            }
            log.push(Gfn::new(reference.gpa >> 12));
        }
        assert!(reference.eptp & FLAGS_ARE_SET != 0, "no accessed and dirty flags");
        for step in &way {
            memory.set_flags(step.at, ACCESSED);
        }
        if becomes_dirty {
            memory.set_flags(leaf.at, DIRTY);
        }
        Ok(space.remember(reference, &way))
    }
}

impl Space {
    /// What is remembered for this access. A write through a translation that is not known to be dirty needs a walk,
    /// one through a translation that is known not to be writable is a violation.
    fn remembered(&mut self, reference: Reference) -> Result<Option<u64>, Miss> {
        let Reference {
            alias, gpa, access, ..
        } = reference;
        let mut levels = 0..3;
        let found = levels.find_map(|level| {
            let found = self.mappings.get(&(alias, level, gpa >> shift(level)))?;
            Some((level, *found))
        });
        let Some((level, found)) = found else {
            return Ok(None);
        };
        if access == Access::Write && !found.is_writable {
            self.drop_one(reference);
            return Err(Miss::Violation);
        }
        let is_enough = access != Access::Write || found.is_dirty;
        Ok(is_enough.then(|| found.base + gpa % (1 << shift(level))))
    }

    /// The entries on the way, the leaf last; `None` where one does not allow the access.
    fn walk(&self, memory: &FakeMemory, reference: Reference) -> Option<Vec<Step>> {
        let Reference {
            eptp, gpa, access, ..
        } = reference;
        let needed = if access == Access::Write {
            READ | WRITE
        } else {
            READ
        };
        let (mut level, mut table) = match self.tables.get(&(gpa >> shift(1))) {
            Some(table) => (0, *table),
            None => (3, eptp & FRAME),
        };
        let mut way = vec![];
        loop {
            let at = table + (gpa >> shift(level) & 511) * 8;
            let entry = memory.word(at);
            if entry & needed != needed {
                return None;
            }
            way.push(Step { level, at, entry });
            if level == 0 || entry & LEAF != 0 {
                let is_sound = entry & WRITE == 0 || entry & NOT_OWNED == 0;
                assert!(is_sound, "{entry:#x} at {gpa:#x} can be written");
                return Some(way);
            }
            table = entry & FRAME;
            level -= 1;
        }
    }

    /// Remembers a walk that succeeded, and says where it leads.
    fn remember(&mut self, reference: Reference, way: &[Step]) -> u64 {
        let Reference {
            alias, gpa, access, ..
        } = reference;
        if let Some(link) = way.iter().find(|step| step.level == 1 && step.entry & LEAF == 0) {
            self.tables.insert(gpa >> shift(1), link.entry & FRAME);
        }
        let leaf = way[way.len() - 1];
        let offset = (1 << shift(leaf.level)) - 1;
        let base = leaf.entry & FRAME & !offset;
        let translation = Translation {
            base,
            is_writable: leaf.entry & WRITE != 0,
            is_dirty: leaf.entry & DIRTY != 0 || access == Access::Write,
        };
        self.mappings
            .insert((alias, leaf.level, gpa >> shift(leaf.level)), translation);
        base + (gpa & offset)
    }

    /// A violation drops what could be used for this access again (SDM 29.4.3.1).
    fn drop_one(&mut self, reference: Reference) {
        let Reference { alias, gpa, .. } = reference;
        for level in 0..3 {
            self.mappings.remove(&(alias, level, gpa >> shift(level)));
        }
        self.tables.remove(&(gpa >> shift(1)));
    }
}

const fn shift(level: u32) -> u32 {
    12 + 9 * level
}
