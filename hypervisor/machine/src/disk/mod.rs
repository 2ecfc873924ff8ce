//! The host's own disk: a virtio block device, or the first ATA disk, by DMA or by PIO.
//!
//! Which one is decided once, when it is opened: the best that is there, unless the operator has named a kind. The
//! drivers know nothing of who uses the disk. What they have in common is here: the request is checked, one is under way
//! at a time, and none takes longer than the time it was given.
//!
//! An interrupt ends the processor's sleep and does nothing else. What has happened is read from the device, when
//! somebody polls; so a lost interrupt costs time, and nothing depends on one.

mod ata;
mod bus_master;
mod channel;
mod task;
mod virtio;
mod virtio_hal;

use pleat_types::{DiskFailure, DiskInfo, DiskKind, DiskRequest, Tsc};

use self::ata::Ata;
use self::virtio::VirtioDisk;
use crate::cpu::rdtsc;
use crate::frames::Frames;
use crate::interrupts;

/// How long the processor sleeps at most while a request is under way, as a part of the patience: 2 to the power of minus
/// this. Of five seconds 20 ms, longer than a seek, and 80 µs.
const ATA_NAP: u32 = 8;
const VIRTIO_NAP: u32 = 16;

/// The place of the disk in a board.
pub struct DiskPort(Option<Disk>);

impl DiskPort {
    /// No disk yet.
    pub const EMPTY: Self = Self(None);

    /// Opens the disk, as [`pleat_types::Platform::disk_open`] says.
    pub fn open(&mut self, kind: Option<DiskKind>, patience: Tsc) -> Option<DiskInfo> {
        match &mut self.0 {
            Some(disk) => disk.patience = patience,
            None => self.0 = Disk::find(kind, patience),
        }
        self.info()
    }

    /// The open disk.
    pub fn info(&self) -> Option<DiskInfo> {
        self.0.as_ref().map(|disk| disk.info)
    }

    /// Gives the disk a request.
    pub fn start(&mut self, frames: &Frames, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        self.0.as_mut().ok_or(DiskFailure::NoDisk)?.start(frames, request)
    }

    /// Goes on with it.
    pub fn poll(&mut self, frames: &Frames) -> Option<Result<(), DiskFailure>> {
        self.0.as_mut()?.poll(frames)
    }

    /// Until when the processor may sleep at most: not at all if a poll would find something.
    pub fn sleeps_until(&self, until: Tsc) -> Tsc {
        self.0.as_ref().map_or(until, |disk| disk.sleeps_until(until))
    }
}

struct Disk {
    device: Device,
    info: DiskInfo,
    patience: Tsc,
    /// When the request that is under way has failed.
    deadline: Option<Tsc>,
}

#[allow(clippy::large_enum_variant)] // there is one, and no heap to put the larger part on
enum Device {
    Ata(Ata),
    Virtio(VirtioDisk),
}

impl Disk {
    fn find(kind: Option<DiskKind>, patience: Tsc) -> Option<Self> {
        let virtio = VirtioDisk::find(kind).map(Device::Virtio);
        let device = virtio.or_else(|| Ata::find(kind, patience.0).map(Device::Ata))?;
        let info = match &device {
            Device::Virtio(disk) => DiskInfo {
                blocks: disk.blocks(),
                kind: DiskKind::Virtio,
            },
            Device::Ata(disk) => {
                interrupts::allow_disk();
                DiskInfo {
                    blocks: disk.blocks(),
                    kind: disk.kind(),
                }
            }
        };
        Some(Self {
            device,
            info,
            patience,
            deadline: None,
        })
    }

    fn start(&mut self, frames: &Frames, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        self.info.check(request)?;
        if self.deadline.is_some() {
            return Err(DiskFailure::Busy);
        }
        // A mistake in a policy must not let a device write over Pleat itself.
        frames.assert_managed(request.frames);
        match &mut self.device {
            Device::Ata(disk) => disk.start(request)?,
            Device::Virtio(disk) => disk.start(frames, request)?,
        }
        self.deadline = Some(Tsc(rdtsc()).after(self.patience));
        Ok(())
    }

    fn poll(&mut self, frames: &Frames) -> Option<Result<(), DiskFailure>> {
        let deadline = self.deadline?;
        let result = match &mut self.device {
            Device::Ata(disk) => disk.poll(frames),
            Device::Virtio(disk) => disk.poll(frames),
        };
        // Looked at after the device: who polls late finds what has come in time.
        if result.is_none() && Tsc(rdtsc()) < deadline {
            return None;
        }
        self.deadline = None;
        Some(result.unwrap_or_else(|| self.give_up()))
    }

    #[cold]
    fn give_up(&mut self) -> Result<(), DiskFailure> {
        match &mut self.device {
            Device::Ata(disk) => disk.abandon(),
            Device::Virtio(disk) => disk.abandon(),
        }
        Err(DiskFailure::TimedOut)
    }

    fn sleeps_until(&self, until: Tsc) -> Tsc {
        if self.deadline.is_none() {
            return until;
        }
        let (is_due, nap) = match &self.device {
            // Its interrupt comes first, unless it is lost.
            Device::Ata(disk) => (disk.is_due(), self.patience.0 >> ATA_NAP),
            // It has none.
            Device::Virtio(disk) => (disk.is_due(), self.patience.0 >> VIRTIO_NAP),
        };
        let nap = if is_due { 0 } else { nap };
        until.min(Tsc(rdtsc()).after(Tsc(nap)))
    }
}
