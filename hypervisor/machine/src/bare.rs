//! A machine without guests, for programs that check a part of this crate: its memory, its disk, its clock.
//!
//! It needs no VMX, so it runs in QEMU's own emulation too, where the hypervisor cannot: that is how drivers are checked
//! against a second implementation of their device.

use arrayvec::ArrayVec;
use pleat_types::{DiskFailure, DiskInfo, DiskKind, DiskRequest, Hfn, Tsc};

use crate::boot::MemoryMap;
use crate::cpu::rdtsc;
use crate::disk::DiskPort;
use crate::frames::{FrameRange, Frames, MAX_RANGES};
use crate::serial::Stream;
use crate::{clock, interrupts};

/// A machine without guests.
pub struct Bare {
    ranges: ArrayVec<FrameRange, MAX_RANGES>,
    bundle: Hfn,
    frames: Frames,
    disk: DiskPort,
    stream: Stream,
    can_sleep: bool,
}

impl Bare {
    pub(crate) fn start(memory: &MemoryMap, can_sleep: bool) -> Self {
        // SAFETY: what is managed is RAM that is mapped at its address, and Pleat's own parts are cut out of it.
        let frames = unsafe { Frames::new(memory.managed()) };
        Self {
            ranges: memory.managed(),
            bundle: memory.bundle().first,
            frames,
            disk: DiskPort::EMPTY,
            stream: Stream::get(),
            can_sleep,
        }
    }

    /// The frames that can be used.
    #[must_use]
    pub fn ranges(&self) -> &[FrameRange] {
        &self.ranges
    }

    /// Where the boot bundle begins; it lies in these frames.
    #[must_use]
    pub fn bundle(&self) -> Hfn {
        self.bundle
    }

    /// Their bytes.
    pub fn memory(&mut self) -> &mut Frames {
        &mut self.frames
    }

    /// Whether [`Bare::idle`] sleeps.
    #[must_use]
    pub fn can_sleep(&self) -> bool {
        self.can_sleep
    }

    /// As [`pleat_types::Platform::idle`]; returns at once where the processor has no timer to end a sleep.
    pub fn idle(&mut self, until: Tsc) {
        if self.can_sleep {
            interrupts::sleep(self.disk.sleeps_until(until));
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Tsc {
        Tsc(rdtsc())
    }

    /// Ticks of the time-stamp counter in a second; measures for 10 ms.
    #[must_use]
    pub fn tsc_hz(&self) -> u64 {
        clock::tsc_hz()
    }

    /// Bytes for programs.
    pub fn stream_write(&mut self, bytes: &[u8]) {
        self.stream.write(bytes);
    }

    /// As [`pleat_types::Platform::disk_open`].
    pub fn disk_open(&mut self, kind: Option<DiskKind>, patience: Tsc) -> Option<DiskInfo> {
        self.disk.open(kind, patience)
    }

    /// As [`pleat_types::Platform::disk_start`].
    ///
    /// # Errors
    /// A request that is refused has touched nothing.
    pub fn disk_start(&mut self, request: &DiskRequest<'_>) -> Result<(), DiskFailure> {
        self.disk.start(&self.frames, request)
    }

    /// As [`pleat_types::Platform::disk_poll`].
    pub fn disk_poll(&mut self) -> Option<Result<(), DiskFailure>> {
        self.disk.poll(&self.frames)
    }
}
