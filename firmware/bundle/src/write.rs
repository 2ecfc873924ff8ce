//! Writes bundles: for tools on the host.

use alloc::vec;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use crate::elf::{Elf64, SegmentKind};
use crate::header::{
    CHECKSUM_AT, COUNT_AT, ENTRY_BYTES, ENTRY_BYTES_AT, ENTRY_CHECKSUM_AT, ENTRY_NAME_AT,
    ENTRY_NAME_LENGTH_AT, ENTRY_OFFSET_AT, MAGIC, MAX_SECTION_NAME, MAX_SECTIONS, TABLE_AT, TOTAL_AT,
    VERSION, VERSION_AT, page_checksum,
};
use crate::{PAGE_SIZE, SectionKind};

/// Why a section cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The header has room for [`MAX_SECTIONS`] sections.
    TooManySections,
    /// The name is longer than [`MAX_SECTION_NAME`] bytes.
    NameTooLong,
}

impl core::fmt::Display for WriteError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooManySections => write!(f, "a bundle holds at most {MAX_SECTIONS} sections"),
            Self::NameTooLong => {
                write!(
                    f,
                    "the name of a bundle section has at most {MAX_SECTION_NAME} bytes"
                )
            }
        }
    }
}

impl core::error::Error for WriteError {}

/// Puts a bundle together.
#[derive(Clone, Debug)]
pub struct BundleWriter {
    file: Vec<u8>,
    sections: u16,
}

impl Default for BundleWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl BundleWriter {
    /// Starts with no section.
    #[must_use]
    pub fn new() -> Self {
        Self {
            file: vec![0; PAGE_SIZE],
            sections: 0,
        }
    }

    /// Adds a section and returns its index, which the configuration record uses.
    ///
    /// # Errors
    /// When the header has no room for it or for its name.
    pub fn add(
        &mut self,
        kind: SectionKind,
        name: &str,
        content: impl AsRef<[u8]>,
    ) -> Result<u16, WriteError> {
        let content = content.as_ref();
        let index = self.sections;
        if usize::from(index) >= MAX_SECTIONS {
            return Err(WriteError::TooManySections);
        }
        let name_length = u32::try_from(name.len()).map_err(|_| WriteError::NameTooLong)?;
        if name.len() > MAX_SECTION_NAME {
            return Err(WriteError::NameTooLong);
        }
        let entry = TABLE_AT + usize::from(index) * ENTRY_BYTES;
        let offset = self.file.len() as u64;
        self.put(entry, &kind.code().to_le_bytes());
        self.put(entry + ENTRY_NAME_LENGTH_AT, &name_length.to_le_bytes());
        self.put(entry + ENTRY_OFFSET_AT, &offset.to_le_bytes());
        self.put(entry + ENTRY_BYTES_AT, &(content.len() as u64).to_le_bytes());
        self.put(entry + ENTRY_CHECKSUM_AT, &xxh3_64(content).to_le_bytes());
        self.put(entry + ENTRY_NAME_AT, name.as_bytes());
        self.file.extend_from_slice(content);
        self.file.resize(self.file.len().next_multiple_of(PAGE_SIZE), 0);
        self.sections += 1;
        Ok(index)
    }

    /// The finished file.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let total = self.file.len() as u64;
        self.put(0, &MAGIC);
        self.put(VERSION_AT, &VERSION.to_le_bytes());
        self.put(COUNT_AT, &u32::from(self.sections).to_le_bytes());
        self.put(TOTAL_AT, &total.to_le_bytes());
        if let Some(page) = self.file.first_chunk::<PAGE_SIZE>() {
            let checksum = page_checksum(page);
            self.put(CHECKSUM_AT, &checksum.to_le_bytes());
        }
        self.file
    }

    fn put(&mut self, offset: usize, field: &[u8]) {
        self.file[offset..offset + field.len()].copy_from_slice(field);
    }
}

/// Where the ROM starts in physical memory.
const ROM_BASE: u64 = 0xFFFF_0000;
/// Its size: it ends at 4 GiB.
const ROM_BYTES: usize = 64 << 10;

/// Makes the 64 KiB ROM file from the ELF file of `pleat-rom`: the file bytes of every PT_LOAD segment
/// at its physical address minus 0xFFFF_0000, zeros between them. `None` when the file is not an ELF
/// file, has nothing to load, or has a segment outside of the ROM.
#[must_use]
pub fn rom_image(file: &[u8]) -> Option<Vec<u8>> {
    let image = Elf64::parse(file, file.len() as u64).ok()?;
    let mut rom = vec![0; ROM_BYTES];
    let mut loaded = 0;
    for segment in image
        .segments()
        .filter(|segment| segment.kind == SegmentKind::Load)
    {
        let start = usize::try_from(segment.file_offset).ok()?;
        let bytes = usize::try_from(segment.file_bytes).ok()?;
        let place = usize::try_from(segment.physical_address.checked_sub(ROM_BASE)?).ok()?;
        let content = file.get(start..)?.get(..bytes)?;
        rom.get_mut(place..)?.get_mut(..bytes)?.copy_from_slice(content);
        loaded += bytes;
    }
    (loaded != 0).then_some(rom)
}
