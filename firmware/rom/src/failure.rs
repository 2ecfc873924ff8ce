//! Why the ROM cannot boot, as one line for people.

use core::fmt;

use pleat_bundle::elf::ElfError;
use pleat_bundle::handover::BUNDLE_BASE;
use pleat_bundle::{BundleError, SectionKind};

/// Why the ROM cannot boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The machine has too little memory to hold even a bundle's header.
    NoMemory {
        /// Where its RAM ends.
        ram_end: u64,
    },
    /// The bundle reaches beyond RAM.
    BundleTooLarge {
        /// Where it would end.
        bundle_end: u64,
        /// Where RAM ends.
        ram_end: u64,
    },
    /// There is no bundle, or it is damaged.
    Bundle(BundleError),
    /// The bundle has no section with a hypervisor.
    NoHypervisor,
    /// The hypervisor's section is damaged.
    Damaged(BundleError),
    /// The hypervisor's section is not an ELF image that can be loaded.
    Image(ElfError),
    /// The hypervisor wants to be where it cannot be.
    Placement {
        /// Where RAM ends.
        ram_end: u64,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory { ram_end } => {
                write!(
                    f,
                    "RAM ends at {ram_end:#x}, below the boot bundle's place at {BUNDLE_BASE:#x}"
                )
            }
            Self::BundleTooLarge { bundle_end, ram_end } => {
                write!(
                    f,
                    "the boot bundle would end at {bundle_end:#x}, but RAM ends at {ram_end:#x}"
                )
            }
            Self::Bundle(BundleError::NoBundle) => write!(
                f,
                "no boot bundle at {BUNDLE_BASE:#x} (Bochs: optramimage1: file=FILE, address={BUNDLE_BASE:#x}; \
                 QEMU: -device loader,file=FILE,addr={BUNDLE_BASE:#x},force-raw=on)"
            ),
            Self::Bundle(error) => write!(f, "the boot bundle at {BUNDLE_BASE:#x} is unusable: {error:?}"),
            Self::NoHypervisor => {
                write!(
                    f,
                    "the boot bundle has no section of kind {:?}",
                    SectionKind::Hypervisor
                )
            }
            Self::Damaged(error) => write!(f, "the hypervisor in the boot bundle is damaged: {error:?}"),
            Self::Image(error) => write!(f, "the hypervisor in the boot bundle cannot be loaded: {error:?}"),
            Self::Placement { ram_end } => write!(
                f,
                "the hypervisor in the boot bundle is linked to a place that is not free \
                 (1 MiB to {ram_end:#x} without the bundle)"
            ),
        }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

impl From<ElfError> for Failure {
    fn from(error: ElfError) -> Self {
        Self::Image(error)
    }
}
