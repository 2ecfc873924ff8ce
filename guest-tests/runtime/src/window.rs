//! What a device and a kernel both see: registers behind ports or in memory, and memory that they share.
//!
//! As in [`crate::cpu`] these are safe functions: a kernel can break nothing but itself.

use crate::{cpu, store};

/// Where a device's registers, or bytes that it reads and writes, begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// At a port.
    Ports(u16),
    /// At an address.
    Memory(u64),
}

macro_rules! access {
    ($load:ident, $store:ident, $type:ty, $port_in:ident, $port_out:ident, $size:literal) => {
        #[doc = concat!("Reads a ", $size, ", by one instruction.")]
        #[must_use]
        #[inline]
        pub fn $load(self, offset: u64) -> $type {
            match self {
                Self::Ports(base) => cpu::$port_in(port(base, offset)),
                Self::Memory(base) => load(base.wrapping_add(offset)),
            }
        }

        #[doc = concat!("Writes a ", $size, ", by one instruction.")]
        #[inline]
        pub fn $store(self, offset: u64, value: $type) {
            match self {
                Self::Ports(base) => cpu::$port_out(port(base, offset), value),
                Self::Memory(base) => store::bytes(base.wrapping_add(offset), &value.to_le_bytes()),
            }
        }
    };
}

impl Window {
    access!(load_u8, store_u8, u8, port_in_u8, port_out_u8, "byte");
    access!(load_u16, store_u16, u16, port_in_u16, port_out_u16, "word");
    access!(load_u32, store_u32, u32, port_in_u32, port_out_u32, "doubleword");

    /// The window that begins so many bytes further.
    #[must_use]
    pub fn at(self, offset: u64) -> Self {
        match self {
            Self::Ports(base) => Self::Ports(port(base, offset)),
            Self::Memory(base) => Self::Memory(base.wrapping_add(offset)),
        }
    }

    /// Reads 64 bits: from ports by two instructions, as virtio wants it (4.1.3.1).
    #[must_use]
    #[inline]
    pub fn load_u64(self, offset: u64) -> u64 {
        match self {
            Self::Ports(_) => u64::from(self.load_u32(offset)) | u64::from(self.load_u32(offset + 4)) << 32,
            Self::Memory(base) => load(base.wrapping_add(offset)),
        }
    }

    /// Writes 64 bits: registers by two instructions, the lower half first.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the value")]
    pub fn store_u64(self, offset: u64, value: u64) {
        self.store_u32(offset, value as u32);
        self.store_u32(offset + 4, (value >> 32) as u32);
    }

    /// Writes bytes one after the other.
    pub fn store_bytes(self, offset: u64, bytes: &[u8]) {
        for (offset, byte) in (offset..).zip(bytes) {
            self.store_u8(offset, *byte);
        }
    }

    /// Reads bytes one after the other.
    pub fn load_bytes(self, offset: u64, bytes: &mut [u8]) {
        for (offset, byte) in (offset..).zip(bytes) {
            *byte = self.load_u8(offset);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "ports have 16 bits")]
fn port(base: u16, offset: u64) -> u16 {
    base.wrapping_add(offset as u16)
}

#[inline]
fn load<T: Copy>(address: u64) -> T {
    let address = usize::try_from(address).unwrap_or_default();
    // SAFETY: see the module's note; used for plain numbers only. Volatile, because a device may write there.
    unsafe { core::ptr::with_exposed_provenance::<T>(address).read_volatile() }
}
