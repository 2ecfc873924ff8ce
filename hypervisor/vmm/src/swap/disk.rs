//! The disk behind the swap store: the store says what is to be done, the board does it, and nobody waits for it but who
//! needs what is read.

use super::Swap;
use crate::host::Host;
use crate::memory::{GuestMemory, MemoryError};
use crate::merge::Progress;
use pleat_overcommit::ledger::Purpose;
use pleat_overcommit::swap::{Direction, DiskError, DiskPlan, DiskRequest, NotHad};
use pleat_stage2::Page;
use pleat_types::{DiskDirection, DiskFailure, DiskRequest as BoardRequest, Gfn, Platform, SwapSlot, Tsc};

/// Blocks for each frame of the table of clean copies: 16 MiB of disk.
const BLOCKS_FOR_CLEAN: u64 = 4096;
/// A disk that takes no request for so many microseconds does not answer.
const PATIENCE_US: u64 = 5_000_000;
/// The table has at most so many frames.
const CLEAN_FRAMES_MAX: u64 = 64;

impl Swap {
    /// Whether contents can go to a disk, soon at least.
    pub(crate) fn has_open_disk(&self) -> bool {
        self.store.has_room_on_disk()
    }
}

impl<P: Platform> Host<P> {
    /// Gives the store the disk that was opened, with the frames that it takes.
    pub(crate) fn use_disk(&mut self) {
        let Some(info) = self.platform.disk_info() else {
            return;
        };
        let mut key = [0; 32];
        self.random.fill(&mut key);
        let clean = (info.blocks / BLOCKS_FOR_CLEAN).clamp(1, CLEAN_FRAMES_MAX);
        let plan = DiskPlan {
            blocks: u32::try_from(info.blocks).unwrap_or(u32::MAX),
            clean_frames: usize::try_from(clean).unwrap_or(1),
        };
        let (frames, memory) = (&mut self.frames, self.platform.memory());
        let give = || frames.allocate_swap(Purpose::Demand);
        if self.swap.store.begin_disk(memory, key, plan, give).is_none() {
            log::warn!("the disk is not used: there is no memory for what it takes");
        }
    }

    /// Sees what has become of the last request, and begins the next one. Whether one has ended, or none is under way.
    pub(crate) fn serve_disk(&mut self) -> bool {
        let begin = self.platform.now();
        let has_ended = self.end_disk_work();
        self.count_disk_work(begin);
        if !has_ended && self.swap.store.is_disk_busy() && self.swap.waiting.is_none() {
            return false;
        }
        let begin = self.platform.now();
        self.begin_disk_work();
        self.count_disk_work(begin);
        has_ended || !self.swap.store.is_disk_busy()
    }

    fn count_disk_work(&mut self, begin: Tsc) {
        let took = self.platform.now().since(begin).0;
        match self.swap.doing {
            Direction::Read => self.swap.ticks.disk_read += took,
            Direction::Write => self.swap.ticks.disk_write += took,
        }
    }

    /// Whether the last request has ended just now.
    fn end_disk_work(&mut self) -> bool {
        if !self.swap.store.is_disk_busy() || self.swap.waiting.is_some() {
            return false;
        }
        let Some(result) = self.platform.disk_poll() else {
            return false;
        };
        self.end_request(result);
        true
    }

    fn begin_disk_work(&mut self) {
        let next = match self.swap.waiting.take() {
            Some(request) => Ok(Some(request)),
            None => {
                self.swap.waiting_since = self.platform.now();
                self.swap.store.next_request(self.platform.memory())
            }
        };
        match next {
            Ok(Some(request)) => self.begin_request(request),
            Ok(None) => {}
            Err(_) => self.frames.note_refused(),
        }
    }

    fn begin_request(&mut self, request: DiskRequest) {
        self.swap.doing = request.direction;
        let started = self.platform.disk_start(&BoardRequest {
            direction: match request.direction {
                Direction::Read => DiskDirection::Read,
                Direction::Write => DiskDirection::Write,
            },
            first: u64::from(request.first),
            frames: &request.frames,
        });
        match started {
            Ok(()) => {}
            // It has not come back from a failure: tried again in the next turn.
            Err(DiskFailure::Busy) if !self.is_out_of_patience() => self.swap.waiting = Some(request),
            Err(DiskFailure::Busy) => self.end_request(Err(DiskFailure::TimedOut)),
            Err(failure) => self.end_request(Err(failure)),
        }
    }

    /// Whether the disk has been busy with nothing for too long: it is taken for one that does not answer.
    fn is_out_of_patience(&self) -> bool {
        let waited = self.platform.now().since(self.swap.waiting_since);
        waited >= self.micros(PATIENCE_US)
    }

    fn end_request(&mut self, result: Result<(), DiskFailure>) {
        let result = result.map_err(|failure| {
            log::warn!("disk of the host: {}", failure.text());
            error_of(failure)
        });
        if self.swap.store.finished(self.platform.memory(), result).is_err() {
            self.frames.note_refused();
        }
    }

    /// Asks for a content that is on the disk. It can be asked for until it is there.
    pub(crate) fn want_content(&mut self, slot: SwapSlot) -> Result<(), MemoryError> {
        match self.swap.store.want(self.platform.memory(), slot) {
            Ok(_) => Ok(()),
            Err(NotHad::Damaged | NotHad::Lost) => Err(MemoryError::Lost(slot)),
            Err(NotHad::OnDisk(_)) => Ok(()),
            Err(NotHad::Bug(_)) => Err(MemoryError::Bug("the swap store")),
        }
    }

    /// The same for the content of a page.
    pub(crate) fn want_page(&mut self, memory: &GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        match self.lookup(memory, gfn)?.page {
            Page::Swapped(slot) => self.want_content(slot),
            _ => Ok(()),
        }
    }

    /// Moves a content from the pool to the disk, if the pool is nearly full.
    pub(crate) fn write_back_some(&mut self) -> Progress {
        if !self.swap.store.wants_write_back() {
            return Progress::Idle;
        }
        let step = self.swap.store.write_back(self.platform.memory());
        if self.take_step(step) {
            Progress::Worked
        } else {
            Progress::Idle
        }
    }
}

/// What a failure is to the store.
const fn error_of(failure: DiskFailure) -> DiskError {
    match failure {
        DiskFailure::BadSector => DiskError::BadSector,
        DiskFailure::TimedOut => DiskError::TimedOut,
        DiskFailure::NoDisk | DiskFailure::Gone => DiskError::Gone,
        DiskFailure::Busy
        | DiskFailure::Malformed
        | DiskFailure::BeyondEnd
        | DiskFailure::Refused
        | DiskFailure::Transfer
        | DiskFailure::Short => DiskError::Transfer,
    }
}
