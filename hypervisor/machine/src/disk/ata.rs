//! An ATA disk: one request at a time, by its bus master or by the processor.
//!
//! With the bus master, a request costs a dozen writes to registers when it starts and a few reads when it has ended. By
//! the processor (PIO) each poll moves what the device has ready, a bounded number of sectors, so that guests run in
//! between. READ and WRITE SECTORS ask for a sector at a time; the variants for several at once save interrupts, which
//! nobody waits for here, and have a setting that a reset forgets.
//!
//! No FLUSH CACHE: the content of this disk means nothing to the next boot.

use arrayvec::ArrayVec;
use pleat_types::{DISK_RUN, DiskDirection, DiskFailure, DiskKind, DiskRequest, Hfn};

use super::bus_master::{self, BusMaster, Progress};
use super::channel;
use super::task::{BUSY, DATA_REQUEST, Identity, SECTOR, SECTORS, Task, Way, outcome};
use crate::frames::Frames;

/// Sectors that one poll moves at most: 8 KiB, which take about as long as an exit of a guest or two.
const SECTORS_A_POLL: usize = 16;

/// An ATA disk that was found.
pub struct Ata {
    identity: Identity,
    bus_master: Option<BusMaster>,
    transfer: Option<Transfer>,
}

/// The request that is under way.
struct Transfer {
    direction: DiskDirection,
    frames: ArrayVec<Hfn, DISK_RUN>,
    way: Way,
    /// Sectors that the processor has moved.
    moved: usize,
}

impl Ata {
    /// Asks the first device of the first channel what it is. `kind` says whether a bus master may be used.
    pub fn find(kind: Option<DiskKind>, patience: u64) -> Option<Self> {
        if kind == Some(DiskKind::Virtio) {
            return None;
        }
        // Before the question: a disk behind a bus master without a place may say that it knows no DMA.
        let bus_master = match kind {
            Some(DiskKind::AtaPio) => None,
            _ => BusMaster::find(),
        };
        let identity = channel::identify(patience)?;
        let bus_master = bus_master.filter(|_| identity.has_dma);
        let is_wanted = kind != Some(DiskKind::AtaDma) || bus_master.is_some();
        is_wanted.then_some(Self {
            identity,
            bus_master,
            transfer: None,
        })
    }

    /// How it is reached.
    pub const fn kind(&self) -> DiskKind {
        match self.bus_master {
            Some(_) => DiskKind::AtaDma,
            None => DiskKind::AtaPio,
        }
    }

    /// Whole blocks that it has.
    pub const fn blocks(&self) -> u64 {
        self.identity.sectors / SECTORS as u64
    }

    /// Gives the device a request that was checked.
    pub fn start(&mut self, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        match channel::quiet_status() {
            _ if channel::is_floating() => return Err(DiskFailure::Gone),
            status if status & (BUSY | DATA_REQUEST) != 0 => return Err(DiskFailure::Busy),
            _ => {}
        }
        let addresses = bus_master::addresses(request.frames);
        let master = self.bus_master.zip(addresses);
        let way = if master.is_some() { Way::Dma } else { Way::Pio };
        let task = Task::transfer(request.direction, way, request.first, request.frames.len());
        match master {
            Some((master, addresses)) => {
                master.prepare(request.direction, &addresses);
                channel::issue(&task);
                master.run(request.direction);
            }
            None => channel::issue(&task),
        }
        self.transfer = Some(Transfer {
            direction: request.direction,
            frames: request.frames.iter().copied().collect(),
            way,
            moved: 0,
        });
        Ok(())
    }

    /// A poll would find something to do.
    pub fn is_due(&self) -> bool {
        match (&self.transfer, self.bus_master) {
            (None, _) => false,
            (Some(transfer), Some(master)) if transfer.way == Way::Dma => {
                master.progress() != Progress::UnderWay
            }
            (Some(_), _) => channel::quiet_status() & BUSY == 0,
        }
    }

    /// Goes on with the request; says how it ended, if it has.
    pub fn poll(&mut self, frames: &Frames) -> Option<Result<(), DiskFailure>> {
        let transfer = self.transfer.as_mut()?;
        let result = match (transfer.way, self.bus_master) {
            (Way::Dma, Some(master)) => poll_master(master),
            _ => transfer.poll(frames),
        };
        if result.is_some() {
            self.transfer = None;
        }
        result
    }

    /// Gives the request up: afterwards nobody touches its frames.
    pub fn abandon(&mut self) {
        if let Some(master) = self.bus_master {
            master.stop();
        }
        channel::reset();
        self.transfer = None;
    }
}

/// How a transfer by the bus master stands.
fn poll_master(master: BusMaster) -> Option<Result<(), DiskFailure>> {
    let progress = master.progress();
    if progress == Progress::UnderWay || channel::quiet_status() & BUSY != 0 {
        return None;
    }
    master.stop();
    let status = channel::status(); // acknowledges the device's interrupt
    Some(match outcome(status, channel::error()) {
        Ok(()) if progress == Progress::Failed => Err(DiskFailure::Transfer),
        Ok(()) if status & DATA_REQUEST != 0 => Err(DiskFailure::Short),
        other => other,
    })
}

impl Transfer {
    /// Moves what the device is ready for, a bounded number of sectors.
    fn poll(&mut self, frames: &Frames) -> Option<Result<(), DiskFailure>> {
        for _ in 0..SECTORS_A_POLL {
            let status = channel::status();
            if status & BUSY != 0 {
                return None;
            }
            if let Err(failure) = outcome(status, channel::error()) {
                return Some(Err(failure));
            }
            let is_whole = self.moved == self.frames.len() * SECTORS;
            match (status & DATA_REQUEST != 0, is_whole) {
                (false, true) => return Some(Ok(())),
                (true, false) => self.move_sector(frames),
                // It has ended early, or wants to move more than was asked for.
                _ => return Some(Err(DiskFailure::Short)),
            }
        }
        None
    }

    fn move_sector(&mut self, frames: &Frames) {
        let (frame, sector) = (self.frames[self.moved / SECTORS], self.moved % SECTORS);
        let bytes = frames.part(frame, sector * SECTOR, SECTOR);
        // SAFETY: a sector of a frame that was handed out, and that belongs to the disk until the request has ended.
        unsafe {
            match self.direction {
                DiskDirection::Read => channel::read_sector(bytes),
                DiskDirection::Write => channel::write_sector(bytes),
            }
        }
        self.moved += 1;
        channel::settle();
    }
}
