//! An owner that has no host memory, or whose page is away, at the calls that a test names, and looks at how devices
//! use it.

use std::collections::VecDeque;
use std::vec::Vec;

use pleat_devices::virtio::{Denied, Hands, Plugged, Unwritten};
use pleat_types::{Gfn, Gpa};

use super::FakeHands;

/// [`FakeHands`] behind a schedule.
#[derive(Clone, Debug)]
pub struct Grudging {
    pub inner: FakeHands,
    /// Whether the next calls that may find no host memory, or a page away, do; behind its end all is there.
    pub schedule: VecDeque<bool>,
    /// Calls that did.
    pub refusals: u64,
    /// Sizes of what was printed and heard at a time.
    pub pieces: Vec<usize>,
    /// Bytes that were moved to and from the disk.
    pub disk_written: u64,
    pub disk_read: u64,
}

impl Grudging {
    /// Writes to what was not made writable fail, too.
    pub fn new(ram_bytes: usize) -> Self {
        let mut inner = FakeHands::new(ram_bytes);
        inner.short.write = u32::MAX;
        Self {
            inner,
            schedule: VecDeque::new(),
            refusals: 0,
            pieces: Vec::new(),
            disk_written: 0,
            disk_read: 0,
        }
    }

    /// The call after `calls` others is refused.
    pub fn refuse_after(&mut self, calls: usize) {
        self.schedule = (0..=calls).map(|call| call == calls).collect();
    }

    fn ask(&mut self) -> Result<(), Denied> {
        if self.schedule.pop_front() == Some(true) {
            self.refusals += 1;
            return Err(Denied::HostShort);
        }
        Ok(())
    }
}

impl Hands for Grudging {
    fn read(&mut self, at: Gpa, out: &mut [u8]) -> Result<(), Denied> {
        self.ask()?;
        self.inner.read(at, out)
    }

    fn make_writable(&mut self, at: Gpa, bytes: u64) -> Result<(), Denied> {
        self.ask()?;
        self.inner.make_writable(at, bytes)
    }

    fn write(&mut self, at: Gpa, bytes: &[u8]) -> Result<(), Denied> {
        self.inner.write(at, bytes)
    }

    fn inflate(&mut self, pages: &[Gfn]) {
        self.inner.inflate(pages);
    }

    fn deflate(&mut self, pages: &[Gfn]) {
        self.inner.deflate(pages);
    }

    fn report(&mut self, first: Gfn, count: u64) {
        self.inner.report(first, count);
    }

    fn plug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        self.ask()?;
        self.inner.plug(first, count)
    }

    fn unplug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        self.ask()?;
        self.inner.unplug(first, count)
    }

    fn plugged(&mut self, first: Gfn, count: u64) -> Plugged {
        self.inner.plugged(first, count)
    }

    fn read_disk(&mut self, at: u64, out: &mut [u8]) -> Result<(), Denied> {
        self.ask()?;
        self.disk_read += out.len() as u64;
        self.inner.read_disk(at, out)
    }

    fn write_disk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Unwritten> {
        self.ask().map_err(|_| Unwritten::HostShort)?;
        self.disk_written += bytes.len() as u64;
        self.inner.write_disk(at, bytes)
    }

    fn discard_disk(&mut self, at: u64, bytes: u64) {
        self.inner.discard_disk(at, bytes);
    }

    fn zero_disk(&mut self, at: u64, bytes: u64) -> Result<(), Unwritten> {
        self.ask().map_err(|_| Unwritten::HostShort)?;
        self.inner.zero_disk(at, bytes)
    }

    fn random(&mut self, out: &mut [u8]) {
        self.inner.random(out);
    }

    fn print(&mut self, bytes: &[u8]) {
        self.pieces.push(bytes.len());
        self.inner.print(bytes);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.pieces.push(bytes.len());
        self.inner.hear(bytes);
    }
}
