//! A guest's memory: extended page tables over frames of the ledger, backed when they are touched.
//!
//! A first read gets the zero frame, a first write a frame that was zeroed before the guest could see
//! it. When no frame is free nothing changes, and the guest waits ([`Fault::HostShort`]).

mod ages;
mod copy;
mod end;
mod give;
mod huge;
mod kinds;
mod look;
mod map;
mod regions;
mod share;
mod swapped;
mod tables;

pub(crate) use crate::frames::{FixedTables, Tables};
use crate::host::Host;
use crate::space::Space;
pub(crate) use ages::{Ages, Cause};
use huge::Unfinished;
pub(crate) use kinds::{Broken, FAULT_NAMES, Fault, MemoryError};
use kinds::{FaultKind, Need as _};
pub(crate) use look::Look;
use pleat_bundle::config::Pages;
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{Counters, FaultAction, Mapping, Page, ProcessorSet, Spot, Stage2, Teardown};
use pleat_types::{Access, Gfn, Gpa, GuestId, Platform};
pub(crate) use swapped::Wanted;

/// The processor that all guests run on, until there are several.
pub(crate) const THE_PROCESSOR: u8 = 0;

/// The tables in the course of a guest's life.
#[derive(Debug)]
enum Life {
    Live(Stage2),
    Dying(Teardown),
    Gone,
}

/// The memory of one guest.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    guest: GuestId,
    life: Life,
    pages: Pages,
    /// The block of 1 GiB that is on its way to the guest.
    unfinished: Option<Unfinished>,
    look: Look,
    /// How long its pages have not been used.
    ages: Ages,
    /// The page that it waits for.
    wanted: Option<Wanted>,
    faults: [u64; FAULT_NAMES.len()],
    /// Frames that the guest can have whatever the others do.
    reservation: u64,
}

impl GuestMemory {
    /// No memory yet.
    pub(crate) fn new(guest: GuestId, pages: Pages, space: &Space) -> Self {
        Self {
            guest,
            life: Life::Gone,
            pages,
            unfinished: None,
            look: Look::new(space.end()),
            ages: Ages::NEW,
            wanted: None,
            faults: [0; FAULT_NAMES.len()],
            reservation: 0,
        }
    }

    /// The guest can always have so many frames.
    pub(crate) const fn reserve(&mut self, frames: u64) {
        self.reservation = frames;
    }

    /// Frames that it is still to get of its reservation.
    pub(crate) fn pledged(&self) -> u64 {
        self.reservation.saturating_sub(self.counters().owned_frames())
    }

    /// Whether it has less than it can always have.
    pub(crate) fn is_below_reservation(&self) -> bool {
        self.pledged() > 0
    }

    /// What it waits for that found no frame for this: who has less than its reservation gets any frame that there is.
    pub(crate) fn purpose_of(&self, wanted: Purpose) -> Purpose {
        if self.is_below_reservation() {
            Purpose::Relief
        } else {
            wanted
        }
    }

    /// Its tables, as long as there are any.
    pub(crate) const fn stage2(&self) -> Option<&Stage2> {
        match &self.life {
            Life::Live(stage2) => Some(stage2),
            Life::Dying(teardown) => Some(teardown.stage2()),
            Life::Gone => None,
        }
    }

    /// Whose it is.
    pub(crate) const fn guest(&self) -> GuestId {
        self.guest
    }

    /// What is mapped and spent on tables.
    pub(crate) fn counters(&self) -> Counters {
        self.stage2()
            .map_or_else(Counters::default, |stage2| *stage2.counters())
    }

    /// Faults by kind, as [`FAULT_NAMES`] names them.
    pub(crate) const fn faults(&self) -> &[u64; FAULT_NAMES.len()] {
        &self.faults
    }

    /// Shares that writes have ended.
    pub(crate) const fn broken(&self, how: Broken) -> u64 {
        match how {
            Broken::Copied => self.faults[FaultKind::Broken as usize],
            Broken::InPlace => self.faults[FaultKind::BrokenInPlace as usize],
        }
    }

    /// Where the scanner for equal pages stands.
    pub(crate) const fn look(&self) -> &Look {
        &self.look
    }

    /// Where the scanner for equal pages stands.
    pub(crate) const fn look_mut(&mut self) -> &mut Look {
        &mut self.look
    }

    /// How long its pages have not been used.
    pub(crate) const fn ages(&self) -> &Ages {
        &self.ages
    }

    /// How long its pages have not been used.
    pub(crate) const fn ages_mut(&mut self) -> &mut Ages {
        &mut self.ages
    }

    /// The page that it waits for.
    pub(crate) const fn wanted(&self) -> Option<Wanted> {
        self.wanted
    }

    /// It does not wait for a page any more, or tries again.
    pub(crate) const fn want_nothing(&mut self) {
        self.wanted = None;
    }

    /// Which pages its memory is backed with.
    pub(crate) const fn pages(&self) -> Pages {
        self.pages
    }

    /// Some of it is still to be given back.
    pub(crate) const fn is_dying(&self) -> bool {
        matches!(self.life, Life::Dying(_))
    }

    fn count(&mut self, kind: FaultKind) {
        self.faults[kind as usize] += 1;
    }
}

impl<P: Platform> Host<P> {
    /// Tables that promise this guest's RAM, and keep the ranges of devices apart.
    pub(crate) fn promise(&mut self, memory: &mut GuestMemory, space: &Space) -> Result<(), MemoryError> {
        let zero = self.frames.zero();
        let mut tables = Tables {
            memory: self.platform.memory(),
            frames: &mut self.frames,
            guest: memory.guest,
            purpose: Purpose::Demand,
        };
        let stage2 = Stage2::new(&mut tables, zero, ProcessorSet::one(THE_PROCESSOR))?;
        memory.life = Life::Live(stage2);
        memory.look = Look::new(space.end());
        memory.ages = Ages::NEW;
        memory.wanted = None;
        let Life::Live(stage2) = &mut memory.life else {
            return Ok(());
        };
        let msix = space.msix.map(|page| (page, 1));
        for (first, count) in space.ram.frame_ranges().chain(msix) {
            stage2.promise(&mut tables, first, count)?;
        }
        for pages in [space.hole(), space.disk] {
            stage2.mark_device(&mut tables, pages.first, pages.count)?;
        }
        Ok(())
    }

    /// Lets an access of the guest succeed.
    pub(crate) fn fault(&mut self, memory: &mut GuestMemory, gpa: Gpa, access: Access) -> Fault {
        // A page of the balloon becomes untouched first, then it is an ordinary fault: two turns.
        for _ in 0..2 {
            let Ok(spot) = self.find(memory, gpa.gfn()) else {
                return Fault::Bug("page lookup");
            };
            let mapping = *spot.mapping();
            let done = match mapping.action(access) {
                FaultAction::MapZero => self.map_zero(memory, gpa.gfn()),
                FaultAction::MapUnique { largest } => self.map_fresh(memory, gpa.gfn(), spot, largest),
                FaultAction::BreakShare if self.part(memory, gpa.gfn()) => Ok(()),
                FaultAction::BreakShare if self.is_on_record_as_shared(&mapping) => {
                    Err(MemoryError::HostShort)
                }
                FaultAction::BreakShare => return Fault::Bug("a shared frame that is not on record"),
                // Pages are frozen between two time slices only.
                FaultAction::Thaw => return Fault::Bug("a page that was left frozen"),
                FaultAction::Spurious => {
                    memory.count(FaultKind::Stale);
                    self.flush(memory);
                    Ok(())
                }
                FaultAction::SwapIn(slot) => self.swap_in(memory, &spot, slot, access),
                FaultAction::Deflate => match self.deflate(memory, gpa.gfn()) {
                    Ok(()) => continue,
                    failed => failed,
                },
                FaultAction::Device => return Fault::Device,
                FaultAction::Hole => return Fault::Hole,
            };
            return match done {
                Ok(()) => Fault::Backed,
                Err(MemoryError::HostShort) => {
                    memory.count(FaultKind::Waited);
                    Fault::HostShort(mapping.purpose_of_write())
                }
                Err(MemoryError::Unfinished) => Fault::Unfinished,
                Err(MemoryError::Away) => Fault::Away,
                Err(MemoryError::Lost(slot)) => Fault::Lost(slot),
                Err(MemoryError::Hole(_)) => Fault::Hole,
                Err(MemoryError::Bug(place)) => Fault::Bug(place),
            };
        }
        Fault::Bug("a balloon page that stays in the balloon")
    }

    /// What is known about a page.
    pub(crate) fn lookup(&mut self, memory: &GuestMemory, gfn: Gfn) -> Result<Mapping, MemoryError> {
        Ok(*self.find(memory, gfn)?.mapping())
    }

    /// The same, with the place in the tables where it can be changed.
    pub(crate) fn find(&mut self, memory: &GuestMemory, gfn: Gfn) -> Result<Spot, MemoryError> {
        let found = self.with_fixed_tables(memory, |stage2, tables| stage2.find(tables, gfn))?;
        found.map_err(|_| MemoryError::Bug("page lookup"))
    }

    /// Whether nobody has used this page yet.
    pub(crate) fn is_untouched(&mut self, memory: &GuestMemory, at: Gpa) -> Result<bool, MemoryError> {
        Ok(self.lookup(memory, at.gfn())?.page == Page::Untouched)
    }
}
