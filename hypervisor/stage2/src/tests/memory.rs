//! Table memory that remembers every store, fails on demand, and is full of traps where it is not used.

use std::vec::Vec;

use pleat_types::Hfn;

use crate::memory::TableMemory;

const FIRST_TABLE: u64 = 0x1000;
/// A frame that nothing may ever map.
pub const TRAP: u64 = 0xbad;
/// Present at every level, whatever it is taken for.
const TRAP_ENTRY: u64 = (TRAP << 12) | 0x37;

#[derive(Clone, Copy)]
pub struct Store {
    table: Hfn,
    index: usize,
    old: u64,
    new: u64,
}

impl Store {
    pub const fn table(&self) -> Hfn {
        self.table
    }

    /// Whether a link was put in or taken out.
    pub const fn is_of_link(&self) -> bool {
        self.old & 0x7f == 7 || self.new & 0x7f == 7
    }
}

#[derive(Default)]
pub struct FakeMemory {
    tables: Vec<[u64; 512]>,
    live: Vec<bool>,
    log: Vec<Store>,
    /// Allocations that still succeed.
    pub allocations_left: Option<usize>,
}

impl FakeMemory {
    fn slot(&self, table: Hfn) -> Option<usize> {
        // As plain as can be: this is most of what the random tests do, and they are not optimized.
        let slot = usize::try_from(table.get().wrapping_sub(FIRST_TABLE)).unwrap();
        if slot < self.live.len() && self.live[slot] {
            Some(slot)
        } else {
            None
        }
    }

    /// An entry as the processor reads it; `None` where there is no table.
    pub fn raw(&self, table: Hfn, index: usize) -> Option<u64> {
        self.slot(table).map(|slot| self.tables[slot][index])
    }

    /// Sets bits as the processor does, which is no store of ours.
    pub fn set_bits(&mut self, table: Hfn, index: usize, bits: u64) {
        let slot = self.slot(table).expect("no such table");
        self.tables[slot][index] |= bits;
    }

    pub fn live_tables(&self) -> usize {
        self.live.iter().filter(|live| **live).count()
    }

    /// A table comes back after its flush.
    pub fn release(&mut self, table: Hfn) {
        let slot = self.slot(table).expect("released twice");
        self.live[slot] = false;
        self.tables[slot] = [TRAP_ENTRY; 512];
    }

    pub fn take_log(&mut self) -> Vec<Store> {
        core::mem::take(&mut self.log)
    }

    pub fn undo(&mut self, store: Store) {
        self.put(store.table, store.index, store.old);
    }

    pub fn redo(&mut self, store: Store) {
        self.put(store.table, store.index, store.new);
    }

    fn put(&mut self, table: Hfn, index: usize, value: u64) {
        // A table may have been given back unused by the time that its stores are rewound.
        if let Some(slot) = self.slot(table) {
            self.tables[slot][index] = value;
        }
    }
}

impl TableMemory for FakeMemory {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.raw(table, index).expect("load from what is no table")
    }

    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        let old = self.load(table, index);
        self.log.push(Store {
            table,
            index,
            old,
            new: value,
        });
        self.put(table, index, value);
    }

    fn allocate_table(&mut self) -> Option<Hfn> {
        if let Some(left) = &mut self.allocations_left {
            *left = left.checked_sub(1)?;
        }
        let free = self.live.iter().position(|live| !live);
        let slot = free.unwrap_or_else(|| {
            self.tables.push([TRAP_ENTRY; 512]);
            self.live.push(false);
            self.live.len() - 1
        });
        self.live[slot] = true;
        Some(Hfn::new(FIRST_TABLE + slot as u64))
    }

    fn free_table(&mut self, table: Hfn) {
        self.release(table);
    }
}
