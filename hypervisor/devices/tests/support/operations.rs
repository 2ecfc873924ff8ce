//! What the guest's bytes mean: some of it what a driver does, some of it what nobody should do.

use pleat_devices::Pending;
use pleat_devices::virtio::{Direction, Served};
use pleat_types::PortSize::{Byte, Dword, Word};
use pleat_types::{Gpa, PortSize, Tsc};

use super::guest::{BUFFERS, Bytes, Guest, RAM_BYTES};
use super::{RawDescriptor, config, input, output, set_config};

/// Lengths of buffers, beside any.
const LENGTHS: [u32; 12] = [0, 1, 2, 4, 8, 10, 12, 16, 24, 512, 4096, 0x1_0000];
/// Fields of the capability for accesses (virtio 1.2, 4.1.4.9): BAR, offset and length; data.
const ACCESS: u32 = 0xa4;
const ACCESS_DATA: u32 = 0xb0;
/// Calls of `serve` in a row, while there is more to do.
const SERVES: usize = 24;

impl Guest {
    /// Does the next thing.
    pub fn perform(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.choose(16) {
            0 | 1 => self.start(bytes),
            2..5 => self.send(bytes),
            5 => self.request(bytes),
            6 => self.serve_short(bytes),
            7 => self.break_descriptor(bytes),
            8 => self.break_ring(bytes),
            9 => self.poke(bytes),
            10 => self.write_port(bytes),
            11 => self.read_port(bytes),
            12 => self.write_config(bytes),
            13 => self.ask(bytes),
            14 => self.serve_away(bytes),
            _ => self.take_interrupt(bytes),
        }
    }

    fn start(&mut self, bytes: &mut Bytes<'_>) {
        let device = 1 + bytes.choose(5);
        let features = u64::from(bytes.byte());
        self.bring_up(device, features ^ 0xff, features & 1 != 0);
        self.serve_all(SERVES);
    }

    /// A chain, what its first buffers hold, a notification, and service.
    fn send(&mut self, bytes: &mut Bytes<'_>) {
        let device = 1 + bytes.choose(5);
        let index = u16::from(bytes.byte() % 6);
        let Some(mut queue) = self.queues.remove(&(device, index)) else {
            return;
        };
        let shape = bytes.byte();
        let mut buffers = Vec::new();
        for n in 0..=shape & 3 {
            let (at, bytes) = self.buffer(bytes);
            let writes = shape >> 4 >> n & 1 != 0;
            let direction = if writes {
                Direction::ToGuest
            } else {
                Direction::FromGuest
            };
            buffers.push((at, bytes, direction));
        }
        if shape & 4 == 0 {
            // In the order of the rules.
            buffers.sort_by_key(|(_, _, direction)| *direction == Direction::ToGuest);
        }
        if queue.has_room(buffers.len()) {
            queue.add(&mut self.hands, &buffers);
        }
        self.queues.insert((device, index), queue);
        if shape & 8 == 0 {
            self.notify(device, index);
            self.serve_all(SERVES);
            self.collect(device, index);
        }
    }

    /// A request as the drivers of the disk and of pluggable memory make it.
    fn request(&mut self, bytes: &mut Bytes<'_>) {
        let (device, count) = [(4, 3), (2, 2)][bytes.choose(2)];
        let Some(mut queue) = self.queues.remove(&(device, 0)) else {
            return;
        };
        let (kind, place, size) = (u32::from(bytes.byte() % 14), bytes.byte(), bytes.byte());
        // Blocks of 2 MiB for memory: few, so that what the owner asks for is sometimes enough.
        let (kind, size) = if device == 4 {
            (kind, size)
        } else {
            (kind & 3, size & 3)
        };
        let mut head = [0; 24];
        head[..4].copy_from_slice(&kind.to_le_bytes());
        let place = match device {
            4 => u64::from(place),
            _ => 0x1_0000_0000 + (u64::from(place & 0xf) << 21),
        };
        head[8..16].copy_from_slice(&place.to_le_bytes());
        head[16] = size;
        self.hands.poke(Gpa::new(BUFFERS), &head);
        // To discard and to write zeroes; to write, or to plug.
        let (direction, length) = match kind {
            11 | 13 if device == 4 => (Direction::FromGuest, self.ranges(bytes, size)),
            1 => (Direction::FromGuest, 512 * u32::from(size)),
            _ => (Direction::ToGuest, 512 * u32::from(size)),
        };
        let buffers = [
            (
                Gpa::new(BUFFERS),
                if device == 4 { 16 } else { 24 },
                Direction::FromGuest,
            ),
            (Gpa::new(BUFFERS + 0x1000), length, direction),
            (Gpa::new(BUFFERS + 0x100), 16, Direction::ToGuest),
        ];
        let buffers = if device == 4 {
            &buffers[..count]
        } else {
            &[buffers[0], buffers[2]]
        };
        if queue.has_room(count) {
            queue.add(&mut self.hands, buffers);
        }
        self.queues.insert((device, 0), queue);
        self.notify(device, 0);
        self.serve_all(SERVES);
        self.collect(device, 0);
    }

    /// Ranges of the disk to clear: up to 18, more than a request may have; what they say, and how many bytes they take.
    fn ranges(&mut self, bytes: &mut Bytes<'_>, shape: u8) -> u32 {
        let count = 1 + u32::from(shape) % 18;
        for n in 0..u64::from(count) {
            let (first, sectors, odd) = (bytes.byte(), bytes.byte(), bytes.byte());
            let mut raw = [first, 0, 0, 0, 0, 0, 0, 0, sectors, 0, 0, 0, odd >> 7, 0, 0, 0];
            // Rarely something that no disk has.
            raw[usize::from(odd >> 4 & 7) + 4] |= if odd & 0xf == 0 { odd } else { 0 };
            self.hands.poke(Gpa::new(BUFFERS + 0x1000 + 16 * n), &raw);
        }
        16 * count - u32::from(shape > 0xfc)
    }

    /// The driver takes what was given back.
    fn collect(&mut self, device: usize, index: u16) {
        if let Some(queue) = self.queues.get_mut(&(device, index)) {
            self.reached.used += queue.used(&self.hands).len() as u64;
        }
    }

    /// Where a buffer is and how long, and its first bytes.
    fn buffer(&mut self, bytes: &mut Bytes<'_>) -> (Gpa, u32) {
        let at = BUFFERS + 0x100 * u64::from(bytes.byte());
        let what = bytes.byte();
        let length = match LENGTHS.get(usize::from(what & 0xf)) {
            Some(length) => *length,
            None => bytes.word(),
        };
        for n in 0..u64::from(what >> 4) * 2 {
            self.hands.poke(Gpa::new(at + n), &[bytes.byte()]);
        }
        (Gpa::new(at), length)
    }

    fn notify(&mut self, device: usize, index: u16) {
        if let Some(driver) = self.drivers[device]
            && driver.notify(&mut self.board, index).wants_service()
        {
            assert!(self.board.has_device_work());
        }
    }

    fn serve_all(&mut self, calls: usize) {
        for _ in 0..calls {
            if self.serve() != Served::More {
                return;
            }
        }
    }

    fn serve_short(&mut self, bytes: &mut Bytes<'_>) {
        let [a, b] = [bytes.byte(), bytes.byte()];
        self.hands.short.make_writable = u32::from(a & 3);
        self.hands.short.write = u32::from(a >> 2 & 3);
        self.hands.short.write_disk = u32::from(a >> 4 & 3);
        self.hands.short.plug = u32::from(a >> 6 & 3);
        self.hands.short.unplug = u32::from(b & 3);
        self.serve_all(1 + usize::from(b >> 2) % SERVES);
    }

    /// Pages of its memory and of its disk are away, behind some that are not.
    fn serve_away(&mut self, bytes: &mut Bytes<'_>) {
        let [a, b] = [bytes.byte(), bytes.byte()];
        self.hands.short.read = u32::from(a & 3);
        self.hands.short.read_later = u32::from(a >> 2 & 0xf);
        self.hands.short.read_disk = u32::from(a >> 6);
        self.serve_all(1 + usize::from(b) % SERVES);
    }

    fn break_descriptor(&mut self, bytes: &mut Bytes<'_>) {
        let key = (1 + bytes.choose(5), u16::from(bytes.byte() % 6));
        let Some(queue) = self.queues.get(&key) else {
            return;
        };
        let index = u16::from(bytes.byte()) % queue.size;
        let what = bytes.byte();
        let raw = RawDescriptor {
            at: if what & 1 == 0 {
                u64::from(bytes.half()) << 2
            } else {
                u64::from(bytes.word()) << 32 | u64::from(bytes.word())
            },
            bytes: if what & 2 == 0 {
                u32::from(bytes.half())
            } else {
                bytes.word()
            },
            flags: u16::from(what >> 4),
            next: if what & 4 == 0 {
                u16::from(bytes.byte()) % queue.size
            } else {
                bytes.half()
            },
        };
        queue.set_descriptor(&mut self.hands, index, raw);
    }

    fn break_ring(&mut self, bytes: &mut Bytes<'_>) {
        let key = (1 + bytes.choose(5), u16::from(bytes.byte() % 6));
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        match bytes.choose(3) {
            0 => queue.offer(&mut self.hands, bytes.half()),
            1 => queue.set_available_index(&mut self.hands, bytes.half()),
            _ => queue.set_available_flags(&mut self.hands, u16::from(bytes.byte())),
        }
        self.notify(key.0, key.1);
        self.serve_all(SERVES);
    }

    /// Anything, anywhere in memory.
    fn poke(&mut self, bytes: &mut Bytes<'_>) {
        let at = u64::from(bytes.half()) * 4;
        let value = bytes.word();
        if at + 4 <= RAM_BYTES as u64 {
            self.hands.poke(Gpa::new(at), &value.to_le_bytes());
        }
        let entry = u64::from(bytes.byte()) * 4;
        let table = pleat_devices::MSIX_PAGE.get() + entry;
        self.hands.poke(Gpa::new(table), &value.to_le_bytes());
    }

    fn port(bytes: &mut Bytes<'_>) -> (u16, PortSize) {
        let size = [Byte, Word, Dword][bytes.choose(3)];
        let port = match bytes.choose(8) {
            0 => bytes.half(),
            1 => 0xcf8 + u16::from(bytes.byte() & 7),
            device => 0x1000 + 0x200 * u16::try_from(device).expect("small") + (bytes.half() & 0x1ff),
        };
        (port, size)
    }

    fn write_port(&mut self, bytes: &mut Bytes<'_>) {
        let (port, size) = Self::port(bytes);
        let value = bytes.word() & size.mask();
        if output(&mut self.board, port, size, value).wants_service() {
            assert!(self.board.has_device_work());
            self.serve_all(SERVES);
        }
        self.board.clear_output();
    }

    fn read_port(&mut self, bytes: &mut Bytes<'_>) {
        let (port, size) = Self::port(bytes);
        assert_eq!(input(&mut self.board, port, size) & !size.mask(), 0);
    }

    fn write_config(&mut self, bytes: &mut Bytes<'_>) {
        let device = u32::from(bytes.byte() % 7);
        let at = u32::from(bytes.byte() & 0xfc);
        let before = config(&mut self.board, device, at);
        let value = match at {
            // Where the capability for accesses aims: mostly at registers.
            ACCESS..ACCESS_DATA => bytes.word() & 0x1ff,
            _ => bytes.word(),
        };
        if set_config(&mut self.board, device, at, value).wants_service() {
            self.serve_all(1);
        }
        if bytes.byte() & 1 == 0 {
            let _ = set_config(&mut self.board, device, at, before);
        }
    }

    /// Its owner wants something.
    fn ask(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.choose(5) {
            0 => self.board.set_balloon_target(u64::from(bytes.half())),
            1 => self.board.ask_statistics(),
            2 => self.board.set_requested_memory(u64::from(bytes.byte()) << 21),
            3 => {
                let _ = self.board.receive_console(bytes.byte());
            }
            _ => {
                let _ = self.board.tell_pressure(b"pressure some free=1 wanted=2\n");
            }
        }
        self.serve_all(SERVES);
    }

    fn take_interrupt(&mut self, bytes: &mut Bytes<'_>) {
        let device = bytes.choose(6);
        if let Some(driver) = self.drivers[device] {
            driver.take_isr(&mut self.board);
        }
        if let Pending::Vector(vector) = self.board.pending_interrupt(0) {
            self.board.acknowledge(vector);
            let _ = self.board.write_msr(0x80b, 0, Tsc(0));
        }
    }
}
