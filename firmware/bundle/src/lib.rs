//! The boot bundle: one file in memory that carries everything Pleat boots with.
//!
//! A bundle is a header page followed by sections, each of which starts on a page and is padded with
//! zeros to the end of its last page, so that the frames of a section can be given to a guest as they
//! are. `firmware/README.md` has the format as a table; [`header`] is its reader.
//!
//! Nothing here trusts its input: a bundle comes from a file, an ELF image may come from a guest's
//! owner. Every reader checks bounds first and answers with an error that names what is wrong; none
//! panics on any bytes.
//!
//! The readers need no heap and no `unsafe`. The writers are behind the feature `write`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "write")]
extern crate alloc;

mod bundle;
mod bytes;
pub mod config;
pub mod elf;
pub mod handover;
pub mod header;
pub mod symbols;
#[cfg(feature = "write")]
pub mod write;

pub use bundle::{Bundle, SectionCheck};
pub use header::{BundleError, Header, Section, SectionKind};

/// Sections start at multiples of this, and the header is as large: the size of a frame.
pub const PAGE_SIZE: usize = 4096;
