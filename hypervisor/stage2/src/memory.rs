//! What the tables lie in.

use pleat_types::{Hfn, LINE};

/// Memory that holds extended page tables, and the source of frames for new ones.
///
/// Entries are read and written in one access each, because the processor walks the same tables.
pub trait TableMemory {
    /// Reads the entry `index` (0 to 511) of a table.
    fn load(&self, table: Hfn, index: usize) -> u64;

    /// Reads the eight entries from `index`, a multiple of eight, on.
    fn load_line(&self, table: Hfn, index: usize) -> [u64; LINE] {
        core::array::from_fn(|n| self.load(table, index + n))
    }

    /// Writes the entry `index` (0 to 511) of a table.
    fn store(&mut self, table: Hfn, index: usize, value: u64);

    /// A frame for a new table; its content does not matter. `None` when the host is short.
    fn allocate_table(&mut self) -> Option<Hfn>;

    /// The same for a table that only cuts up what is not backed: it brings no frame back, so it must leave alone what is
    /// kept for who would.
    fn allocate_table_for_absent(&mut self) -> Option<Hfn> {
        self.allocate_table()
    }

    /// Takes back a frame from [`TableMemory::allocate_table`] that was never linked, so that no
    /// processor can know it and no flush is due.
    fn free_table(&mut self, table: Hfn);

    /// Writes an entry if it still holds `current`; else says what it holds.
    ///
    /// The processor may set accessed and dirty bits between a load and a store. On one processor nothing
    /// runs in between and this default is right; where other processors run the guest meanwhile, the
    /// implementation must make it one locked operation, or dirty bits get lost.
    fn compare_exchange(&mut self, table: Hfn, index: usize, current: u64, new: u64) -> Result<(), u64> {
        match self.load(table, index) {
            now if now == current => {
                self.store(table, index, new);
                Ok(())
            }
            now => Err(now),
        }
    }
}
