//! A driver's side of a split queue, in the RAM of [`FakeHands`].

use std::vec::Vec;

use pleat_devices::virtio::Direction;
use pleat_types::Gpa;

use super::FakeHands;

/// A descriptor as it lies in the table, whatever it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RawDescriptor {
    pub at: u64,
    pub bytes: u32,
    /// 1: another one follows; 2: the device writes; 4: indirect.
    pub flags: u16,
    pub next: u16,
}

/// A queue that a driver has laid out: table, available ring, used ring, one behind the other.
#[derive(Clone, Debug)]
pub struct GuestQueue {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    /// The next entry of the available ring, and of the used ring to look at.
    pub next_available: u16,
    pub next_used: u16,
    /// Descriptors that are in no chain.
    free: Vec<u16>,
}

impl GuestQueue {
    /// A queue of this size, a power of two, from here on.
    pub fn new(base: Gpa, size: u16) -> Self {
        assert!(size.is_power_of_two());
        let available = base.get() + 16 * u64::from(size);
        Self {
            size,
            descriptors: base.get(),
            available,
            used: (available + 4 + 2 * u64::from(size)).next_multiple_of(4),
            next_available: 0,
            next_used: 0,
            free: (0..size).rev().collect(),
        }
    }

    /// The first byte behind it.
    pub fn end(&self) -> Gpa {
        Gpa::new(self.used + 4 + 8 * u64::from(self.size))
    }

    /// Whether so many descriptors are in no chain.
    pub fn has_room(&self, descriptors: usize) -> bool {
        descriptors <= self.free.len()
    }

    /// Makes a chain of these buffers (address, bytes, who writes) available and returns its head.
    pub fn add(&mut self, hands: &mut FakeHands, buffers: &[(Gpa, u32, Direction)]) -> u16 {
        assert!(!buffers.is_empty() && buffers.len() <= self.free.len());
        let places = self.free.split_off(self.free.len() - buffers.len());
        let places: Vec<u16> = places.into_iter().rev().collect();
        for (n, &(at, bytes, direction)) in buffers.iter().enumerate() {
            let next = places.get(n + 1).copied();
            let writes = if direction == Direction::ToGuest { 2 } else { 0 };
            let raw = RawDescriptor {
                at: at.get(),
                bytes,
                flags: writes | u16::from(next.is_some()),
                next: next.unwrap_or(0),
            };
            self.set_descriptor(hands, places[n], raw);
        }
        self.offer(hands, places[0]);
        places[0]
    }

    /// Puts this head, whatever it is, into the available ring.
    pub fn offer(&mut self, hands: &mut FakeHands, head: u16) {
        let slot = u64::from(self.next_available & (self.size - 1));
        hands.poke(Gpa::new(self.available + 4 + 2 * slot), &head.to_le_bytes());
        self.next_available = self.next_available.wrapping_add(1);
        self.set_available_index(hands, self.next_available);
    }

    /// The chains that the device has used since the last call: head and bytes written.
    pub fn used(&mut self, hands: &FakeHands) -> Vec<(u16, u32)> {
        let mut used = Vec::new();
        while self.next_used != half(hands, self.used + 2) {
            let entry = self.used + 4 + 8 * u64::from(self.next_used & (self.size - 1));
            let head = half(hands, entry);
            assert_eq!(half(hands, entry + 2), 0, "a head has 16 bits");
            let written = u32::from(half(hands, entry + 4)) | u32::from(half(hands, entry + 6)) << 16;
            used.push((head, written));
            self.release(hands, head);
            self.next_used = self.next_used.wrapping_add(1);
        }
        used
    }

    fn release(&mut self, hands: &FakeHands, head: u16) {
        let mut next = Some(head);
        while let Some(index) = next {
            // A table that the test made hostile may go round.
            if self.free.contains(&index) || index >= self.size {
                return;
            }
            self.free.push(index);
            let raw = self.descriptors + 16 * u64::from(index);
            next = (half(hands, raw + 12) & 1 != 0).then(|| half(hands, raw + 14));
        }
    }

    /// Writes a descriptor, whatever it says.
    pub fn set_descriptor(&self, hands: &mut FakeHands, index: u16, raw: RawDescriptor) {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&raw.at.to_le_bytes());
        bytes.extend_from_slice(&raw.bytes.to_le_bytes());
        bytes.extend_from_slice(&raw.flags.to_le_bytes());
        bytes.extend_from_slice(&raw.next.to_le_bytes());
        hands.poke(Gpa::new(self.descriptors + 16 * u64::from(index)), &bytes);
    }

    /// Writes the available ring's index, whatever it is.
    pub fn set_available_index(&self, hands: &mut FakeHands, index: u16) {
        hands.poke(Gpa::new(self.available + 2), &index.to_le_bytes());
    }

    /// Writes the available ring's flags: 1 asks for no interrupts.
    pub fn set_available_flags(&self, hands: &mut FakeHands, flags: u16) {
        hands.poke(Gpa::new(self.available), &flags.to_le_bytes());
    }
}

fn half(hands: &FakeHands, at: u64) -> u16 {
    let bytes = hands.peek(Gpa::new(at), 2);
    u16::from_le_bytes([bytes[0], bytes[1]])
}
