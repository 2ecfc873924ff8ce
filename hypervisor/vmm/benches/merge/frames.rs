//! The memory of a machine: one mapping of this process, and the page walks of its processor.
//!
//! It is mapped with 2 MiB pages where the kernel gives them, as Pleat maps a machine's memory, and as ksmd
//! sees the pages that it reads.

use crate::workload::PAGE;
use memmap2::{Advice, MmapMut};
use pleat_types::{FrameMemory, FrozenFrame, Gfn, Gpa, Hfn, Hpa};

/// Bits of an extended page-table entry (SDM table 29-6).
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LEAF: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Bit of an EPT pointer: the processor sets accessed and dirty flags (SDM table 25-9).
const HAS_FLAGS: u64 = 1 << 6;

/// Entries of a page-modification log (SDM 29.3.6).
const LOG_ENTRIES: usize = 512;

/// The dirty log of one processor.
#[derive(Clone, Debug)]
pub enum DirtyLog {
    /// The processor keeps none.
    Absent,
    /// Pages whose dirty flag it has set.
    Pages(Vec<Gfn>),
}

/// How a write of the guest got on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// It goes to this frame.
    Frame(Hfn),
    /// The tables do not allow it.
    Violation,
    /// The log has to be emptied first.
    LogFull,
}

/// Where a guest page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub frame: Hfn,
    pub is_writable: bool,
}

/// The frames of a machine.
#[derive(Debug)]
pub struct Frames {
    bytes: MmapMut,
}

impl Frames {
    /// So many frames, all zero.
    pub fn new(frames: usize) -> std::io::Result<Self> {
        let bytes = MmapMut::map_anon(frames * PAGE)?;
        // Without large pages it works as well, only slower.
        let _ = bytes.advise(Advice::HugePage);
        Ok(Self { bytes })
    }

    /// The bytes of a frame.
    pub fn frame(&self, frame: Hfn) -> &[u8; PAGE] {
        &self.bytes.as_chunks().0[index(frame)]
    }

    /// The same, to be written.
    pub fn frame_mut(&mut self, frame: Hfn) -> &mut [u8; PAGE] {
        &mut self.bytes.as_chunks_mut().0[index(frame)]
    }

    /// Where a guest page is, without leaving a trace; `None` where it was never touched.
    pub fn find(&self, eptp: u64, gfn: Gfn) -> Option<Place> {
        let path = self.walk(eptp, gfn, READ)?;
        Some(Place {
            frame: path.frame,
            is_writable: path.leaf & WRITE != 0,
        })
    }

    /// A write of the guest: the processor checks the entries, logs, and sets accessed and dirty flags, in
    /// this order (SDM 29.3.5, 29.3.6).
    pub fn reach(&mut self, eptp: u64, gpa: Gpa, log: &mut DirtyLog) -> Reach {
        let Some(path) = self.walk(eptp, gpa.gfn(), READ | WRITE) else {
            return Reach::Violation;
        };
        if eptp & HAS_FLAGS == 0 {
            return Reach::Frame(path.frame);
        }
        if path.leaf & DIRTY == 0
            && let DirtyLog::Pages(pages) = log
        {
            if pages.len() == LOG_ENTRIES {
                return Reach::LogFull;
            }
            pages.push(gpa.gfn());
        }
        for (table, place) in &path.upper[..path.uppers] {
            let entry = self.load_entry(*table, *place);
            if entry & ACCESSED == 0 {
                self.store_entry(*table, *place, entry | ACCESSED);
            }
        }
        let (table, place) = path.at;
        if path.leaf & (ACCESSED | DIRTY) != ACCESSED | DIRTY {
            self.store_entry(table, place, path.leaf | ACCESSED | DIRTY);
        }
        Reach::Frame(path.frame)
    }

    /// All entries on the way must allow `needed`.
    fn walk(&self, eptp: u64, gfn: Gfn, needed: u64) -> Option<Path> {
        let mut table = Hpa::new(eptp & ADDRESS).hfn();
        let mut upper = [(table, 0); 3];
        for depth in 0..4 {
            let below = 9 * (3 - depth);
            let place = usize::try_from(gfn.get() >> below & 511).ok()?;
            let entry = self.load_entry(table, place);
            if entry & needed != needed {
                return None;
            }
            let next = Hpa::new(entry & ADDRESS).hfn();
            if depth == 3 || entry & LEAF != 0 {
                let rest = gfn.get() & ((1 << below) - 1);
                return Some(Path {
                    upper,
                    uppers: depth,
                    at: (table, place),
                    leaf: entry,
                    frame: Hfn::new(next.get() | rest),
                });
            }
            upper[depth] = (table, place);
            table = next;
        }
        None
    }
}

/// The way of a page walk.
struct Path {
    /// Entries that name tables, of which there are `uppers`.
    upper: [(Hfn, usize); 3],
    uppers: usize,
    /// Where the last entry is, and its value.
    at: (Hfn, usize),
    leaf: u64,
    frame: Hfn,
}

fn index(frame: Hfn) -> usize {
    usize::try_from(frame.get()).expect("a frame of this machine")
}

impl FrameMemory for Frames {
    fn read_frame(&self, frame: Hfn, out: &mut [u8; PAGE]) {
        *out = *self.frame(frame);
    }
    fn frozen<'a>(&'a self, frame: &'a FrozenFrame) -> &'a [u8; PAGE] {
        self.frame(frame.frame())
    }
    fn zero_frame(&mut self, frame: Hfn) {
        self.frame_mut(frame).fill(0);
    }
    fn copy_frame(&mut self, from: Hfn, to: Hfn) {
        let from = index(from) * PAGE;
        self.bytes.copy_within(from..from + PAGE, index(to) * PAGE);
    }
    fn read(&self, from: Hpa, out: &mut [u8]) {
        let at = usize::try_from(from.get()).expect("an address of this machine");
        out.copy_from_slice(&self.bytes[at..at + out.len()]);
    }
    fn write(&mut self, to: Hpa, bytes: &[u8]) {
        let at = usize::try_from(to.get()).expect("an address of this machine");
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn load_entry(&self, table: Hfn, place: usize) -> u64 {
        u64::from_le_bytes(self.frame(table).as_chunks().0[place])
    }
    fn store_entry(&mut self, table: Hfn, place: usize, value: u64) {
        self.frame_mut(table).as_chunks_mut().0[place] = value.to_le_bytes();
    }
}
