//! Why a guest could not be loaded.

use super::bzimage::BzImageError;
use super::layout::{HIGH_START, PARAMETERS};
use crate::memory::MemoryError;
use core::fmt;
use pleat_bundle::BundleError;
use pleat_bundle::elf::ElfError;
use pleat_overcommit::promise::{Refusal, TermsError};

/// Why a guest could not be loaded. The first group is the fault of whoever described it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LoadError {
    /// The bundle's section with its kernel is missing or damaged.
    KernelImage(BundleError),
    /// The bundle's section with its initial RAM disk is missing or damaged.
    InitramfsImage(BundleError),
    /// The bundle's section with the base image of its disk is missing or damaged.
    DiskImage(BundleError),
    /// The kernel is of no kind that we load.
    UnknownKernel,
    /// The kernel is a damaged ELF file.
    Elf(ElfError),
    /// The kernel is an ELF file without a PVH entry.
    NoPvhNote,
    /// The kernel is a bzImage that we cannot load.
    BzImage(BzImageError),
    /// Its memory has no room for kernel and initial RAM disk.
    MemoryTooSmall {
        /// Bytes that would be enough for what was looked at.
        needed: u64,
    },
    /// A segment of the kernel lies where the boot parameters go, or in the hole behind them; its place.
    InBootData {
        /// Where it starts.
        start: u64,
        /// The first byte behind it.
        end: u64,
    },
    /// The command line is longer than this many bytes.
    CommandLineTooLong {
        /// What is allowed.
        longest: usize,
    },
    /// What it is to be entitled to cannot be.
    Terms(TermsError),
    /// Its reservation does not fit beside those of others.
    Refused(Refusal),
    /// The host has no memory for it.
    HostShort,
    /// A mistake of ours: where.
    Bug(&'static str),
}

impl From<MemoryError> for LoadError {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::HostShort => Self::HostShort,
            MemoryError::Unfinished => Self::Bug("loading into 1 GiB"),
            MemoryError::Away | MemoryError::Lost(_) => Self::Bug("loading into a swapped page"),
            MemoryError::Hole(_) => Self::Bug("loading into a hole"),
            MemoryError::Bug(place) => Self::Bug(place),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelImage(error) => {
                write!(f, "the bundle's section with its kernel is unusable: {error:?}")
            }
            Self::InitramfsImage(error) => {
                write!(
                    f,
                    "the bundle's section with its initramfs is unusable: {error:?}"
                )
            }
            Self::DiskImage(error) => {
                write!(
                    f,
                    "the bundle's section with the image of its disk is unusable: {error:?}"
                )
            }
            Self::UnknownKernel => f.write_str("kernel is neither an ELF with a PVH note nor a bzImage"),
            Self::Elf(error) => write!(f, "kernel is a damaged ELF file: {error:?}"),
            Self::NoPvhNote => f.write_str("kernel is an ELF file, but has no PVH note"),
            Self::BzImage(BzImageError::TooOld { protocol }) => {
                write!(
                    f,
                    "kernel is a bzImage of boot protocol {}.{:02}; at least 2.10 is needed",
                    protocol >> 8,
                    protocol & 0xff
                )
            }
            Self::BzImage(BzImageError::Header) => f.write_str("kernel is a bzImage with a damaged header"),
            Self::MemoryTooSmall { needed } => {
                write!(
                    f,
                    "its memory is too small for kernel and initramfs: at least {} MiB",
                    needed.div_ceil(1 << 20)
                )
            }
            Self::InBootData { start, end } => {
                write!(
                    f,
                    "kernel has a segment at {start:#x}..{end:#x}, but {:#x}..{HIGH_START:#x} is for boot data",
                    PARAMETERS.get()
                )
            }
            Self::CommandLineTooLong { longest } => write!(f, "command line is longer than {longest} bytes"),
            Self::Terms(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::HostShort => f.write_str("the host has too little free memory to load it"),
            Self::Bug(place) => write!(f, "a bug of Pleat: {place}"),
        }
    }
}
