//! The parts of the boot ROM that need no hardware: what memory there is, and where the hypervisor may
//! be loaded. The ROM itself is the binary of this package; `firmware/README.md` has the boot flow.
//!
//! # From the ELF file to the ROM file
//!
//! `pleat-rom` links to an ELF file whose loadable segments have their places in the ROM as physical
//! addresses. The ROM file is 64 KiB of zeros, in which the file bytes of each PT_LOAD segment are put
//! at its physical address minus 0xFFFF_0000 (`pleat_bundle::write::rom_image`). One file
//! serves as `romimage` of Bochs and as `-bios` of QEMU: both let it end at 4 GiB.
#![no_std]
#![forbid(unsafe_code)]

mod failure;
mod memory;
mod placement;

pub use failure::Failure;
pub use memory::{CmosMemory, ROM_MEMORY_END, boot_info};
pub use placement::{Placement, check_placement};
