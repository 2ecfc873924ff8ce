//! Address types that cannot be mixed up, and the identity of a guest.
//!
//! The types have no arithmetic operators on purpose: what is meant (the frame of an address, the
//! address of a frame, the n-th frame after it) has a name instead. Each prints with its own prefix,
//! so that a log line tells `GPA:0x1000` from `HPA:0x1000`.

use core::fmt;

/// Bytes in a 4 KiB frame.
pub const FRAME_SIZE: usize = 4096;
/// 4 KiB frames in a 2 MiB large page.
pub const LARGE_FRAMES: u64 = 512;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this value.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The raw value.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The value `count` further on, or `None` past the end of 64 bits.
            #[must_use]
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(value) => Some(Self(value)),
                    None => None,
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{:#x}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

address!(
    /// A guest-physical address, in bytes.
    Gpa, "GPA"
);
address!(
    /// A host-physical address, in bytes.
    Hpa, "HPA"
);
address!(
    /// A guest-virtual (linear) address, in bytes.
    Gva, "GVA"
);
address!(
    /// A guest frame number: a guest-physical address divided by 4,096.
    Gfn, "GFN"
);
address!(
    /// A host frame number: a host-physical address divided by 4,096.
    Hfn, "HFN"
);

macro_rules! framed {
    ($address:ident, $frame:ident, $method:ident) => {
        impl $address {
            /// The number of the frame that holds this byte.
            #[must_use]
            pub const fn $method(self) -> $frame {
                $frame(self.0 / FRAME_SIZE as u64)
            }

            /// The offset of this byte in its frame, 0 to 4,095.
            #[must_use]
            #[allow(clippy::cast_possible_truncation)] // below 4,096
            pub const fn frame_offset(self) -> usize {
                (self.0 % FRAME_SIZE as u64) as usize
            }
        }

        impl $frame {
            /// The address of the first byte of this frame (wraps for a number no memory can have).
            #[must_use]
            pub const fn base(self) -> $address {
                $address(self.0.wrapping_mul(FRAME_SIZE as u64))
            }

            /// The first frame of the 2 MiB page that holds this frame.
            #[must_use]
            pub const fn large_base(self) -> Self {
                Self(self.0 & !(LARGE_FRAMES - 1))
            }
        }
    };
}

framed!(Gpa, Gfn, gfn);
framed!(Hpa, Hfn, hfn);

/// Which guest: an index into the table of guests, never reused while Pleat runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GuestId(pub u16);

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn frames_and_addresses_convert_both_ways() {
        let gpa = Gpa::new(0x12_3456);
        assert_eq!(gpa.gfn(), Gfn::new(0x123));
        assert_eq!(gpa.frame_offset(), 0x456);
        assert_eq!(gpa.gfn().base(), Gpa::new(0x12_3000));
        assert_eq!(Gfn::new(0x3ff).large_base(), Gfn::new(0x200));
    }

    #[test]
    fn every_kind_prints_its_own_prefix() {
        assert_eq!(
            format!("{} {:?}", Gpa::new(0x1000), Hfn::new(16)),
            "GPA:0x1000 HFN:0x10"
        );
    }
}
