//! A guest's owner, as its devices see it.

use super::disk::Written;
use super::{Disk, HEARD_MAX, PRINTED_MAX};
use crate::host::Host;
use crate::memory::{GuestMemory, MemoryError};
use crate::space::Space;
use arrayvec::ArrayVec;
use pleat_devices::virtio::{Denied, Hands, Plugged, Unwritten};
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{Absent, Page};
use pleat_types::{FRAME_SIZE, Gfn, Gpa, Platform, SwapSlot};

/// Everything of a guest but its board.
pub(super) struct GuestHands<'a, P: Platform> {
    host: &'a mut Host<P>,
    memory: &'a mut GuestMemory,
    disk: &'a mut Option<Disk>,
    space: &'a Space,
    printed: &'a mut ArrayVec<u8, PRINTED_MAX>,
    heard: &'a mut ArrayVec<u8, HEARD_MAX>,
    /// The first mistake of ours.
    pub(super) bug: Option<&'static str>,
    /// A part of what an access takes was done (zeroing 1 GiB): the same again does the next.
    pub(super) is_unfinished: bool,
    /// A page is away; it is being brought back.
    pub(super) is_away: bool,
    /// The content of a page is lost, in this slot.
    pub(super) damaged: Option<SwapSlot>,
    /// What there was no frame for.
    pub(super) purpose: Purpose,
}

impl<'a, P: Platform> GuestHands<'a, P> {
    pub(super) fn new(
        host: &'a mut Host<P>,
        memory: &'a mut GuestMemory,
        disk: &'a mut Option<Disk>,
        space: &'a Space,
        printed: &'a mut ArrayVec<u8, PRINTED_MAX>,
        heard: &'a mut ArrayVec<u8, HEARD_MAX>,
    ) -> Self {
        Self {
            host,
            memory,
            disk,
            space,
            printed,
            heard,
            bug: None,
            is_unfinished: false,
            is_away: false,
            damaged: None,
            purpose: Purpose::Demand,
        }
    }

    /// What a device is told about an operation that went wrong.
    fn denied(&mut self, error: MemoryError) -> Denied {
        match error {
            MemoryError::HostShort => Denied::HostShort,
            MemoryError::Unfinished => {
                self.is_unfinished = true;
                Denied::HostShort
            }
            MemoryError::Away => {
                self.is_away = true;
                Denied::HostShort
            }
            MemoryError::Lost(slot) => {
                self.damaged.get_or_insert(slot);
                Denied::NoRam
            }
            MemoryError::Hole(_) => Denied::NoRam,
            MemoryError::Bug(place) => {
                self.note_bug(place);
                Denied::NoRam
            }
        }
    }

    /// What the disk's device is told about a write.
    fn unwritten(&mut self, written: Result<Written, MemoryError>) -> Result<(), Unwritten> {
        match written {
            Ok(Written::All) => Ok(()),
            Ok(Written::Full) => Err(Unwritten::Full),
            // A mistake of ours, which is noted, ends the guest.
            Err(error) => match self.denied(error) {
                Denied::HostShort => Err(Unwritten::HostShort),
                Denied::NoRam => Ok(()),
            },
        }
    }

    fn note_bug(&mut self, place: &'static str) {
        self.bug.get_or_insert(place);
    }

    /// Ends an operation that can only fail by a mistake of ours, or by want of memory that it can do without.
    fn expect(&mut self, done: Result<(), MemoryError>) {
        match done {
            Ok(()) | Err(MemoryError::HostShort | MemoryError::Unfinished | MemoryError::Away) => {}
            Err(MemoryError::Lost(slot)) => {
                self.damaged.get_or_insert(slot);
            }
            Err(MemoryError::Hole(_)) => self.note_bug("pages of a device"),
            Err(MemoryError::Bug(place)) => self.note_bug(place),
        }
    }

    /// Whether a device may touch all these bytes.
    fn check(&self, at: Gpa, bytes: usize) -> Result<(), Denied> {
        let last = at.get().checked_add((bytes as u64).saturating_sub(1));
        let last = last.ok_or(Denied::NoRam)?;
        if self.space.is_for_devices(Gpa::new(last).gfn()) {
            Ok(())
        } else {
            Err(Denied::NoRam)
        }
    }

    fn pages<'p>(&self, pages: &'p [Gfn], kept: &'p mut ArrayVec<Gfn, 256>) -> &'p [Gfn] {
        if pages.iter().all(|gfn| self.space.is_for_devices(*gfn)) {
            return pages;
        }
        let mine = pages.iter().filter(|gfn| self.space.is_for_devices(**gfn));
        kept.extend(mine.take(256).copied());
        kept
    }
}

impl<P: Platform> Hands for GuestHands<'_, P> {
    fn read(&mut self, at: Gpa, out: &mut [u8]) -> Result<(), Denied> {
        self.check(at, out.len())?;
        self.host
            .copy_out(self.memory, at, out)
            .map_err(|error| self.denied(error))
    }

    fn make_writable(&mut self, at: Gpa, bytes: u64) -> Result<(), Denied> {
        let Some(last) = bytes.checked_sub(1) else {
            return Ok(());
        };
        let last = at.get().checked_add(last).ok_or(Denied::NoRam)?;
        if !self.space.is_for_devices(Gpa::new(last).gfn()) {
            return Err(Denied::NoRam);
        }
        let (first, last) = (at.gfn().get(), Gpa::new(last).gfn().get());
        for gfn in first..=last {
            let place = Gfn::new(gfn).base();
            if let Err(error) = self.host.make_writable(self.memory, place) {
                self.purpose = self.host.purpose_of_write(self.memory, Gfn::new(gfn));
                return Err(self.denied(error));
            }
        }
        Ok(())
    }

    fn write(&mut self, at: Gpa, bytes: &[u8]) -> Result<(), Denied> {
        self.check(at, bytes.len())?;
        self.host
            .copy_in(self.memory, at, bytes)
            .map_err(|error| self.denied(error))
    }

    fn inflate(&mut self, pages: &[Gfn]) {
        let mut kept = ArrayVec::new();
        let pages = self.pages(pages, &mut kept);
        let done = self.host.discard(self.memory, pages, Absent::Ballooned);
        self.expect(done);
    }

    fn deflate(&mut self, pages: &[Gfn]) {
        let mut kept = ArrayVec::new();
        let pages = self.pages(pages, &mut kept);
        let done = self.host.deflate_pages(self.memory, pages);
        self.expect(done);
    }

    fn report(&mut self, first: Gfn, count: u64) {
        let last = first.get().checked_add(count.saturating_sub(1));
        if last.is_some_and(|last| self.space.is_for_devices(Gfn::new(last))) {
            let done = self
                .host
                .discard_range(self.memory, first, count, Absent::Untouched);
            self.expect(done);
        }
    }

    fn plug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        if !self.space.pluggable.contains(first, count) || self.plugged(first, count) != Plugged::None {
            return Err(Denied::NoRam);
        }
        self.host
            .plug(self.memory, first, count)
            .map_err(|error| self.denied(error))
    }

    fn unplug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        if !self.space.pluggable.contains(first, count) || self.plugged(first, count) == Plugged::None {
            return Err(Denied::NoRam);
        }
        self.host
            .discard_range(self.memory, first, count, Absent::Hole)
            .map_err(|error| self.denied(error))
    }

    fn plugged(&mut self, first: Gfn, count: u64) -> Plugged {
        if !self.space.pluggable.contains(first, count) {
            return Plugged::None;
        }
        let (mut at, end) = (first, first.get() + count);
        let (mut is_some, mut is_all) = (false, true);
        while at.get() < end && (is_all || !is_some) {
            let Ok(mapping) = self.host.lookup(self.memory, at) else {
                self.note_bug("page lookup");
                return Plugged::None;
            };
            let is_hole = mapping.page == Page::Hole;
            is_some |= !is_hole;
            is_all &= !is_hole;
            at = mapping.end();
        }
        match (is_some, is_all) {
            (_, true) => Plugged::All,
            (true, false) => Plugged::Some,
            (false, false) => Plugged::None,
        }
    }

    fn read_disk(&mut self, at: u64, out: &mut [u8]) -> Result<(), Denied> {
        let Some(disk) = self.disk else {
            out.fill(0);
            return Ok(());
        };
        self.host
            .read_disk(self.memory, disk, at, out)
            .map_err(|error| self.denied(error))
    }

    fn write_disk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Unwritten> {
        let Some(disk) = self.disk else { return Ok(()) };
        let written = self.host.write_disk(self.memory, disk, at, bytes);
        self.unwritten(written)
    }

    fn discard_disk(&mut self, at: u64, bytes: u64) {
        let Some(disk) = self.disk else { return };
        let done = self.host.discard_disk(self.memory, disk, at, bytes);
        self.expect(done);
    }

    fn zero_disk(&mut self, at: u64, bytes: u64) -> Result<(), Unwritten> {
        let Some(disk) = self.disk else { return Ok(()) };
        let written = self.host.zero_disk(self.memory, disk, at, bytes);
        self.unwritten(written)
    }

    fn random(&mut self, out: &mut [u8]) {
        self.host.random.fill(out);
    }

    fn print(&mut self, bytes: &[u8]) {
        let room = self.printed.remaining_capacity();
        // The console prints no more in one step than there is room for.
        self.printed.extend(bytes.iter().take(room).copied());
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = self.heard.remaining_capacity();
        self.heard.extend(bytes.iter().take(room).copied());
    }
}

/// A device counts in pages of this size.
const _: () = assert!(FRAME_SIZE == 4096);
