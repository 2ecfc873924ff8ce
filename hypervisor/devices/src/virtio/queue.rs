//! A split virtqueue (virtio 1.2, 2.7), as the device sees it.
//!
//! The descriptor table and both rings lie in guest memory, which the guest can write at any time. So each field is
//! copied out once and checked: indexes are taken modulo the size, a chain has at most as many descriptors as the
//! queue, and addresses are checked by whoever reads or writes there. Nothing that is read here twice has to read the
//! same: a chain that is looked at again may be another one.
//!
//! A chain is looked at ([`Queue::first`]) and later used ([`Queue::complete`]); before that nothing has happened to
//! the queue, so that who finds no host memory in between, or a page of the rings away, can begin again.

use arrayvec::ArrayVec;
use pleat_types::Gpa;

use super::device::Trouble;
use super::hands::Hands;

/// The largest queue of any device here. A chain may be as long, and lies on the stack: 2 KiB.
pub const QUEUE_SIZE_MAX: usize = 128;
const DESCRIPTOR_BYTES: u64 = 16;
/// Bytes before the entries of either ring: flags and index.
const RING_HEADER: u64 = 4;
const AVAILABLE_BYTES: u64 = 2;
const USED_BYTES: u64 = 8;
const FLAG_NEXT: u16 = 1;
const FLAG_WRITE: u16 = 2;
const FLAG_INDIRECT: u16 = 4;
/// In the available ring: the driver wants no interrupt for what is used (2.7.7).
const NO_INTERRUPT: u16 = 1;

/// Who may do what with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The device reads it.
    FromGuest,
    /// The device writes it.
    ToGuest,
}

/// A buffer in guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    /// Where it begins.
    pub at: Gpa,
    /// Its size.
    pub bytes: u32,
    /// What the device may do with it.
    pub direction: Direction,
}

/// A chain of buffers that the guest has made available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    head: u16,
    /// What the available ring's flags said.
    wants_interrupt: bool,
    /// Its buffers, those that the device reads first.
    pub buffers: ArrayVec<Buffer, QUEUE_SIZE_MAX>,
}

impl Chain {
    /// Bytes of all buffers of one direction.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> u64 {
        let of_it = self.buffers.iter().filter(|buffer| buffer.direction == direction);
        of_it.map(|buffer| u64::from(buffer.bytes)).sum()
    }
}

/// One queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Entries: a power of two, at most `size_max`.
    pub(super) size: u16,
    pub(super) size_max: u16,
    pub(super) is_enabled: bool,
    /// Descriptor table, available ring and used ring.
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    /// The MSI-X vector that tells the guest of what was used.
    pub(super) vector: u16,
    next_available: u16,
    next_used: u16,
    /// Something was used that the guest has not been told of.
    pub(super) has_news: bool,
}

impl Queue {
    pub(super) const fn new(size_max: u16, vector: u16) -> Self {
        Self {
            size: size_max,
            size_max,
            is_enabled: false,
            descriptors: 0,
            available: 0,
            used: 0,
            vector,
            next_available: 0,
            next_used: 0,
            has_news: false,
        }
    }

    /// The chain that is to be used next, if the guest has made one available.
    ///
    /// # Errors
    /// The guest broke the rules, or a page is away. Nothing has changed.
    pub fn first<H: Hands>(&mut self, hands: &mut H) -> Result<Option<Chain>, Trouble> {
        if !self.is_enabled {
            return Ok(None);
        }
        let mut header = [0; 4];
        hands.read(Gpa::new(self.available), &mut header)?;
        let [f0, f1, i0, i1] = header;
        let waiting = u16::from_le_bytes([i0, i1]).wrapping_sub(self.next_available);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.size {
            return Err(Trouble::Guest(
                "more chains available than the queue has room for",
            ));
        }
        let mut head = [0; 2];
        let entry = RING_HEADER + AVAILABLE_BYTES * self.slot(self.next_available);
        hands.read(address(self.available, entry)?, &mut head)?;
        let mut chain = Chain {
            head: u16::from_le_bytes(head),
            wants_interrupt: u16::from_le_bytes([f0, f1]) & NO_INTERRUPT == 0,
            buffers: ArrayVec::new(),
        };
        self.follow(hands, &mut chain)?;
        Ok(Some(chain))
    }

    /// Collects the buffers of a chain (2.7.5.3): no more descriptors than the table has, so that no loop in it is
    /// followed for ever, and what the device writes behind what it reads (2.7.4.2).
    fn follow<H: Hands>(&self, hands: &mut H, chain: &mut Chain) -> Result<(), Trouble> {
        let mut next = Some(chain.head);
        let mut direction = Direction::FromGuest;
        while let Some(index) = next {
            if index >= self.size {
                return Err(Trouble::Guest("a descriptor outside of the table"));
            }
            if chain.buffers.len() >= usize::from(self.size) || chain.buffers.is_full() {
                return Err(Trouble::Guest("a chain of descriptors without an end"));
            }
            let mut raw = [0; 16];
            let place = DESCRIPTOR_BYTES * u64::from(index);
            hands.read(address(self.descriptors, place)?, &mut raw)?;
            let (buffer, link) = descriptor(&raw)?;
            if direction == Direction::ToGuest && buffer.direction == Direction::FromGuest {
                return Err(Trouble::Guest("a buffer to read behind one to write"));
            }
            direction = buffer.direction;
            chain.buffers.push(buffer);
            next = link;
        }
        Ok(())
    }

    /// Gives the chain that [`Queue::first`] gave last back to the guest, with so many bytes written into it.
    ///
    /// # Errors
    /// Then the chain is still the first one.
    pub fn complete<H: Hands>(&mut self, hands: &mut H, chain: &Chain, written: u32) -> Result<(), Trouble> {
        let entry = address(self.used, RING_HEADER + USED_BYTES * self.slot(self.next_used))?;
        let index = address(self.used, 2)?;
        // Both before either: an index without its entry would give the guest a chain that it never made.
        hands.make_writable(index, 2)?;
        hands.make_writable(entry, USED_BYTES)?;
        let mut raw = [0; 8];
        raw[..4].copy_from_slice(&u32::from(chain.head).to_le_bytes());
        raw[4..].copy_from_slice(&written.to_le_bytes());
        hands.write(entry, &raw)?;
        hands.write(index, &self.next_used.wrapping_add(1).to_le_bytes())?;
        self.next_available = self.next_available.wrapping_add(1);
        self.next_used = self.next_used.wrapping_add(1);
        self.has_news |= chain.wants_interrupt;
        Ok(())
    }

    fn slot(&self, index: u16) -> u64 {
        // The size is a power of two: the transport sees to it.
        u64::from(index & self.size.saturating_sub(1))
    }
}

fn address(base: u64, offset: u64) -> Result<Gpa, Trouble> {
    base.checked_add(offset)
        .map(Gpa::new)
        .ok_or(Trouble::Guest("a queue that leaves the address space"))
}

/// A descriptor's buffer, and the index of the one that follows it (2.7.5).
fn descriptor(raw: &[u8; 16]) -> Result<(Buffer, Option<u16>), Trouble> {
    let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = *raw;
    let flags = u16::from_le_bytes([f0, f1]);
    if flags & FLAG_INDIRECT != 0 {
        return Err(Trouble::Guest("an indirect descriptor, which was not negotiated"));
    }
    let direction = if flags & FLAG_WRITE == 0 {
        Direction::FromGuest
    } else {
        Direction::ToGuest
    };
    let buffer = Buffer {
        at: Gpa::new(u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7])),
        bytes: u32::from_le_bytes([l0, l1, l2, l3]),
        direction,
    };
    Ok((
        buffer,
        (flags & FLAG_NEXT != 0).then(|| u16::from_le_bytes([n0, n1])),
    ))
}

#[cfg(test)]
mod tests;
