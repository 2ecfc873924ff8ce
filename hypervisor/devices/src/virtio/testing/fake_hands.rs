//! An owner of a guest that is some bytes and some lists.

use std::collections::BTreeSet;
use std::ops::Range;
use std::vec;
use std::vec::Vec;

use pleat_devices::MSIX_PAGE;
use pleat_devices::virtio::{Denied, Hands, Plugged, Unwritten};
use pleat_types::{Gfn, Gpa};

/// What a page of the disk is full of that was discarded.
pub const DISCARDED: u8 = 0xdc;
/// What a read that fails leaves.
const GARBAGE: u8 = 0xba;

/// How many of the next calls of each kind find no host memory, or a page away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Short {
    pub read: u32,
    /// Calls that succeed before those.
    pub read_later: u32,
    pub read_disk: u32,
    pub make_writable: u32,
    /// Calls that succeed before those.
    pub make_writable_later: u32,
    /// Only calls for bytes that have not been made writable.
    pub write: u32,
    pub write_disk: u32,
    pub plug: u32,
    pub unplug: u32,
}

/// One use of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub at: Gpa,
    pub bytes: u64,
    pub is_write: bool,
}

/// RAM from address 0 on, but for holes, and the page of MSI-X tables; everything that is asked for is written down.
#[derive(Clone, Debug, Default)]
pub struct FakeHands {
    pub ram: Vec<u8>,
    /// The page at [`MSIX_PAGE`].
    pub tables: Vec<u8>,
    /// Ranges of addresses in `ram` that are no RAM.
    pub holes: Vec<Range<u64>>,
    pub short: Short,
    pub inflated: Vec<Gfn>,
    pub deflated: Vec<Gfn>,
    pub reported: Vec<(Gfn, u64)>,
    /// The calls that succeeded.
    pub plugs: Vec<(Gfn, u64)>,
    pub unplugs: Vec<(Gfn, u64)>,
    /// Pages that are RAM of the pluggable kind, by number.
    pub plugged: BTreeSet<u64>,
    /// Pages that may be plugged, by number.
    pub pluggable: Range<u64>,
    pub disk: Vec<u8>,
    /// Pages of the disk that may become the guest's own, or no bound: a write to a page that is not is refused then.
    pub disk_room: Option<u64>,
    /// Pages that are.
    pub overlaid: BTreeSet<u64>,
    pub printed: Vec<u8>,
    pub heard: Vec<u8>,
    /// How many random bytes were given: the n-th is n modulo 256.
    pub randoms: u64,
    /// All calls, each counted once and once more for each page that it has to do with.
    pub work: u64,
    /// Successful uses of guest memory, since the test emptied this list.
    pub accesses: Vec<Access>,
    /// Pages made writable since the guest last ran.
    writable: BTreeSet<u64>,
}

impl FakeHands {
    /// A guest with this much RAM, all zeros, and no disk.
    pub fn new(ram_bytes: usize) -> Self {
        Self {
            ram: vec![0; ram_bytes],
            tables: vec![0; 4096],
            pluggable: 0..u64::MAX,
            ..Self::default()
        }
    }

    /// What was made writable need not be any more.
    pub fn run_guest(&mut self) {
        self.writable.clear();
    }

    /// The guest writes to its RAM.
    pub fn poke(&mut self, at: Gpa, bytes: &[u8]) {
        self.place(at, bytes.len() as u64)
            .expect("RAM of the guest")
            .copy_from_slice(bytes);
    }

    /// The guest reads its RAM.
    pub fn peek(&self, at: Gpa, bytes: usize) -> &[u8] {
        let (ram, range) = self.range(at, bytes as u64).expect("RAM of the guest");
        &ram[range]
    }

    fn range(&self, at: Gpa, bytes: u64) -> Option<(&[u8], Range<usize>)> {
        let end = at.get().checked_add(bytes)?;
        let is_hole = |hole: &Range<u64>| at.get() < hole.end && hole.start < end;
        if self.holes.iter().any(is_hole) {
            return None;
        }
        let (ram, base) = match at.get().checked_sub(MSIX_PAGE.get()) {
            Some(_) => (&self.tables, MSIX_PAGE.get()),
            None => (&self.ram, 0),
        };
        let range = usize::try_from(at.get() - base).ok()?..usize::try_from(end - base).ok()?;
        (range.end <= ram.len()).then_some((ram, range))
    }

    fn place(&mut self, at: Gpa, bytes: u64) -> Option<&mut [u8]> {
        let (_, range) = self.range(at, bytes)?;
        let ram = if at >= MSIX_PAGE {
            &mut self.tables
        } else {
            &mut self.ram
        };
        Some(&mut ram[range])
    }

    /// A page of the disk is to be the guest's own.
    fn overlay(&mut self, page: u64) -> Result<(), Unwritten> {
        let is_full = self
            .disk_room
            .is_some_and(|room| room <= self.overlaid.len() as u64);
        if is_full && !self.overlaid.contains(&page) {
            return Err(Unwritten::Full);
        }
        self.overlaid.insert(page);
        Ok(())
    }

    /// Bytes of the disk that are cleared: no more than a device may ask for at a time.
    fn clearing(&mut self, at: u64, bytes: u64) -> Range<usize> {
        self.count(bytes / 4096);
        assert!(at.is_multiple_of(512) && bytes.is_multiple_of(512) && bytes <= 2 << 20);
        let place = |at: u64| usize::try_from(at).expect("within the disk");
        assert!(place(at + bytes) <= self.disk.len());
        place(at)..place(at + bytes)
    }

    fn note(&mut self, at: Gpa, bytes: u64, is_write: bool) {
        self.accesses.push(Access { at, bytes, is_write });
    }

    fn count(&mut self, pages: u64) {
        self.work = self.work.saturating_add(1).saturating_add(pages);
    }
}

fn pages(at: Gpa, bytes: u64) -> Range<u64> {
    let last = at.get().saturating_add(bytes.saturating_sub(1)) / 4096;
    at.gfn().get()..if bytes == 0 { at.gfn().get() } else { last + 1 }
}

fn page_count(at: Gpa, bytes: u64) -> u64 {
    let pages = pages(at, bytes);
    pages.end - pages.start
}

fn take(counter: &mut u32) -> Result<(), Denied> {
    match counter.checked_sub(1) {
        Some(rest) => {
            *counter = rest;
            Err(Denied::HostShort)
        }
        None => Ok(()),
    }
}

/// The same behind calls that succeed.
fn take_later(later: &mut u32, counter: &mut u32) -> Result<(), Denied> {
    match later.checked_sub(1) {
        Some(rest) => {
            *later = rest;
            Ok(())
        }
        None => take(counter),
    }
}

impl Hands for FakeHands {
    fn read(&mut self, at: Gpa, out: &mut [u8]) -> Result<(), Denied> {
        self.count(page_count(at, out.len() as u64));
        self.range(at, out.len() as u64).ok_or(Denied::NoRam)?;
        if let Err(away) = take_later(&mut self.short.read_later, &mut self.short.read) {
            out.fill(GARBAGE);
            return Err(away);
        }
        let (ram, range) = self.range(at, out.len() as u64).ok_or(Denied::NoRam)?;
        out.copy_from_slice(&ram[range]);
        self.note(at, out.len() as u64, false);
        Ok(())
    }

    fn make_writable(&mut self, at: Gpa, bytes: u64) -> Result<(), Denied> {
        self.count(page_count(at, bytes));
        self.range(at, bytes).ok_or(Denied::NoRam)?;
        take_later(&mut self.short.make_writable_later, &mut self.short.make_writable)?;
        self.writable.extend(pages(at, bytes));
        Ok(())
    }

    fn write(&mut self, at: Gpa, bytes: &[u8]) -> Result<(), Denied> {
        self.count(page_count(at, bytes.len() as u64));
        self.range(at, bytes.len() as u64).ok_or(Denied::NoRam)?;
        if !pages(at, bytes.len() as u64).all(|page| self.writable.contains(&page)) {
            take(&mut self.short.write)?;
        }
        self.place(at, bytes.len() as u64)
            .ok_or(Denied::NoRam)?
            .copy_from_slice(bytes);
        self.note(at, bytes.len() as u64, true);
        Ok(())
    }

    fn inflate(&mut self, pages: &[Gfn]) {
        assert!(pages.len() <= 256);
        self.count(pages.len() as u64);
        self.inflated.extend_from_slice(pages);
    }

    fn deflate(&mut self, pages: &[Gfn]) {
        assert!(pages.len() <= 256);
        self.count(pages.len() as u64);
        self.deflated.extend_from_slice(pages);
    }

    fn report(&mut self, first: Gfn, count: u64) {
        assert!(count <= 512);
        self.count(count);
        self.reported.push((first, count));
    }

    fn plug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        self.count(1);
        let end = first.get().checked_add(count).ok_or(Denied::NoRam)?;
        let is_allowed = self.pluggable.start <= first.get() && end <= self.pluggable.end;
        if !is_allowed || self.plugged.range(first.get()..end).next().is_some() {
            return Err(Denied::NoRam);
        }
        take(&mut self.short.plug)?;
        self.plugged.extend(first.get()..end);
        self.plugs.push((first, count));
        Ok(())
    }

    fn unplug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        assert!(count <= 512);
        self.count(count);
        if self.plugged(first, count) != Plugged::All {
            return Err(Denied::NoRam);
        }
        take(&mut self.short.unplug)?;
        for page in first.get()..first.get() + count {
            self.plugged.remove(&page);
        }
        self.unplugs.push((first, count));
        Ok(())
    }

    fn plugged(&mut self, first: Gfn, count: u64) -> Plugged {
        self.count(1);
        let end = first.get().saturating_add(count);
        let there = self.plugged.range(first.get()..end).count() as u64;
        if there == 0 {
            Plugged::None
        } else if there == count {
            Plugged::All
        } else {
            Plugged::Some
        }
    }

    fn read_disk(&mut self, at: u64, out: &mut [u8]) -> Result<(), Denied> {
        self.count(out.len() as u64 / 4096);
        assert!(at.is_multiple_of(512) && out.len().is_multiple_of(512));
        out.fill(GARBAGE);
        take(&mut self.short.read_disk)?;
        let at = usize::try_from(at).expect("within the disk");
        out.copy_from_slice(&self.disk[at..at + out.len()]);
        Ok(())
    }

    fn write_disk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Unwritten> {
        self.count(bytes.len() as u64 / 4096);
        assert!(at.is_multiple_of(512) && bytes.len().is_multiple_of(512));
        take(&mut self.short.write_disk).map_err(|_| Unwritten::HostShort)?;
        for (place, sector) in (at..).step_by(512).zip(bytes.chunks(512)) {
            self.overlay(place / 4096)?;
            let place = usize::try_from(place).expect("within the disk");
            self.disk[place..place + 512].copy_from_slice(sector);
        }
        Ok(())
    }

    fn discard_disk(&mut self, at: u64, bytes: u64) {
        let range = self.clearing(at, bytes);
        for page in at.div_ceil(4096)..(at + bytes) / 4096 {
            self.overlaid.remove(&page);
            let place = usize::try_from(4096 * page).expect("within the disk");
            assert!(range.contains(&place));
            self.disk[place..place + 4096].fill(DISCARDED);
        }
    }

    fn zero_disk(&mut self, at: u64, bytes: u64) -> Result<(), Unwritten> {
        let range = self.clearing(at, bytes);
        take(&mut self.short.write_disk).map_err(|_| Unwritten::HostShort)?;
        for page in at / 4096..(at + bytes).div_ceil(4096) {
            self.overlay(page)?;
        }
        self.disk[range].fill(0);
        Ok(())
    }

    fn random(&mut self, out: &mut [u8]) {
        self.count(out.len() as u64 / 4096);
        for byte in out {
            *byte = (self.randoms & 0xff) as u8;
            self.randoms += 1;
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        self.count(bytes.len() as u64 / 4096);
        self.printed.extend_from_slice(bytes);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.count(bytes.len() as u64 / 4096);
        self.heard.extend_from_slice(bytes);
    }
}
