//! What the disk is to do next.
//!
//! Somebody waits for a read, so reads come first; but after a few of them a write that is due has its turn, or memory
//! would never be freed while others come back. Writes are due when they fill a request, or when somebody asked for
//! them: a short request costs the disk nearly as much as a long one.

use arrayvec::ArrayVec;
use pleat_types::FrameMemory;

use super::blocks::Run;
use super::reads::READS;
use super::staging::Batch;
use super::{Direction, Disk, DiskRequest, DiskState, Flight, RUN_BLOCKS};
use crate::swap::error::Bug;
use crate::swap::slots::Slots;

/// Places of the table of clean copies that one request looks at for blocks.
const SWEEP: u32 = 1024;

impl Disk {
    /// What the disk is to do next, unless something is under way or nothing is due.
    pub(in crate::swap) fn next_request<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
    ) -> Result<Option<DiskRequest>, Bug> {
        if self.flight != Flight::None {
            return Ok(None);
        }
        let is_writes_turn = self.reads_in_a_row as usize >= READS && self.is_write_due(slots);
        if !is_writes_turn && let Some(request) = self.begin_read() {
            return Ok(Some(request));
        }
        self.begin_write(memory, slots)
    }

    /// Whether nothing is under way or due.
    pub(in crate::swap) fn is_idle(&self, slots: &Slots) -> bool {
        let has_read = self.reads.has_wanted() && self.can_read();
        self.flight == Flight::None && !has_read && !self.is_write_due(slots)
    }

    /// Whether a request is under way.
    pub(in crate::swap) fn is_busy(&self) -> bool {
        self.flight != Flight::None
    }

    /// What waits is written soon, even if it does not fill a request.
    pub(in crate::swap) const fn hurry(&mut self) {
        self.hurried = self.staging.waiting();
    }

    pub(super) const fn can_read(&self) -> bool {
        matches!(self.state, DiskState::Open | DiskState::ReadOnly)
    }

    fn begin_read(&mut self) -> Option<DiskRequest> {
        self.can_read().then_some(())?;
        let (index, first) = self.reads.begin_next()?;
        let mut frames = ArrayVec::new();
        frames.push(self.reads.frame(index)?);
        self.flight = Flight::Read(index);
        self.reads_in_a_row += 1;
        Some(DiskRequest {
            direction: Direction::Read,
            first,
            frames,
        })
    }

    /// Whether something is to be written, and there is where.
    fn is_write_due(&self, slots: &Slots) -> bool {
        let waiting = self.staging.waiting();
        let is_enough = waiting >= RUN_BLOCKS || (self.hurried > 0 && waiting > 0);
        let has_block = u64::from(self.blocks.free_count()) + slots.counts().clean > 0;
        self.state == DiskState::Open && (self.staging.has_placed() || (is_enough && has_block))
    }

    fn begin_write<M: FrameMemory>(
        &mut self,
        memory: &mut M,
        slots: &mut Slots,
    ) -> Result<Option<DiskRequest>, Bug> {
        if !self.is_write_due(slots) {
            return Ok(None);
        }
        let mut batch = Batch::new();
        let first = if let Some((buffer, block)) = self.staging.begin_alone() {
            batch.push(buffer);
            block
        } else {
            let want = self.staging.waiting().min(RUN_BLOCKS);
            self.make_room(memory, slots, want)?;
            let Some(run) = self.blocks.allocate_run(memory, want) else {
                return Ok(None);
            };
            batch = self.begin_run(run);
            run.first
        };
        let frames = batch
            .iter()
            .filter_map(|buffer| self.staging.frame(*buffer))
            .collect();
        self.flight = Flight::Write(batch);
        self.reads_in_a_row = 0;
        Ok(Some(DiskRequest {
            direction: Direction::Write,
            first,
            frames,
        }))
    }

    fn begin_run(&mut self, run: Run) -> Batch {
        let batch = self.staging.begin_run(run);
        self.hurried = self.hurried.saturating_sub(run.count).min(self.staging.waiting());
        batch
    }

    /// Clean copies give up their blocks until so many are free, or enough places were looked at.
    fn make_room<M: FrameMemory>(&mut self, memory: &mut M, slots: &mut Slots, want: u32) -> Result<(), Bug> {
        let mut places = SWEEP;
        while self.blocks.free_count() < want {
            let Some(slot) = self.clean.sweep(memory, &mut places) else {
                break;
            };
            self.drop_clean(memory, slots, slot)?;
        }
        Ok(())
    }
}
