//! A split queue (virtio 1.2, 2.7), as the driver sees it.

use crate::window::Window;
use crate::{apic, check, cpu};

/// The most entries that a queue has here, however many the device allows.
pub const SIZE_MAX: u16 = 256;
/// Pages that a queue takes, wherever in the first one it begins.
pub const PAGES: usize = 3;
const DESCRIPTOR_BYTES: u64 = 16;
const RING_HEADER: u64 = 4;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const NO_INTERRUPT: u16 = 1;
/// In `next`: the last descriptor of a chain.
const END: u16 = u16::MAX;
/// A device that needs longer for a request has lost it.
const PATIENCE_MICROS: u64 = 20_000_000;

/// Whether the device reads or writes a piece of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It reads it.
    Reads,
    /// It writes it.
    Writes,
}

/// A piece of memory for the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where it begins.
    pub at: u64,
    /// Its size.
    pub bytes: u32,
    /// What the device does with it.
    pub access: Access,
}

impl Piece {
    /// Nothing: for arrays that are filled later.
    pub const NONE: Self = Self::read(0, 0);

    /// A piece that the device reads.
    #[must_use]
    pub const fn read(at: u64, bytes: u32) -> Self {
        let access = Access::Reads;
        Self { at, bytes, access }
    }

    /// A piece that the device writes.
    #[must_use]
    pub const fn write(at: u64, bytes: u32) -> Self {
        let access = Access::Writes;
        Self { at, bytes, access }
    }
}

/// A chain that the device has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// The chain's first descriptor.
    pub head: u16,
    /// Bytes that the device says it has written.
    pub bytes: u32,
}

/// Where the parts of a queue lie.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Entries.
    pub size: u16,
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

impl Layout {
    /// One behind the other; only the alignment that 2.7 asks for, so that they cross pages if `place` is odd.
    #[must_use]
    pub const fn new(place: u64, size: u16) -> Self {
        let descriptors = place.next_multiple_of(DESCRIPTOR_BYTES);
        let available = descriptors + DESCRIPTOR_BYTES * size as u64;
        let used = (available + RING_HEADER + 2 * size as u64 + 2).next_multiple_of(4);
        Self {
            size,
            descriptors,
            available,
            used,
        }
    }

    /// The byte after its last one.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.used + RING_HEADER + 8 * self.size as u64 + 2
    }
}

/// A queue, and which of its descriptors are free.
#[derive(Clone, Debug)]
pub struct Queue {
    index: u16,
    layout: Layout,
    doorbell: Window,
    /// Free descriptors, `free_len` of them.
    free: [u16; SIZE_MAX as usize],
    free_len: usize,
    /// What follows each descriptor: the table in memory is no place to remember it.
    next: [u16; SIZE_MAX as usize],
    offered: u16,
    taken: u16,
}

impl Queue {
    /// A queue of which nothing is used yet. Its rings are cleared.
    pub(super) fn new(index: u16, layout: Layout, doorbell: Window) -> Self {
        for address in layout.descriptors..layout.end() {
            Window::Memory(address).store_u8(0, 0);
        }
        Self {
            index,
            layout,
            doorbell,
            free: core::array::from_fn(|index| u16::try_from(index).unwrap_or(END)),
            free_len: usize::from(layout.size),
            next: [END; SIZE_MAX as usize],
            offered: 0,
            taken: 0,
        }
    }

    /// Where its parts lie.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// Its number.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// Makes a chain of pieces available; its first descriptor. Nothing if there are not enough free ones.
    pub fn offer(&mut self, pieces: &[Piece]) -> Option<u16> {
        if pieces.is_empty() || pieces.len() > self.free_len {
            return None;
        }
        let mut follower = END;
        for piece in pieces.iter().rev() {
            self.free_len -= 1;
            let descriptor = self.free[self.free_len];
            self.describe(descriptor, piece, follower);
            follower = descriptor;
        }
        let slot = u64::from(self.offered & (self.layout.size - 1));
        let available = Window::Memory(self.layout.available);
        available.store_u16(RING_HEADER + 2 * slot, follower);
        self.offered = self.offered.wrapping_add(1);
        // After the entry (2.7.13.3). Stores of one processor stay in order.
        available.store_u16(2, self.offered);
        Some(follower)
    }

    fn describe(&mut self, descriptor: u16, piece: &Piece, follower: u16) {
        let at = Window::Memory(self.layout.descriptors + DESCRIPTOR_BYTES * u64::from(descriptor));
        let writes = if piece.access == Access::Writes { WRITE } else { 0 };
        let has_next = if follower == END { 0 } else { NEXT };
        at.store_u64(0, piece.at);
        at.store_u32(8, piece.bytes);
        at.store_u16(12, writes | has_next);
        at.store_u16(14, if follower == END { 0 } else { follower });
        self.next[usize::from(descriptor)] = follower;
    }

    /// Tells the device.
    #[inline]
    pub fn kick(&self) {
        self.doorbell.store_u16(0, self.index);
    }

    /// The device has used a chain that was not taken yet.
    #[must_use]
    #[inline]
    pub fn has_used(&self) -> bool {
        Window::Memory(self.layout.used).load_u16(2) != self.taken
    }

    /// Chains that are offered and not taken back.
    #[must_use]
    pub fn pending(&self) -> u16 {
        self.offered.wrapping_sub(self.taken)
    }

    /// Takes a used chain back.
    pub fn take(&mut self) -> Option<Used> {
        if !self.has_used() {
            return None;
        }
        check!(
            self.pending() != 0,
            "queue {}: used what was not offered",
            self.index
        );
        let slot = u64::from(self.taken & (self.layout.size - 1));
        let entry = Window::Memory(self.layout.used + RING_HEADER + 8 * slot);
        let (head, bytes) = (entry.load_u32(0), entry.load_u32(4));
        self.taken = self.taken.wrapping_add(1);
        let head = u16::try_from(head).unwrap_or(END);
        check!(
            head < self.layout.size,
            "queue {}: used descriptor {head}",
            self.index
        );
        let mut next = head;
        while next != END {
            check!(
                self.free_len < usize::from(self.layout.size),
                "queue {}: used twice",
                self.index
            );
            self.free[self.free_len] = next;
            self.free_len += 1;
            next = core::mem::replace(&mut self.next[usize::from(next)], END);
        }
        Some(Used { head, bytes })
    }

    /// Looks until a chain is used, and takes it back.
    pub fn wait(&mut self) -> Used {
        let deadline = cpu::tsc().saturating_add(apic::ticks(PATIENCE_MICROS));
        loop {
            if let Some(used) = self.take() {
                return used;
            }
            check!(cpu::tsc() < deadline, "queue {}: a request was lost", self.index);
            cpu::pause();
        }
    }

    /// Offers a chain, tells the device, and waits until it is used.
    pub fn run(&mut self, pieces: &[Piece]) -> Used {
        let head = self.offer(pieces);
        check!(
            head.is_some(),
            "queue {}: no room for {} pieces",
            self.index,
            pieces.len()
        );
        self.kick();
        let used = self.wait();
        check!(
            Some(used.head) == head,
            "queue {}: another chain was used",
            self.index
        );
        used
    }

    /// Asks for no interrupts (2.7.7): a hint.
    pub fn silence(&self) {
        Window::Memory(self.layout.available).store_u16(0, NO_INTERRUPT);
    }

    /// Asks for interrupts.
    pub fn unsilence(&self) {
        Window::Memory(self.layout.available).store_u16(0, 0);
    }
}
