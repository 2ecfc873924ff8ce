//! A driver's side of virtio devices (virtio 1.2, 4.1), as steps of a guest's program.
//!
//! A program is made beforehand, so the driver knows what the device will do and expects it: which chain is used next
//! and with how many bytes. All that the transport needs lies in the first MiB, where no test has pages of its own:
//! rings from [`RINGS`] on, a page for each queue, and requests from [`BUFFERS`] on.

use crate::fake::Op;
use pleat_types::{Exit, Gpr, PortAccess, PortSize};
use std::collections::{BTreeMap, VecDeque};

const RINGS: u64 = 0x1_0000;
const BUFFERS: u64 = 0x4_8000;
const BUFFERS_END: u64 = 0x9_0000;
/// PCI configuration mechanism 1.
const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
/// Command register: ports, memory, master.
const COMMAND: u64 = 7;
const VERSION_1: u64 = 1 << 32;

/// A device, by its place on the bus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Balloon = 1,
    Mem,
    Console,
    Block,
    Random,
}

impl Kind {
    /// The first port of its BAR 0.
    pub fn port(self) -> u16 {
        0x1000 + 0x200 * (self as u16 - 1)
    }

    fn queue_size(self, queue: u16) -> u16 {
        match (self, queue) {
            (Self::Balloon | Self::Block, _) => 128,
            (Self::Console, 1 | 3 | 5) => 64,
            (Self::Random, _) => 8,
            _ => 16,
        }
    }
}

/// A buffer: address, bytes, and whether the device writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    pub at: u64,
    pub bytes: u32,
    pub is_written: bool,
}

pub const fn from_guest(at: u64, bytes: u32) -> Buffer {
    Buffer {
        at,
        bytes,
        is_written: false,
    }
}

pub const fn to_guest(at: u64, bytes: u32) -> Buffer {
    Buffer {
        at,
        bytes,
        is_written: true,
    }
}

/// A queue as both sides leave it.
#[derive(Clone, Debug)]
struct Ring {
    base: u64,
    size: u16,
    available: Vec<u16>,
    used: Vec<(u16, u32)>,
    next_available: u16,
    next_used: u16,
    next_descriptor: u16,
    waiting: VecDeque<u16>,
}

impl Ring {
    fn available_at(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    fn used_at(&self) -> u64 {
        (self.available_at() + 4 + 2 * u64::from(self.size)).next_multiple_of(8)
    }

    /// The n-th eight bytes of the available ring: flags, index, entries.
    fn available_word(&self, n: usize) -> u64 {
        let half = |index: usize| match index {
            0 => 0,
            1 => self.next_available,
            _ => self.available.get(index - 2).copied().unwrap_or(0),
        };
        (0..4).fold(0, |word, lane| {
            word | u64::from(half(4 * n + lane)) << (16 * lane)
        })
    }
}

pub fn input(port: u16, size: PortSize) -> Op {
    let access = PortAccess {
        port,
        size,
        is_read: true,
        is_string: false,
    };
    Op::Exits(Exit::Port(access), vec![(Gpr::Rax, 0)])
}

pub fn output(port: u16, size: PortSize, value: u64) -> Op {
    let access = PortAccess {
        port,
        size,
        is_read: false,
        is_string: false,
    };
    Op::Exits(Exit::Port(access), vec![(Gpr::Rax, value)])
}

/// A program in the making.
#[derive(Clone, Debug, Default)]
pub struct Driver {
    pub ops: Vec<Op>,
    rings: BTreeMap<(Kind, u16), Ring>,
    next_buffer: u64,
}

impl Driver {
    pub fn new() -> Self {
        Self {
            next_buffer: BUFFERS,
            ..Self::default()
        }
    }

    /// With these devices driven, with all features that matter here.
    pub fn of(kinds: &[Kind]) -> Self {
        let mut driver = Self::new();
        // So that the first request costs no page.
        driver.ops.push(Op::Store(BUFFERS, 0));
        for kind in kinds {
            match kind {
                // Statistics, deflation when out of memory, reporting.
                Kind::Balloon => driver.start(*kind, 1 << 1 | 1 << 2 | 1 << 5, 4),
                // Memory that is not plugged is not touched.
                Kind::Mem => driver.start(*kind, 1 << 1, 1),
                // Ports.
                Kind::Console => driver.start(*kind, 1 << 1, 6),
                Kind::Block | Kind::Random => driver.start(*kind, 0, 1),
            }
        }
        driver
    }

    pub fn then(&mut self, ops: impl IntoIterator<Item = Op>) -> &mut Self {
        self.ops.extend(ops);
        self
    }

    /// Reports an event.
    pub fn event(&mut self, name: &str) -> &mut Self {
        let line = crate::fake::print(&format!("pleat-event: {name}\n"));
        self.then(line)
    }

    fn out(&mut self, port: u16, size: PortSize, value: u64) {
        self.ops.push(output(port, size, value));
    }

    /// Expects to read this.
    pub fn expect_input(&mut self, port: u16, size: PortSize, value: u64) -> &mut Self {
        self.then([input(port, size), Op::ExpectGpr(Gpr::Rax, value)])
    }

    /// Writes a dword of a device's configuration space.
    pub fn set_config(&mut self, kind: Kind, at: u64, value: u64) -> &mut Self {
        self.out(ADDRESS, PortSize::Dword, 0x8000_0000 | (kind as u64) << 11 | at);
        self.out(DATA, PortSize::Dword, value);
        self
    }

    /// Turns a device on, agrees on features and sets up its first queues.
    pub fn start(&mut self, kind: Kind, features: u64, queues: u16) {
        self.set_config(kind, 4, COMMAND);
        let port = kind.port();
        for status in [0, 1, 3] {
            self.out(port + 0x14, PortSize::Byte, status);
        }
        let features = features | VERSION_1;
        for half in [0, 1] {
            self.out(port + 8, PortSize::Dword, half);
            self.out(port + 0xc, PortSize::Dword, features >> (32 * half) & 0xffff_ffff);
        }
        self.out(port + 0x14, PortSize::Byte, 0xb);
        self.expect_input(port + 0x14, PortSize::Byte, 0xb);
        (0..queues).for_each(|queue| self.set_up(kind, queue));
        self.out(port + 0x14, PortSize::Byte, 0xf);
    }

    fn set_up(&mut self, kind: Kind, queue: u16) {
        let size = kind.queue_size(queue);
        let ring = Ring {
            base: RINGS + (((kind as u64) - 1) * 8 + u64::from(queue)) * 4096,
            size,
            available: vec![0; usize::from(size)],
            used: vec![(0, 0); usize::from(size)],
            next_available: 0,
            next_used: 0,
            next_descriptor: 0,
            waiting: VecDeque::new(),
        };
        // A queue that was there before has left something.
        self.ops.push(Op::StorePage(ring.base, 0));
        let port = kind.port();
        self.out(port + 0x16, PortSize::Word, u64::from(queue));
        self.expect_input(port + 0x18, PortSize::Word, u64::from(size));
        for (at, address) in [
            (0x20, ring.base),
            (0x28, ring.available_at()),
            (0x30, ring.used_at()),
        ] {
            self.out(port + at, PortSize::Dword, address);
            self.out(port + at + 4, PortSize::Dword, 0);
        }
        self.out(port + 0x1c, PortSize::Word, 1);
        self.rings.insert((kind, queue), ring);
    }

    /// Room for so many bytes of a request: used again after some time.
    pub fn room(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.next_multiple_of(8);
        if self.next_buffer + bytes > BUFFERS_END {
            self.next_buffer = BUFFERS;
        }
        let at = self.next_buffer;
        self.next_buffer += bytes;
        at
    }

    /// These bytes in such room, up to a multiple of eight.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.room(bytes.len() as u64);
        for (n, piece) in (0u64..).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            self.ops.push(Op::Store(at + 8 * n, u64::from_le_bytes(word)));
        }
        at
    }

    /// Makes a chain available; nobody is told.
    pub fn chain(&mut self, kind: Kind, queue: u16, buffers: &[Buffer]) -> &mut Self {
        let ring = self.rings.get_mut(&(kind, queue)).expect("it is set up");
        let head = ring.next_descriptor;
        for (n, buffer) in (1..).zip(buffers) {
            let at = ring.base + 16 * u64::from(ring.next_descriptor);
            ring.next_descriptor = (ring.next_descriptor + 1) % ring.size;
            let flags = u64::from(n < buffers.len()) | u64::from(buffer.is_written) << 1;
            let link = u64::from(ring.next_descriptor) << 48;
            self.ops.push(Op::Store(at, buffer.at));
            self.ops
                .push(Op::Store(at + 8, u64::from(buffer.bytes) | flags << 32 | link));
        }
        let slot = usize::from(ring.next_available % ring.size);
        ring.available[slot] = head;
        let word = (slot + 2) / 4;
        let at = ring.available_at();
        self.ops
            .push(Op::Store(at + 8 * word as u64, ring.available_word(word)));
        ring.next_available = ring.next_available.wrapping_add(1);
        self.ops.push(Op::Store(at, ring.available_word(0)));
        ring.waiting.push_back(head);
        self
    }

    /// Tells the device of a queue.
    pub fn notify(&mut self, kind: Kind, queue: u16) -> &mut Self {
        self.out(kind.port() + 0x100 + 4 * queue, PortSize::Word, u64::from(queue));
        self
    }

    /// What a device has written there, for the oracle.
    pub fn becomes(&mut self, at: u64, bytes: Vec<u8>) -> &mut Self {
        self.then([Op::Becomes(at, bytes)])
    }

    /// Expects that the chain that has waited longest, and no other behind it, is used with so many bytes.
    pub fn expect_used(&mut self, kind: Kind, queue: u16, written: u32) -> &mut Self {
        let ring = self.rings.get_mut(&(kind, queue)).expect("it is set up");
        let head = ring.waiting.pop_front().expect("a chain waits");
        let slot = usize::from(ring.next_used % ring.size);
        ring.used[slot] = (head, written);
        ring.next_used = ring.next_used.wrapping_add(1);
        let entry = ring.used_at() + 4 + 8 * slot as u64;
        let word = u64::from(head) | u64::from(written) << 32;
        self.ops.push(Op::Expect(entry, word));
        self.expect_used_index(kind, queue)
    }

    /// Expects that no more chains are used than those that were expected.
    pub fn expect_used_index(&mut self, kind: Kind, queue: u16) -> &mut Self {
        let ring = &self.rings[&(kind, queue)];
        let word = u64::from(ring.next_used) << 16 | u64::from(ring.used[0].0) << 32;
        let at = ring.used_at();
        self.then([Op::Expect(at, word)])
    }

    /// A chain, a notification, and the chain used.
    pub fn request(&mut self, kind: Kind, queue: u16, buffers: &[Buffer], written: u32) -> &mut Self {
        self.chain(kind, queue, buffers)
            .notify(kind, queue)
            .expect_used(kind, queue, written)
    }

    /// The end of the program.
    pub fn finish(&mut self, last: impl IntoIterator<Item = Op>) -> Vec<Op> {
        self.ops.extend(last);
        std::mem::take(&mut self.ops)
    }
}
