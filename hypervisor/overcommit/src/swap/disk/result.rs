//! What came of a request.
//!
//! A write that failed has lost nothing: its contents are in their buffers still. A request of several blocks goes
//! again block by block; a single block that the medium refuses is marked, and its content goes elsewhere. When nothing
//! but failures come in a row the disk is not written any more, and what is staged stays where it is. A read that
//! failed is tried again a few times; then its content is lost, and whoever asks is told.

use pleat_types::FrameMemory;

use super::staging::Batch;
use super::{Disk, DiskError, DiskState, Flight};
use crate::swap::error::Bug;
use crate::swap::slots::{DiskPlace, Location, Slots};

/// So many failures in a row, and the disk is not written any more: more than a run of bad blocks has.
const FAILURES_MAX: u32 = 64;
/// So many requests in a row without an answer: each of them took seconds.
const TIME_OUTS_MAX: u32 = 3;

impl Disk {
    /// The request that was under way has ended like this.
    pub(in crate::swap) fn finished<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
        result: Result<(), DiskError>,
    ) -> Result<(), Bug> {
        let flight = core::mem::replace(&mut self.flight, Flight::None);
        if flight == Flight::None {
            return Ok(());
        }
        match (flight, result) {
            (Flight::Write(batch), Ok(())) => self.written(memory, slots, &batch)?,
            (Flight::Write(batch), Err(error)) => self.not_written(memory, &batch, error)?,
            (Flight::Read(index), Ok(())) => {
                self.reads.arrive(index);
                self.work.reads += 1;
            }
            (Flight::Read(index), Err(_)) => self.reads.fail(index),
            (Flight::None, _) => {}
        }
        self.judge(memory, result)
    }

    /// The disk has these contents.
    fn written<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
        batch: &Batch,
    ) -> Result<(), Bug> {
        self.work.write_requests += 1;
        self.work.writes += batch.len() as u64;
        for buffer in batch {
            let held = self.staging.get(*buffer).ok_or(Bug::NotStaged(*buffer))?;
            let block = held.block().ok_or(Bug::NotStaged(*buffer))?;
            let write = held.write;
            self.staging.empty(*buffer);
            match held.slot() {
                Some(slot) => {
                    slots.set_location(memory, slot, Location::Disk(DiskPlace { block, write }))?;
                }
                None => self.blocks.free(memory, block)?,
            }
        }
        Ok(())
    }

    /// The disk may have some of these contents, or parts of some.
    fn not_written<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        batch: &Batch,
        error: DiskError,
    ) -> Result<(), Bug> {
        let is_known_bad = batch.len() == 1 && error == DiskError::BadSector;
        for buffer in batch {
            let held = self.staging.get(*buffer).ok_or(Bug::NotStaged(*buffer))?;
            self.staging.land(*buffer);
            let is_nobodys = held.slot().is_none();
            if !is_known_bad && !is_nobodys {
                continue;
            }
            match self.staging.unplace(*buffer) {
                Some(block) if is_known_bad => self.blocks.mark_bad(block),
                Some(block) => self.blocks.free(memory, block)?,
                None => {}
            }
            if is_nobodys {
                self.staging.empty(*buffer);
            } else {
                // It was due, and is.
                self.hurried += 1;
            }
        }
        Ok(())
    }

    /// Whether the disk can be used further.
    fn judge<M: FrameMemory>(&mut self, memory: &mut M, result: Result<(), DiskError>) -> Result<(), Bug> {
        let Err(error) = result else {
            (self.failed_in_a_row, self.timed_out_in_a_row) = (0, 0);
            return Ok(());
        };
        match error {
            DiskError::BadSector => self.work.bad_sectors += 1,
            DiskError::Transfer => self.work.transfer_errors += 1,
            DiskError::TimedOut => {
                self.work.time_outs += 1;
                self.timed_out_in_a_row += 1;
            }
            DiskError::Gone => return self.close(memory, DiskState::Gone),
        }
        self.failed_in_a_row += 1;
        if self.failed_in_a_row >= FAILURES_MAX || self.timed_out_in_a_row >= TIME_OUTS_MAX {
            self.close(memory, DiskState::ReadOnly)?;
        }
        Ok(())
    }

    /// Nothing is written any more. Contents that had a block to go to stay without.
    fn close<M: FrameMemory>(&mut self, memory: &mut M, state: DiskState) -> Result<(), Bug> {
        if self.state != DiskState::Gone {
            self.state = state;
        }
        while let Some(buffer) = self.staging.any_placed() {
            if let Some(block) = self.staging.unplace(buffer) {
                self.blocks.free(memory, block)?;
            }
        }
        Ok(())
    }
}
