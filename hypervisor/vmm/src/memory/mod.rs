//! A guest's memory: extended page tables over frames of the ledger, backed when they are touched.
//!
//! A first read gets the zero frame, a first write a frame that was zeroed before the guest could see
//! it. When no frame is free nothing changes, and the guest waits ([`Fault::HostShort`]).

mod copy;
mod end;
mod huge;
mod look;
mod regions;
mod share;

pub(crate) use crate::frames::{FixedTables, Tables};
use crate::host::Host;
use crate::loader::layout::{HOLE_END, HOLE_START, Ram};
use huge::Unfinished;
pub(crate) use look::Look;
use pleat_bundle::config::Pages;
use pleat_overcommit::ledger::Purpose;
use pleat_stage2::{
    Absent, Bug, Counters, Error, FaultAction, Mapping, Page, Parts, PendingFlush, ProcessorSet, Refused,
    Retired, Spot, Stage2, Teardown,
};
use pleat_types::{
    Access, FrameMemory, Gfn, Gpa, GuestId, Hfn, LARGE_FRAMES, OwnedFrame, PageSize, Platform,
};

/// The processor that all guests run on, until there are several.
pub(crate) const THE_PROCESSOR: u8 = 0;

/// Kinds of faults that are counted, by [`FaultKind`].
pub(crate) const FAULT_NAMES: [&str; 11] = [
    "zero",
    "unique",
    "zero-broken",
    "large",
    "huge",
    "huge-unfinished",
    "deflated",
    "stale",
    "waited",
    "share-broken",
    "share-taken",
];

/// What a fault was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FaultKind {
    /// A first read.
    Zero,
    /// A first write.
    Unique,
    /// A write to a page that was read before.
    ZeroBroken,
    /// A first write that got 2 MiB.
    Large,
    /// A first touch that got 1 GiB.
    Huge,
    /// A touch of memory that is still being zeroed, 1 GiB at a time.
    HugeUnfinished,
    /// The guest used a page of its balloon.
    Deflated,
    /// A stale translation.
    Stale,
    /// No frame was free.
    Waited,
    /// A write to a page that others share: it got a copy.
    Broken,
    /// A write to a page whose frame nobody else shared any more.
    BrokenInPlace,
}

/// How a write ends a share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Broken {
    /// Others go on sharing: the writer gets a copy.
    Copied,
    /// Nobody else shares the frame any more: the writer keeps it.
    InPlace,
}

/// How a fault ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Fault {
    /// The access succeeds now.
    Backed,
    /// A part of the work is done: the same access again does the next part.
    Unfinished,
    /// No frame is free for this; nothing has changed.
    HostShort(Purpose),
    /// The guest has nothing there.
    Hole,
    /// A device in memory would be there.
    Device,
    /// A mistake of ours: where.
    Bug(&'static str),
}

/// Guest memory that cannot be used as asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemoryError {
    /// No frame is free.
    HostShort,
    /// The guest has no RAM there.
    Hole(Gpa),
    /// A mistake of ours.
    Bug(&'static str),
}

impl From<Bug> for MemoryError {
    fn from(_: Bug) -> Self {
        Self::Bug("extended page tables")
    }
}

impl From<Error> for MemoryError {
    fn from(error: Error) -> Self {
        match error {
            Error::HostShort => Self::HostShort,
            Error::Bug(_) => Self::Bug("extended page tables"),
        }
    }
}

/// What a first write to a page is counted as.
fn fresh_kind(mapping: &Mapping) -> FaultKind {
    if mapping.page == Page::Zero {
        FaultKind::ZeroBroken
    } else {
        FaultKind::Unique
    }
}

/// What a write to a page needs a frame for.
trait Need {
    /// To end a share, that in the zero frame too, or to have more.
    fn purpose_of_write(&self) -> Purpose;
}

impl Need for Mapping {
    fn purpose_of_write(&self) -> Purpose {
        match self.page {
            Page::Zero | Page::Shared(_) => Purpose::Relief,
            _ => Purpose::Demand,
        }
    }
}

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
    faults: [u64; FAULT_NAMES.len()],
}

impl GuestMemory {
    /// No memory yet.
    pub(crate) const fn new(guest: GuestId, pages: Pages, ram: &Ram) -> Self {
        Self {
            guest,
            life: Life::Gone,
            pages,
            unfinished: None,
            look: Look::new(ram.end()),
            faults: [0; FAULT_NAMES.len()],
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

    /// Faults that have ended well.
    pub(crate) fn backed(&self) -> u64 {
        self.faults.iter().sum::<u64>() - self.faults[FaultKind::Waited as usize]
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
    /// Tables that promise this RAM, and keep the range for devices in memory apart.
    pub(crate) fn promise(&mut self, memory: &mut GuestMemory, ram: &Ram) -> Result<(), MemoryError> {
        let zero = self.frames.zero();
        let mut tables = Tables {
            memory: self.platform.memory(),
            frames: &mut self.frames,
            guest: memory.guest,
            purpose: Purpose::Demand,
        };
        let stage2 = Stage2::new(&mut tables, zero, ProcessorSet::one(THE_PROCESSOR))?;
        memory.life = Life::Live(stage2);
        memory.look = Look::new(ram.end());
        let Life::Live(stage2) = &mut memory.life else {
            return Ok(());
        };
        for (first, count) in ram.frame_ranges() {
            stage2.promise(&mut tables, first, count)?;
        }
        let (first, end) = (Gpa::new(HOLE_START).gfn(), Gpa::new(HOLE_END).gfn());
        stage2.mark_device(&mut tables, first, end.get() - first.get())?;
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
    fn find(&mut self, memory: &GuestMemory, gfn: Gfn) -> Result<Spot, MemoryError> {
        let found = self.with_fixed_tables(memory, |stage2, tables| stage2.find(tables, gfn))?;
        found.map_err(|_| MemoryError::Bug("page lookup"))
    }

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

    /// Whether nobody has used this page yet.
    pub(crate) fn is_untouched(&mut self, memory: &GuestMemory, at: Gpa) -> Result<bool, MemoryError> {
        Ok(self.lookup(memory, at.gfn())?.page == Page::Untouched)
    }

    fn map_zero(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        self.with_tables(memory, |stage2, tables| stage2.map_zero(tables, gfn))??;
        memory.count(FaultKind::Zero);
        Ok(())
    }

    fn deflate(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        let change = |stage2: &mut Stage2, tables: &mut Tables<'_, P::Memory>| {
            stage2.reclassify(tables, gfn, Absent::Ballooned, Absent::Untouched)
        };
        self.with_tables(memory, change)??;
        memory.count(FaultKind::Deflated);
        Ok(())
    }

    /// A frame of zeros for a page, or 2 MiB of them.
    fn map_fresh(
        &mut self,
        memory: &mut GuestMemory,
        gfn: Gfn,
        spot: Spot,
        largest: PageSize,
    ) -> Result<(), MemoryError> {
        let is_large_wanted = memory.pages != Pages::Small && largest != PageSize::Small;
        if is_large_wanted && self.map_fresh_large(memory, gfn.large_base())? {
            return Ok(());
        }
        let (guest, kind) = (memory.guest, fresh_kind(spot.mapping()));
        let frame = match kind {
            // It may have given a frame back for that.
            FaultKind::ZeroBroken => self.frames.allocate_relief(guest, gfn),
            _ => self.frames.allocate_page(guest, gfn),
        };
        let frame = frame.ok_or(MemoryError::HostShort)?;
        self.platform.memory().zero_frame(frame.first());
        let mapped = self.with_tables(memory, |stage2, tables| stage2.map_unique_at(tables, spot, frame))?;
        self.settle_mapped(mapped)?;
        memory.count(kind);
        Ok(())
    }

    /// Whether 2 MiB of zeros could be mapped. They are an extra: when they leave no frame for the tables
    /// they go back, and there is room for a small page.
    fn map_fresh_large(&mut self, memory: &mut GuestMemory, first: Gfn) -> Result<bool, MemoryError> {
        let Some(block) = self.frames.allocate_large(memory.guest, first) else {
            return Ok(false);
        };
        for offset in 0..LARGE_FRAMES {
            self.platform
                .memory()
                .zero_frame(Hfn::new(block.first().get() + offset));
        }
        match self.with_tables(memory, |stage2, tables| stage2.map_large(tables, first, block))? {
            Ok(()) => {
                memory.count(FaultKind::Large);
                Ok(true)
            }
            Err(refused) => {
                self.frames.release(refused.frame);
                match refused.error {
                    Error::HostShort => Ok(false),
                    error @ Error::Bug(_) => Err(error.into()),
                }
            }
        }
    }

    /// Maps a frame that was filled for the guest. It goes back to the pool if that fails.
    pub(crate) fn map_page(
        &mut self,
        memory: &mut GuestMemory,
        gfn: Gfn,
        frame: OwnedFrame,
    ) -> Result<(), MemoryError> {
        let mapped = self.with_tables(memory, |stage2, tables| stage2.map_unique(tables, gfn, frame))?;
        self.settle_mapped(mapped)?;
        self.note_written(memory, gfn)
    }

    /// The end of mapping a frame: the flush, or the frame's way back.
    fn settle_mapped(&mut self, mapped: Result<PendingFlush, Refused>) -> Result<(), MemoryError> {
        match mapped {
            Ok(pending) => {
                self.settle(pending);
                Ok(())
            }
            Err(refused) => {
                self.frames.release(refused.frame);
                Err(refused.error.into())
            }
        }
    }

    /// Pleat itself has written to a page that the guest owns: no processor sets the dirty flag for that.
    fn note_written(&mut self, memory: &mut GuestMemory, gfn: Gfn) -> Result<(), MemoryError> {
        self.with_fixed_tables(memory, |stage2, tables| stage2.mark_written(tables, gfn))??;
        memory.look.due.add(gfn);
        Ok(())
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

    fn with_tables_for<R>(
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
    pub(crate) fn settle<const N: usize>(&mut self, pending: PendingFlush<N>) {
        for retired in pending.settle(|eptp| self.platform.flush(eptp)) {
            match retired {
                Retired::Frame(frame) => self.frames.release(frame),
                Retired::Table(table) => self.frames.release_table(table),
                Retired::Parts(parts) => self.release_parts(parts),
                Retired::Share(share) => self.frames.release_share(self.platform.memory(), share),
            }
        }
    }

    /// Gives back the 512 frames of a table's pages, and the table. If that finds a table that is not what it was, the
    /// rest stays lost, which the audit shows.
    fn release_parts(&mut self, parts: Parts) {
        let frames = &mut self.frames;
        let mut tables = FixedTables(self.platform.memory());
        if let Ok(table) = parts.drain(&mut tables, |_, frame| frames.release(frame)) {
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
