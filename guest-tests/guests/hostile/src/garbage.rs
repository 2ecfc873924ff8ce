//! Numbers, addresses and memory that make little sense, but often just enough to be taken seriously.

use pleat_guest::memory::{self, Page};
use pleat_guest::random::Random;
use pleat_guest::virtio::balloon::frame_of;
use pleat_guest::virtio::{Piece, queue};
use pleat_guest::window::Window;

const PAGE_BYTES: u64 = 4096;
/// Above it lies the kernel.
const LOW_END: u64 = 1 << 20;
/// The page with the vectors of the interrupts.
const VECTORS_FRAME: u32 = 0xc_0000;

/// Memory in which devices may do what they want. The rings lie below the data: what a device writes beyond the end
/// of a piece goes up, away from them and from the kernel.
pub(crate) struct Garbage {
    rings: &'static mut [Page],
    arena: &'static mut [Page],
    ram_end: u64,
    random: Random,
}

impl Garbage {
    /// A queue has [`queue::PAGES`] pages of the rings to itself.
    pub(crate) fn new(rings: &'static mut [Page], arena: &'static mut [Page], seed: u64) -> Self {
        Self {
            rings,
            arena,
            // The map that it follows from will perhaps not last.
            ram_end: memory::ram_end(),
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

    /// Where the rings of a queue begin.
    pub(crate) fn rings(&self, slot: usize) -> u64 {
        self.rings[slot * queue::PAGES].address()
    }

    /// Mostly a place in the garbage; else at the end of memory, beyond it, or nowhere. Never the kernel.
    pub(crate) fn address(&mut self) -> u64 {
        if !self.happens(8) {
            return self.place();
        }
        let (end, near) = (self.ram_end, self.random.next_u64() % 64);
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
        // Long ones are rare: a device reads all of memory for them, in this guest's time.
        let bytes = match self.below(100) {
            0 => any,
            1 => u32::MAX as usize - any % 8,
            2..12 => 0,
            12..20 => any % (1 << 17),
            20..50 => any % 64,
            _ => any % 5000,
        };
        u32::try_from(bytes).unwrap_or(0)
    }

    /// A page number that names no page of the kernel.
    pub(crate) fn frame(&mut self) -> u32 {
        match self.below(12) {
            0 => frame_of(self.ram_end) + u32::try_from(self.below(1000)).unwrap_or(0),
            1 => u32::MAX - u32::try_from(self.below(3)).unwrap_or(0),
            2 => VECTORS_FRAME,
            _ => frame_of(self.place()),
        }
    }

    pub(crate) fn piece(&mut self) -> Piece {
        let (at, bytes) = (self.address(), self.bytes());
        // From the first pages a long one would reach the kernel.
        let bytes = if at < LOW_END { bytes % 4096 } else { bytes };
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
                // A field that nobody reads, unless this is taken for a descriptor: then it leads nowhere.
                memory.store_u32(4, 0x7000_0000);
                memory.store_u64(8, sector);
                memory.store_u16(16, u16::try_from(self.below(4)).unwrap_or(0));
                Piece::read(at, if self.happens(2) { 16 } else { 24 })
            }
            // A control message of a console.
            2 => {
                memory.store_u32(0, u32::try_from(self.below(4)).unwrap_or(0));
                memory.store_u16(4, u16::try_from(self.below(10)).unwrap_or(0));
                memory.store_u16(6, u16::try_from(1 + self.below(2)).unwrap_or(0));
                Piece::read(at, 8)
            }
            _ => self.piece(),
        }
    }

    /// Overwrites some bytes of a ring.
    pub(crate) fn scribble(&mut self, at: u64, count: usize) {
        for offset in 0..count as u64 {
            Window::Memory(at).store_u8(offset, self.byte());
        }
    }
}
