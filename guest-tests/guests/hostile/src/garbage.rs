//! Numbers, addresses and memory that make little sense, but often just enough to be taken seriously.

use pleat_guest::memory::{self, Page};
use pleat_guest::random::Random;
use pleat_guest::virtio::Piece;
use pleat_guest::virtio::balloon::frame_of;
use pleat_guest::window::Window;

const PAGE_BYTES: u64 = 4096;
/// The page with the vectors of the interrupts.
const VECTORS_FRAME: u32 = 0xc_0000;

pub(crate) struct Garbage {
    arena: &'static mut [Page],
    random: Random,
}

impl Garbage {
    pub(crate) fn new(arena: &'static mut [Page], seed: u64) -> Self {
        Self {
            arena,
            random: Random::new(seed),
        }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    /// One in so many times.
    pub(crate) fn happens(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    pub(crate) fn number(&mut self) -> u64 {
        let any = self.random.next_u64();
        match self.below(5) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << (any % 64),
            3 => any % 300,
            _ => any,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    pub(crate) fn word(&mut self) -> u32 {
        self.number() as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    pub(crate) fn half(&mut self) -> u16 {
        self.number() as u16
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    fn arena_bytes(&self) -> usize {
        size_of_val(self.arena)
    }

    /// A place in the garbage.
    pub(crate) fn place(&mut self) -> u64 {
        let any = self.random.below(self.arena_bytes()) as u64;
        let alignment = [1, 2, 16, PAGE_BYTES][self.below(4)];
        self.arena[0].address() + any / alignment * alignment
    }

    /// A page of the garbage with so many behind it.
    pub(crate) fn room(&mut self, pages: usize) -> u64 {
        let page = self.random.below(self.arena.len() - pages);
        self.arena[page].address()
    }

    /// Mostly a place in the garbage; else at the end of memory, beyond it, or nowhere. Never the kernel.
    pub(crate) fn address(&mut self) -> u64 {
        if !self.happens(8) {
            return self.place();
        }
        let end = memory::ram_end();
        let near = self.random.next_u64() % 64;
        match self.below(7) {
            0 => end - near,
            1 => end + near,
            2 => u64::MAX - near,
            3 => 0xc000_0000 + near * 16,
            4 => 0xfee0_0000 + near,
            5 => self.random.next_u64() | 1 << 40,
            _ => near,
        }
    }

    pub(crate) fn bytes(&mut self) -> u32 {
        let any = self.random.below(1 << 32);
        let bytes = match self.below(12) {
            0 => 0,
            1 => any,
            2 => u32::MAX as usize - any % 8,
            3..6 => any % 64,
            6 => any % (1 << 20),
            _ => any % 5000,
        };
        u32::try_from(bytes).unwrap_or(0)
    }

    /// A page number that names no page of the kernel.
    pub(crate) fn frame(&mut self) -> u32 {
        match self.below(12) {
            0 => frame_of(memory::ram_end()) + u32::try_from(self.below(1000)).unwrap_or(0),
            1 => u32::MAX - u32::try_from(self.below(3)).unwrap_or(0),
            2 => VECTORS_FRAME,
            _ => frame_of(self.place()),
        }
    }

    pub(crate) fn piece(&mut self) -> Piece {
        let (at, bytes) = (self.address(), self.bytes());
        if self.happens(2) {
            Piece::read(at, bytes)
        } else {
            Piece::write(at, bytes)
        }
    }

    /// A piece for a request of some device: page numbers, a header, or just any.
    pub(crate) fn request(&mut self) -> Piece {
        let at = self.place();
        let memory = Window::Memory(at.min(self.arena[self.arena.len() - 1].address()));
        let Window::Memory(at) = memory else {
            unreachable!()
        };
        match self.below(4) {
            0 => {
                let count = self.below(600);
                for index in 0..count as u64 {
                    let frame = self.frame();
                    memory.store_u32(index * 4, frame);
                }
                Piece::read(at, u32::try_from(count * 4).unwrap_or(0))
            }
            // A request to a disk, or to the memory device.
            1 => {
                let kinds = [0, 1, 2, 3, 4, 8];
                memory.store_u32(0, kinds[self.below(kinds.len())]);
                let sector = if self.happens(4) {
                    self.number()
                } else {
                    self.below(2000) as u64
                };
                memory.store_u64(8, sector);
                memory.store_u16(16, u16::try_from(self.below(4)).unwrap_or(0));
                Piece::read(at, if self.happens(2) { 16 } else { 24 })
            }
            // A control message of a console.
            2 => {
                memory.store_u32(0, u32::try_from(self.below(4)).unwrap_or(0));
                memory.store_u16(4, u16::try_from(self.below(10)).unwrap_or(0));
                memory.store_u16(6, u16::try_from(self.below(2)).unwrap_or(0));
                Piece::read(at, 8)
            }
            _ => self.piece(),
        }
    }

    /// Overwrites some bytes of the garbage.
    pub(crate) fn scribble(&mut self, at: u64, count: usize) {
        for offset in 0..count as u64 {
            let byte = self.byte();
            if at + offset < self.arena[self.arena.len() - 1].address() {
                Window::Memory(at).store_u8(offset, byte);
            }
        }
    }
}
