//! A guest's physical addresses, all of them.
//!
//! ```text
//!   0        RAM       3 GiB            4 GiB      RAM   (128 MiB bound)   (1 GiB bound)
//!   | RAM .. |         | MSI-X | hole   | rest of it  |  | can be plugged |  | disk pages |
//! ```
//!
//! - The MSI-X tables of all virtio devices lie in one page of ordinary RAM at the start of the device hole: nothing
//!   has to be decoded, and a device reads its entry when it has an interrupt to send.
//! - What a guest has written to its disk is kept as pages of its own far above its memory: so these are on record,
//!   merged, audited and given back like all others. The guest's processor finds a device there.

use crate::loader::layout::{HOLE_END, HOLE_START, Ram};
use pleat_bundle::config::GuestConfig;
use pleat_devices::MSIX_PAGE;
use pleat_types::{FRAME_SIZE, Gfn, Gpa};

/// Memory that can be plugged begins at a multiple of a memory block of Linux on x86-64 (virtio 1.2, 5.15.6.2 leaves
/// it to the driver).
const PLUG_ALIGNMENT: u64 = 128 << 20;
/// The disk's pages begin at a multiple of what one table of level 2 maps.
const DISK_ALIGNMENT: u64 = 1 << 30;

/// A range of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    pub(crate) first: Gfn,
    pub(crate) count: u64,
}

impl Pages {
    const fn new(start: u64, bytes: u64) -> Self {
        Self {
            first: Gpa::new(start).gfn(),
            count: bytes / FRAME_SIZE as u64,
        }
    }

    /// The page behind the last one.
    pub(crate) const fn end(&self) -> Gfn {
        Gfn::new(self.first.get() + self.count)
    }

    /// Whether so many pages from there on are all in it.
    pub(crate) fn contains(&self, first: Gfn, count: u64) -> bool {
        let end = first.get().checked_add(count);
        first >= self.first && end.is_some_and(|end| end <= self.end().get())
    }
}

/// Where a guest has what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Space {
    pub(crate) ram: Ram,
    /// The page of the MSI-X tables, if the guest has a virtio device.
    pub(crate) msix: Option<Gfn>,
    /// What can be plugged.
    pub(crate) pluggable: Pages,
    /// The disk's pages.
    pub(crate) disk: Pages,
}

impl Space {
    /// The space of a guest with this configuration.
    pub(crate) fn new(config: &GuestConfig<'_>) -> Self {
        let ram = Ram::new(config.memory_bytes);
        let devices = &config.devices;
        let is_empty = devices.balloon.is_none()
            && devices.max_memory_bytes == 0
            && !devices.has_console
            && !devices.has_random
            && devices.disk.is_none();
        let above = ram.end().base().get().max(HOLE_END);
        let plug_start = above.next_multiple_of(PLUG_ALIGNMENT);
        let plug_bytes = devices.max_memory_bytes.saturating_sub(config.memory_bytes);
        let disk_start = (plug_start + plug_bytes).next_multiple_of(DISK_ALIGNMENT);
        let disk_bytes = devices.disk.map_or(0, |disk| disk.bytes);
        Self {
            ram,
            msix: (!is_empty).then_some(MSIX_PAGE.gfn()),
            pluggable: Pages::new(plug_start, plug_bytes),
            disk: Pages::new(disk_start, disk_bytes),
        }
    }

    /// The page behind all that can ever be backed.
    pub(crate) fn end(&self) -> Gfn {
        let ends = [
            self.ram.end(),
            self.msix.map_or(Gfn::new(0), |msix| Gfn::new(msix.get() + 1)),
            if self.pluggable.count > 0 {
                self.pluggable.end()
            } else {
                Gfn::new(0)
            },
            if self.disk.count > 0 {
                self.disk.end()
            } else {
                Gfn::new(0)
            },
        ];
        ends.into_iter().max().unwrap_or(Gfn::new(0))
    }

    /// Whether a device may be told of this page: not of the disk's.
    pub(crate) fn is_for_devices(&self, gfn: Gfn) -> bool {
        gfn < self.disk.first
    }

    /// The part of the hole where nothing is.
    pub(crate) fn hole(&self) -> Pages {
        let taken = if self.msix.is_some() { FRAME_SIZE as u64 } else { 0 };
        Pages::new(HOLE_START + taken, HOLE_END - HOLE_START - taken)
    }
}
