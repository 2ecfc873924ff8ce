//! Where a guest's tables lie.

use super::FramePool;
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::TableMemory;
use pleat_types::{FrameMemory, GuestId, Hfn, LINE};

/// A guest's tables where none can be added: to look something up, or to change an entry that is there.
pub(crate) struct FixedTables<'a, M: FrameMemory>(pub(crate) &'a mut M);

impl<M: FrameMemory> TableMemory for FixedTables<'_, M> {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.0.load_entry(table, index)
    }

    fn load_line(&self, table: Hfn, index: usize) -> [u64; LINE] {
        self.0.load_line(table, index)
    }

    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.0.store_entry(table, index, value);
    }

    fn allocate_table(&mut self) -> Option<Hfn> {
        None
    }

    /// None was allocated.
    fn free_table(&mut self, _: Hfn) {}
}

/// Where a guest's tables lie: frames of the pool.
pub(crate) struct Tables<'a, M: FrameMemory> {
    pub(crate) memory: &'a mut M,
    pub(crate) frames: &'a mut FramePool,
    pub(crate) guest: GuestId,
    /// What new tables are for.
    pub(crate) purpose: Purpose,
}

impl<M: FrameMemory> TableMemory for Tables<'_, M> {
    fn load(&self, table: Hfn, index: usize) -> u64 {
        self.memory.load_entry(table, index)
    }

    fn store(&mut self, table: Hfn, index: usize, value: u64) {
        self.memory.store_entry(table, index, value);
    }

    fn allocate_table(&mut self) -> Option<Hfn> {
        self.frames.ledger.allocate_table(self.guest, self.purpose).ok()
    }

    fn allocate_table_for_absent(&mut self) -> Option<Hfn> {
        let ledger = &mut self.frames.ledger;
        ledger.allocate_table(self.guest, Purpose::Demand).ok()
    }

    fn free_table(&mut self, table: Hfn) {
        self.frames.release_table(table);
    }
}
