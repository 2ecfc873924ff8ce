//! A driver of the balloon (virtio 1.2, 5.5).

use super::queue::{self, Piece, Queue, Used};
use super::transport::{Interrupts, Transport};
use crate::check;
use crate::window::Window;

/// Its virtio ID.
pub const ID: u16 = 5;
/// Feature: statistics.
pub const STATISTICS: u64 = 1 << 1;
/// Feature: the guest may deflate when it has no memory left.
pub const DEFLATE_ON_OOM: u64 = 1 << 2;
/// Feature: free pages hold a pattern.
pub const POISON: u64 = 1 << 4;
/// Feature: free pages are reported.
pub const REPORTING: u64 = 1 << 5;
/// All that the driver knows.
pub const ALL: u64 = STATISTICS | DEFLATE_ON_OOM | POISON | REPORTING;
/// Pages of memory that the driver takes: four queues, and a list of page numbers for each of [`LISTS`] chains.
pub const PAGES: usize = 4 * queue::PAGES + LISTS * LIST_PAGES + 1;
/// Chains that can be under way at the same time.
pub const LISTS: usize = 3;
/// Page numbers of a chain, at most.
pub const LIST_MAX: usize = 1024;
/// Room for a list that does not begin at its start.
const LIST_PAGES: usize = 2;
/// Configuration: pages that the host wants.
pub const CONFIG_TARGET: u64 = 0;
/// Configuration: pages that the guest says it gave.
pub const CONFIG_ACTUAL: u64 = 4;
/// Configuration: what free pages hold.
pub const CONFIG_POISON: u64 = 12;
const PAGE_BYTES: u64 = 4096;
/// Bytes of a statistic: a tag and a value, packed.
const STATISTIC_BYTES: usize = 10;
/// Statistics of a message, at most.
const STATISTICS_MAX: usize = 64;

/// Tags of statistics (5.5.6.4).
pub mod tag {
    /// Bytes that were swapped in.
    pub const SWAP_IN: u16 = 0;
    /// Free memory.
    pub const FREE: u16 = 4;
    /// All memory.
    pub const TOTAL: u16 = 5;
    /// Memory that could be had without swapping.
    pub const AVAILABLE: u16 = 6;
    /// What file caches hold.
    pub const CACHES: u16 = 7;
}

/// Which way pages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Into the balloon.
    Inflate,
    /// Out of it.
    Deflate,
}

/// A balloon.
#[derive(Debug)]
pub struct Balloon {
    /// Its registers.
    pub transport: Transport,
    inflate: Queue,
    deflate: Queue,
    statistics: Option<Queue>,
    reporting: Option<Queue>,
    place: u64,
}

impl Balloon {
    /// The guest's balloon with those of the wanted features that it has, using [`PAGES`] pages from `place` on.
    /// The rings begin `skew` bytes into their pages, at most 2,048.
    #[must_use]
    pub fn start(wanted: u64, interrupts: Interrupts, place: u64, skew: u64) -> Option<Self> {
        let mut transport = Transport::find(ID, interrupts)?;
        transport.negotiate(wanted);
        let mut next = 0;
        let mut queue = |is_there: bool| {
            is_there.then(|| {
                let place = place + u64::from(next) * queue::PAGES as u64 * PAGE_BYTES + skew;
                next += 1;
                transport.queue(next - 1, place)
            })
        };
        // The numbers are those of the queues that are there (5.5.2).
        let has = |feature| transport.features() & feature != 0;
        let (inflate, deflate) = (queue(true)?, queue(true)?);
        let (statistics, reporting) = (queue(has(STATISTICS)), queue(has(REPORTING)));
        transport.start();
        Some(Self {
            transport,
            inflate,
            deflate,
            statistics,
            reporting,
            place,
        })
    }

    /// As [`Balloon::start`]; a guest without a balloon fails.
    #[must_use]
    pub fn must_start(wanted: u64, interrupts: Interrupts, place: u64, skew: u64) -> Self {
        let balloon = Self::start(wanted, interrupts, place, skew);
        check!(balloon.is_some(), "this guest has no balloon");
        balloon.unwrap_or_else(|| unreachable!())
    }

    /// A queue for pages.
    pub fn queue(&mut self, way: Way) -> &mut Queue {
        match way {
            Way::Inflate => &mut self.inflate,
            Way::Deflate => &mut self.deflate,
        }
    }

    /// The queue of reports, where reporting was settled.
    pub fn reporting(&mut self) -> Option<&mut Queue> {
        self.reporting.as_mut()
    }

    /// The queue of statistics, where they were settled.
    pub fn statistics(&mut self) -> Option<&mut Queue> {
        self.statistics.as_mut()
    }

    /// Where list `number` lies.
    #[must_use]
    pub const fn list(&self, number: usize) -> u64 {
        let before = 4 * queue::PAGES + number % LISTS * LIST_PAGES;
        self.place + before as u64 * PAGE_BYTES
    }

    /// Writes page numbers into list `number`, from byte `skew` on; where.
    ///
    /// # Panics
    /// When they are too many.
    #[must_use]
    pub fn write_list(&self, number: usize, skew: u64, frames: &[u32]) -> u64 {
        assert!(frames.len() <= LIST_MAX, "a list has room for {LIST_MAX}");
        let at = self.list(number) + skew;
        for (index, frame) in frames.iter().enumerate() {
            Window::Memory(at).store_u32(index as u64 * 4, *frame);
        }
        at
    }

    /// Moves pages, in one chain with one piece, and waits.
    pub fn move_pages(&mut self, way: Way, frames: &[u32]) {
        let at = self.write_list(0, 0, frames);
        self.queue(way).run(&[Piece::read(at, list_bytes(frames))]);
    }

    /// Reports free memory, in one chain, and waits.
    ///
    /// # Panics
    /// When reporting was not settled.
    pub fn report(&mut self, pieces: &[Piece]) -> Used {
        let Some(queue) = &mut self.reporting else {
            panic!("reporting was not settled")
        };
        queue.run(pieces)
    }

    /// Offers statistics: the device uses the chain when it wants newer ones.
    pub fn offer_statistics(&mut self, values: &[(u16, u64)]) -> Option<u16> {
        let at = self.list(LISTS - 1) + LIST_PAGES as u64 * PAGE_BYTES;
        let values = &values[..values.len().min(STATISTICS_MAX)];
        for (index, (tag, value)) in values.iter().enumerate() {
            let at = Window::Memory(at + (index * STATISTIC_BYTES) as u64);
            at.store_u16(0, *tag);
            at.store_u64(2, *value);
        }
        let bytes = u32::try_from(values.len() * STATISTIC_BYTES).unwrap_or(0);
        let queue = self.statistics.as_mut()?;
        let head = queue.offer(&[Piece::read(at, bytes)]);
        queue.kick();
        head
    }

    /// Pages that the host wants.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.transport.config().load_u32(CONFIG_TARGET)
    }

    /// Pages that this guest has said it gave.
    #[must_use]
    pub fn actual(&self) -> u32 {
        self.transport.config().load_u32(CONFIG_ACTUAL)
    }

    /// Says how many pages are in the balloon.
    pub fn set_actual(&self, frames: u32) {
        self.transport.config().store_u32(CONFIG_ACTUAL, frames);
    }

    /// Says what free pages hold; before the queues are used.
    pub fn set_poison(&self, value: u32) {
        self.transport.config().store_u32(CONFIG_POISON, value);
    }
}

/// Bytes of a list of page numbers.
#[must_use]
pub fn list_bytes(frames: &[u32]) -> u32 {
    u32::try_from(size_of_val(frames)).unwrap_or(0)
}

/// The number of the page at an address.
#[must_use]
pub fn frame_of(address: u64) -> u32 {
    u32::try_from(address / PAGE_BYTES).unwrap_or(u32::MAX)
}
