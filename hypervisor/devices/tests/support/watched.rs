//! An owner that checks what its guest's devices use: memory that the guest's descriptors name, and nothing else.

use std::vec::Vec;

use pleat_devices::Board;
use pleat_devices::virtio::{Denied, Hands, MemSetup, Plugged, Unwritten};
use pleat_types::PortSize::{Dword, Word};
use pleat_types::{Gfn, Gpa};

use super::{Driver, FakeHands, config, input, output, set_config};

/// Bytes from a first one on.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u64,
    bytes: u64,
}

impl Span {
    /// Whether these bytes are all in it.
    fn holds(self, at: u64, bytes: u64) -> bool {
        at.checked_sub(self.at)
            .is_some_and(|offset| offset <= self.bytes && bytes <= self.bytes - offset)
    }
}

/// [`FakeHands`] for one call of `Board::serve`.
pub struct Watched<'a> {
    pub hands: &'a mut FakeHands,
    mem: Option<MemSetup>,
    tables: Vec<Span>,
    /// What may be read, and written, by now: rings at first, then the buffers of each descriptor that was read.
    readable: Vec<Span>,
    writable: Vec<Span>,
}

impl<'a> Watched<'a> {
    /// With the queues that the devices of this board have now.
    pub fn new(hands: &'a mut FakeHands, board: &Board, mem: Option<MemSetup>) -> Self {
        let mut watched = Self {
            hands,
            mem,
            tables: Vec::new(),
            readable: Vec::new(),
            writable: Vec::new(),
        };
        // The registers of a copy show them: there the windows can be moved to where they can be read.
        let mut copy = board.clone();
        let in_use = board.virtio_functions().filter(|view| view.is_driven);
        for device in in_use.map(|view| u32::from(view.device)) {
            let msix = u64::from(config(&mut copy, device, 0x14));
            let _ = set_config(&mut copy, device, 0x10, 0xf000 + 0x200 * device);
            if let Some(driver) = Driver::find(&mut copy, device) {
                watched.readable.push(Span { at: msix, bytes: 128 });
                watched.find_queues(&mut copy, &driver);
            }
        }
        watched
    }

    fn find_queues(&mut self, board: &mut Board, driver: &Driver) {
        let common = driver.common;
        for index in 0..input(board, common + 0x12, Word) {
            let _ = output(board, common + 0x16, Word, index);
            if input(board, common + 0x1c, Word) == 0 {
                continue;
            }
            let size = u64::from(input(board, common + 0x18, Word));
            let [descriptors, available, used] = [0x20, 0x28, 0x30].map(|at| {
                let [low, high] = [at, at + 4].map(|at| u64::from(input(board, common + at, Dword)));
                high << 32 | low
            });
            self.tables.push(Span {
                at: descriptors,
                bytes: 16 * size,
            });
            self.readable.push(Span {
                at: available,
                bytes: 4 + 2 * size,
            });
            self.writable.push(Span {
                at: used,
                bytes: 4 + 8 * size,
            });
        }
    }

    /// A descriptor was read: its buffer may be used.
    fn learn(&mut self, at: Gpa, raw: &[u8]) {
        let is_descriptor =
            |table: &Span| table.holds(at.get(), 16) && (at.get() - table.at).is_multiple_of(16);
        if raw.len() != 16 || !self.tables.iter().any(is_descriptor) {
            return;
        }
        let word = |n: usize| u32::from_le_bytes([raw[n], raw[n + 1], raw[n + 2], raw[n + 3]]);
        let span = Span {
            at: u64::from(word(4)) << 32 | u64::from(word(0)),
            bytes: u64::from(word(8)),
        };
        if raw[12] & 2 == 0 {
            self.readable.push(span);
        } else {
            self.writable.push(span);
        }
    }

    fn check_read(&self, at: Gpa, bytes: u64) {
        let mut known = self.tables.iter().chain(&self.readable);
        let is_known = known.any(|span| span.holds(at.get(), bytes));
        assert!(is_known, "read of {bytes} bytes at {at}");
    }

    fn check_write(&self, at: Gpa, bytes: u64) {
        let is_known = self.writable.iter().any(|span| span.holds(at.get(), bytes));
        assert!(is_known, "write of {bytes} bytes at {at}");
    }

    fn check_region(&self, first: Gfn, count: u64) {
        let setup = self.mem.expect("a device that plugs memory");
        let offset = first.get().checked_sub(setup.first.get());
        let is_inside = offset.is_some_and(|offset| offset <= setup.frames && count <= setup.frames - offset);
        assert!(is_inside, "{count} pages from {first}");
    }
}

impl Hands for Watched<'_> {
    fn read(&mut self, at: Gpa, out: &mut [u8]) -> Result<(), Denied> {
        self.check_read(at, out.len() as u64);
        self.hands.read(at, out)?;
        self.learn(at, out);
        Ok(())
    }

    fn make_writable(&mut self, at: Gpa, bytes: u64) -> Result<(), Denied> {
        self.check_write(at, bytes);
        self.hands.make_writable(at, bytes)
    }

    fn write(&mut self, at: Gpa, bytes: &[u8]) -> Result<(), Denied> {
        self.check_write(at, bytes.len() as u64);
        self.hands.write(at, bytes)
    }

    fn inflate(&mut self, pages: &[Gfn]) {
        self.hands.inflate(pages);
    }

    fn deflate(&mut self, pages: &[Gfn]) {
        self.hands.deflate(pages);
    }

    fn report(&mut self, first: Gfn, count: u64) {
        self.check_write(first.base(), 4096 * count);
        self.hands.report(first, count);
    }

    fn plug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        self.check_region(first, count);
        self.hands.plug(first, count)
    }

    fn unplug(&mut self, first: Gfn, count: u64) -> Result<(), Denied> {
        self.check_region(first, count);
        self.hands.unplug(first, count)
    }

    fn plugged(&mut self, first: Gfn, count: u64) -> Plugged {
        self.check_region(first, count);
        self.hands.plugged(first, count)
    }

    fn read_disk(&mut self, at: u64, out: &mut [u8]) -> Result<(), Denied> {
        self.hands.read_disk(at, out)
    }

    fn write_disk(&mut self, at: u64, bytes: &[u8]) -> Result<(), Unwritten> {
        self.hands.write_disk(at, bytes)
    }

    fn discard_disk(&mut self, at: u64, bytes: u64) {
        self.hands.discard_disk(at, bytes);
    }

    fn zero_disk(&mut self, at: u64, bytes: u64) -> Result<(), Unwritten> {
        self.hands.zero_disk(at, bytes)
    }

    fn random(&mut self, out: &mut [u8]) {
        self.hands.random(out);
    }

    fn print(&mut self, bytes: &[u8]) {
        self.hands.print(bytes);
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.hands.hear(bytes);
    }
}
