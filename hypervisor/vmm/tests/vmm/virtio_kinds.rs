//! What drivers of each kind of virtio device do.

use crate::fake::Op;
use crate::virtio::{Buffer, Driver, Kind, from_guest, to_guest};
use pleat_types::{FRAME_SIZE, PortSize};

pub const INFLATE: u16 = 0;
pub const DEFLATE: u16 = 1;
pub const STATISTICS: u16 = 2;
pub const REPORTING: u16 = 3;

const SECTOR: u64 = 512;
/// Queues of the console.
pub const CONTROL_RECEIVE: u16 = 2;
pub const CONTROL_TRANSMIT: u16 = 3;
pub const PRESSURE_RECEIVE: u16 = 4;
pub const PRESSURE_TRANSMIT: u16 = 5;

/// Requests to a memory device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    Plug,
    Unplug,
    UnplugAll,
    State,
}

/// Its answers, as it writes them.
pub const ACK: u64 = 0;
pub const NACK: u64 = 1;
pub const BUSY: u64 = 2;
pub const ERROR: u64 = 3;

/// Page numbers as the balloon's queues have them.
fn numbers(pages: &[u64]) -> Vec<u8> {
    let bytes = |page: &u64| u32::try_from(*page).expect("32 bits").to_le_bytes();
    pages.iter().flat_map(bytes).collect()
}

impl Driver {
    fn move_pages(&mut self, queue: u16, pages: &[u64]) {
        let numbers = numbers(pages);
        let at = self.put(&numbers);
        let bytes = u32::try_from(numbers.len()).expect("few");
        self.chain(Kind::Balloon, queue, &[from_guest(at, bytes)])
            .notify(Kind::Balloon, queue);
    }

    /// Puts pages into the balloon: all of them RAM.
    pub fn inflate(&mut self, pages: &[u64]) -> &mut Self {
        self.move_pages(INFLATE, pages);
        for page in pages {
            self.becomes(page << 12, vec![0; FRAME_SIZE]);
        }
        self.expect_used(Kind::Balloon, INFLATE, 0)
    }

    /// Says that numbers of pages that are no RAM go into the balloon.
    pub fn pretend_to_inflate(&mut self, pages: &[u64]) -> &mut Self {
        self.move_pages(INFLATE, pages);
        self.expect_used(Kind::Balloon, INFLATE, 0)
    }

    pub fn deflate(&mut self, pages: &[u64]) -> &mut Self {
        self.move_pages(DEFLATE, pages);
        self.expect_used(Kind::Balloon, DEFLATE, 0)
    }

    /// Reports ranges of free pages (first, count).
    pub fn report(&mut self, ranges: &[(u64, u64)]) -> &mut Self {
        self.send_report(ranges);
        for page in ranges.iter().flat_map(|(first, count)| *first..first + count) {
            self.becomes(page << 12, vec![0; FRAME_SIZE]);
        }
        self.expect_used(Kind::Balloon, REPORTING, 0)
    }

    /// Reports ranges that the device leaves as they are.
    pub fn pretend_to_report(&mut self, ranges: &[(u64, u64)]) -> &mut Self {
        self.send_report(ranges);
        self.expect_used(Kind::Balloon, REPORTING, 0)
    }

    fn send_report(&mut self, ranges: &[(u64, u64)]) {
        let buffer = |(first, count): &(u64, u64)| {
            let bytes = u32::try_from(count << 12).expect("few");
            to_guest(first << 12, bytes)
        };
        let buffers: Vec<Buffer> = ranges.iter().map(buffer).collect();
        self.chain(Kind::Balloon, REPORTING, &buffers)
            .notify(Kind::Balloon, REPORTING);
    }

    /// Leaves statistics with the device: tags and values.
    pub fn say(&mut self, statistics: &[(u16, u64)]) -> &mut Self {
        let entry = |(tag, value): &(u16, u64)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
        let bytes: Vec<u8> = statistics.iter().flat_map(entry).collect();
        let at = self.put(&bytes);
        let bytes = u32::try_from(bytes.len()).expect("few");
        self.chain(Kind::Balloon, STATISTICS, &[from_guest(at, bytes)])
            .notify(Kind::Balloon, STATISTICS)
    }

    /// Expects that the balloon is to hold so many pages.
    pub fn expect_target(&mut self, pages: u64) -> &mut Self {
        self.expect_input(Kind::Balloon.port() + 0x80, PortSize::Dword, pages)
    }

    /// A request to the memory device, with the answer that is expected: its kind, and the state.
    pub fn ask(&mut self, ask: Ask, at: u64, blocks: u16, answer: u64, state: u64) -> &mut Self {
        let mut request = [0; 24];
        request[0] = ask as u8;
        request[8..16].copy_from_slice(&at.to_le_bytes());
        request[16..18].copy_from_slice(&blocks.to_le_bytes());
        let from = self.put(&request);
        let to = self.put(&[0xee; 16]);
        self.request(Kind::Mem, 0, &[from_guest(from, 24), to_guest(to, 10)], 10)
            .then([
                Op::Expect(to, answer),
                Op::Expect(to + 8, 0xeeee_eeee_eeee_0000 | state),
            ])
    }

    fn disk_chain(&mut self, kind: u8, sector: u64, data: Buffer) -> u64 {
        let mut header = [0; 16];
        header[0] = kind;
        header[8..].copy_from_slice(&sector.to_le_bytes());
        let header = self.put(&header);
        let status = self.put(&[0xff; 8]);
        let buffers = [from_guest(header, 16), data, to_guest(status, 1)];
        self.chain(Kind::Block, 0, &buffers).notify(Kind::Block, 0);
        status
    }

    /// Reads from the disk to memory that has these bytes afterwards.
    pub fn read_disk(&mut self, sector: u64, to: u64, content: Vec<u8>) -> &mut Self {
        let bytes = u32::try_from(content.len()).expect("few");
        let status = self.disk_chain(0, sector, to_guest(to, bytes));
        for (n, piece) in (0u64..).zip(content.chunks(8)) {
            let word = u64::from_le_bytes(piece.try_into().expect("whole sectors"));
            self.ops.push(Op::Expect(to + 8 * n, word));
        }
        // Before what is expected, so that a run that ends in between knows it.
        let at = self.ops.len() - content.len() / 8;
        self.ops.insert(at, Op::Becomes(to, content));
        self.expect_used(Kind::Block, 0, bytes + 1)
            .then([Op::Expect(status, 0xffff_ffff_ffff_ff00)])
    }

    /// Writes so many sectors of its memory to the disk.
    pub fn write_disk(&mut self, sector: u64, from: u64, sectors: u64) -> &mut Self {
        let bytes = u32::try_from(sectors * SECTOR).expect("few");
        let status = self.disk_chain(1, sector, from_guest(from, bytes));
        self.expect_used(Kind::Block, 0, 1)
            .then([Op::Expect(status, 0xffff_ffff_ffff_ff00)])
    }

    /// A request that the disk refuses as an error.
    pub fn fail_to_write_disk(&mut self, sector: u64, from: u64, sectors: u64) -> &mut Self {
        let bytes = u32::try_from(sectors * SECTOR).expect("few");
        let status = self.disk_chain(1, sector, from_guest(from, bytes));
        self.expect_used(Kind::Block, 0, 1)
            .then([Op::Expect(status, 0xffff_ffff_ffff_ff01)])
    }

    /// Discards (11) or zeroes (13) ranges of the disk, and expects this status.
    pub fn clear_disk(&mut self, kind: u8, ranges: &[(u64, u64)], code: u64) -> &mut Self {
        let raw = ranges.iter().flat_map(|range| [range.0, range.1]);
        let raw: Vec<u8> = raw.flat_map(u64::to_le_bytes).collect();
        let at = self.put(&raw);
        let bytes = u32::try_from(raw.len()).expect("few");
        let status = self.disk_chain(kind, 0, from_guest(at, bytes));
        self.expect_used(Kind::Block, 0, 1)
            .then([Op::Expect(status, 0xffff_ffff_ffff_ff00 | code)])
    }

    pub fn discard_disk(&mut self, sector: u64, sectors: u64) -> &mut Self {
        self.clear_disk(11, &[(sector, sectors)], 0)
    }

    pub fn zero_disk(&mut self, sector: u64, sectors: u64) -> &mut Self {
        self.clear_disk(13, &[(sector, sectors)], 0)
    }

    /// Opens the port for messages about pressure, with so many buffers for lines, and gives their addresses.
    pub fn open_pressure(&mut self, buffers: usize) -> Vec<u64> {
        for _ in 0..8 {
            let at = self.room(64);
            self.chain(Kind::Console, CONTROL_RECEIVE, &[to_guest(at, 64)]);
        }
        // DEVICE_READY, PORT_READY and PORT_OPEN of port 1, each with the value 1.
        for (port, event) in [(0u64, 0u64), (1, 3), (1, 6)] {
            let at = self.put(&(port | event << 32 | 1 << 48).to_le_bytes());
            self.request(Kind::Console, CONTROL_TRANSMIT, &[from_guest(at, 8)], 0);
        }
        let lines: Vec<u64> = (0..buffers).map(|_| self.put(&[0; 64])).collect();
        for at in &lines {
            self.chain(Kind::Console, PRESSURE_RECEIVE, &[to_guest(*at, 64)]);
        }
        self.notify(Kind::Console, PRESSURE_RECEIVE);
        lines
    }

    /// Says something on that port.
    pub fn tell(&mut self, text: &str) -> &mut Self {
        let at = self.put(text.as_bytes());
        let bytes = u32::try_from(text.len()).expect("short");
        self.request(Kind::Console, PRESSURE_TRANSMIT, &[from_guest(at, bytes)], 0)
    }

    /// Expects that a line in this buffer begins so: up to a multiple of eight bytes.
    pub fn expect_text(&mut self, at: u64, text: &str) -> &mut Self {
        let words = text.as_bytes().as_chunks::<8>().0.iter();
        let expected = (0u64..).zip(words);
        let expected = expected.map(|(n, word)| Op::Expect(at + 8 * n, u64::from_le_bytes(*word)));
        self.then(expected)
    }
}
