//! A guest's tables and what they lie in, brought together for an operation; and what comes out of one.

use super::{GuestMemory, Life, MemoryError};
use crate::frames::{FixedTables, Tables};
use crate::host::Host;
use pleat_overcommit::ledger::{Purpose, Row};
use pleat_stage2::{Part, Parts, PendingFlush, Retired, Stage2};
use pleat_types::Platform;

impl<P: Platform> Host<P> {
    /// Reads or changes entries where no table can be added.
    pub(crate) fn with_fixed_tables<R>(
        &mut self,
        memory: &GuestMemory,
        act: impl FnOnce(&Stage2, &mut FixedTables<'_, P::Memory>) -> R,
    ) -> Result<R, MemoryError> {
        let stage2 = memory.stage2();
        let stage2 = stage2.ok_or(MemoryError::Bug("a guest without tables"))?;
        Ok(act(stage2, &mut FixedTables(self.platform.memory())))
    }

    /// Changes a guest's tables; new ones come from the pool.
    pub(crate) fn with_tables<R>(
        &mut self,
        memory: &mut GuestMemory,
        act: impl FnOnce(&mut Stage2, &mut Tables<'_, P::Memory>) -> R,
    ) -> Result<R, MemoryError> {
        self.with_tables_for(Purpose::Demand, memory, act)
    }

    /// The same, where new tables are for freeing memory: they may come from the reserve.
    pub(crate) fn with_relief_tables<R>(
        &mut self,
        memory: &mut GuestMemory,
        act: impl FnOnce(&mut Stage2, &mut Tables<'_, P::Memory>) -> R,
    ) -> Result<R, MemoryError> {
        self.with_tables_for(Purpose::Relief, memory, act)
    }

    /// The same, where new tables are for this.
    pub(super) fn with_tables_for<R>(
        &mut self,
        purpose: Purpose,
        memory: &mut GuestMemory,
        act: impl FnOnce(&mut Stage2, &mut Tables<'_, P::Memory>) -> R,
    ) -> Result<R, MemoryError> {
        let Life::Live(stage2) = &mut memory.life else {
            return Err(MemoryError::Bug("a guest without tables"));
        };
        let mut tables = Tables {
            memory: self.platform.memory(),
            frames: &mut self.frames,
            guest: memory.guest,
            purpose,
        };
        Ok(act(stage2, &mut tables))
    }

    /// Flushes where that is due, and gives back what was waiting for it.
    pub(crate) fn settle<const N: usize>(&mut self, mut pending: PendingFlush<N>) {
        let mut row = Row::EMPTY;
        for retired in pending.settle_in_place(|eptp| self.platform.flush(eptp)) {
            match retired {
                Retired::Frame(frame) => self.frames.release_with(&mut row, frame),
                Retired::Table(table) => self.frames.release_table(table),
                Retired::Parts(parts) => self.release_parts(parts),
                Retired::Share(share) => self.frames.release_share(self.platform.memory(), share),
                Retired::Slot(reference) => self.release_slot(reference),
            }
        }
        self.frames.release_row(row);
    }

    /// Gives back what the 512 pages of a table had, and the table. If that finds a table that is not what it was, the
    /// rest stays lost, which the audit shows.
    fn release_parts(&mut self, parts: Parts) {
        let (frames, swap, mut row) = (&mut self.frames, &mut self.swap, Row::EMPTY);
        let mut tables = FixedTables(self.platform.memory());
        let give = |tables: &mut FixedTables<'_, P::Memory>, part| match part {
            Part::Frame(frame) => frames.release_with(&mut row, frame),
            Part::Share(share) => frames.release_share(tables.0, share),
            Part::Slot(reference) => swap.release(tables.0, frames, reference),
        };
        let drained = parts.drain(&mut tables, give);
        self.frames.release_row(row);
        if let Ok(table) = drained {
            self.frames.release_table(table);
        }
    }

    /// Drops the translations of a guest.
    pub(crate) fn flush(&mut self, memory: &GuestMemory) {
        if let Some(stage2) = memory.stage2() {
            self.platform.flush(stage2.eptp());
        }
    }
}
