//! The bundle's header page and its section table.

use arrayvec::{ArrayString, ArrayVec};
use xxhash_rust::xxh3::Xxh3;

use crate::PAGE_SIZE;
use crate::bytes::{array_at, u32_at, u64_at};

/// First eight bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"PLEATBU1";
/// The version of the format that this crate reads and writes.
pub const VERSION: u32 = 1;
/// The most sections of a bundle.
pub const MAX_SECTIONS: usize = 32;
/// The longest name of a section, in bytes.
pub const MAX_SECTION_NAME: usize = 64;

/// Offset of the version (u32).
pub(crate) const VERSION_AT: usize = 8;
/// Offset of the number of sections (u32).
pub(crate) const COUNT_AT: usize = 12;
/// Offset of the bundle's size in bytes (u64), a multiple of the page size.
pub(crate) const TOTAL_AT: usize = 16;
/// Offset of the checksum of the header page (u64), computed with this field zero.
pub(crate) const CHECKSUM_AT: usize = 24;
/// Offset of the section table.
pub(crate) const TABLE_AT: usize = 64;
/// Size of an entry of the section table.
pub(crate) const ENTRY_BYTES: usize = 96;
/// Offset of an entry's name length (u32).
pub(crate) const ENTRY_NAME_LENGTH_AT: usize = 4;
/// Offset of an entry's place in the bundle (u64).
pub(crate) const ENTRY_OFFSET_AT: usize = 8;
/// Offset of an entry's size in bytes, without padding (u64).
pub(crate) const ENTRY_BYTES_AT: usize = 16;
/// Offset of an entry's checksum (u64).
pub(crate) const ENTRY_CHECKSUM_AT: usize = 24;
/// Offset of an entry's name.
pub(crate) const ENTRY_NAME_AT: usize = 32;

/// What is wrong with a bundle. `section` is the index in the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// There are fewer bytes than the bundle's header says, or than a header has.
    Truncated,
    /// It does not start with [`MAGIC`]: there is no bundle here.
    NoBundle,
    /// It is a bundle of another version of the format.
    Version {
        /// The version that it says it has.
        found: u32,
    },
    /// The header page does not have its checksum.
    HeaderChecksum,
    /// The bundle's size is zero, odd, or beyond what an address can reach.
    Size,
    /// More sections than a header has room for.
    SectionCount {
        /// How many it says there are.
        found: u32,
    },
    /// A section of a kind that this version does not know.
    SectionKind {
        /// The section.
        section: usize,
        /// The kind it says it has.
        found: u32,
    },
    /// A section does not start on a page, overlaps its predecessor, or leaves the bundle.
    SectionPlace {
        /// The section.
        section: usize,
    },
    /// A section's name is too long or not UTF-8.
    SectionName {
        /// The section.
        section: usize,
    },
    /// No section has this index.
    NoSection {
        /// The index that was asked for.
        section: usize,
    },
    /// The bytes of a section do not have their checksum.
    SectionChecksum,
    /// A byte between a section's end and the end of its last page is not zero.
    SectionPadding,
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum SectionKind {
    /// The hypervisor's ELF file: exactly what the ROM loads.
    Hypervisor = 1,
    /// A guest's kernel: an ELF file with a PVH note, or a bzImage. Its first bytes tell which.
    Kernel = 2,
    /// A guest's initial RAM disk.
    Initramfs = 3,
    /// The configuration record ([`crate::config`]).
    Config = 4,
    /// The hypervisor's symbols ([`crate::symbols`]).
    Symbols = 5,
    /// The base image of guests' disks, which is never written.
    Disk = 6,
}

impl SectionKind {
    fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Hypervisor),
            2 => Some(Self::Kernel),
            3 => Some(Self::Initramfs),
            4 => Some(Self::Config),
            5 => Some(Self::Symbols),
            6 => Some(Self::Disk),
            _ => None,
        }
    }

    /// Its number in the section table.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }
}

/// An entry of the section table, checked: it lies inside the bundle and on page bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Where it starts, in bytes from the start of the bundle: a multiple of the page size.
    pub offset: u64,
    /// Its size in bytes, without the padding.
    pub bytes: u64,
    /// xxh3-64 of its bytes, without the padding.
    pub checksum: u64,
    /// Its name, for people.
    pub name: ArrayString<MAX_SECTION_NAME>,
}

impl Section {
    /// How many pages it occupies.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.bytes.div_ceil(PAGE_SIZE as u64)
    }

    /// Its size with the padding.
    #[must_use]
    pub const fn padded_bytes(&self) -> u64 {
        self.pages() * PAGE_SIZE as u64
    }

    /// Where its padding ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset + self.padded_bytes()
    }
}

/// The checked header page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    total_bytes: u64,
    sections: ArrayVec<Section, MAX_SECTIONS>,
}

impl Header {
    /// Reads a copy of the bundle's first page.
    ///
    /// # Errors
    /// Says what is wrong when the page is not a header that this version understands completely.
    pub fn parse(page: &[u8; PAGE_SIZE]) -> Result<Self, BundleError> {
        if array_at(page, 0) != Some(MAGIC) {
            return Err(BundleError::NoBundle);
        }
        let field32 = |offset| u32_at(page, offset).ok_or(BundleError::Truncated);
        let field64 = |offset| u64_at(page, offset).ok_or(BundleError::Truncated);
        let version = field32(VERSION_AT)?;
        if version != VERSION {
            return Err(BundleError::Version { found: version });
        }
        if field64(CHECKSUM_AT)? != page_checksum(page) {
            return Err(BundleError::HeaderChecksum);
        }
        let total_bytes = field64(TOTAL_AT)?;
        // A signed address range is the most that any later sum of two sizes may reach.
        if total_bytes < PAGE_SIZE as u64 || !is_aligned(total_bytes) || total_bytes > 1 << 62 {
            return Err(BundleError::Size);
        }
        let count = field32(COUNT_AT)?;
        let sections = parse_table(page, count, total_bytes)?;
        Ok(Self {
            total_bytes,
            sections,
        })
    }

    /// The bundle's size, header and padding included.
    #[must_use]
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// All sections, in the order of their places.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The section with this index, as the configuration record names it.
    #[must_use]
    pub fn section(&self, index: u16) -> Option<&Section> {
        self.sections.get(usize::from(index))
    }

    /// The first section of a kind, and its index.
    #[must_use]
    pub fn find(&self, kind: SectionKind) -> Option<(usize, &Section)> {
        self.sections
            .iter()
            .enumerate()
            .find(|(_, section)| section.kind == kind)
    }
}

/// xxh3-64 of the header page with the checksum field as zeros.
pub(crate) fn page_checksum(page: &[u8; PAGE_SIZE]) -> u64 {
    let (before, rest) = page.split_at(CHECKSUM_AT);
    let (_, after) = rest.split_at(size_of::<u64>());
    let mut hash = Xxh3::new();
    hash.update(before);
    hash.update(&[0; size_of::<u64>()]);
    hash.update(after);
    hash.digest()
}

fn is_aligned(bytes: u64) -> bool {
    bytes.is_multiple_of(PAGE_SIZE as u64)
}

fn parse_table(
    page: &[u8; PAGE_SIZE],
    count: u32,
    total_bytes: u64,
) -> Result<ArrayVec<Section, MAX_SECTIONS>, BundleError> {
    let too_many = BundleError::SectionCount { found: count };
    let wanted = usize::try_from(count).map_err(|_| too_many)?;
    if wanted > MAX_SECTIONS {
        return Err(too_many);
    }
    let mut sections = ArrayVec::new();
    let mut free_from = PAGE_SIZE as u64;
    for index in 0..wanted {
        let entry: [u8; ENTRY_BYTES] = array_at(page, TABLE_AT + index * ENTRY_BYTES).ok_or(too_many)?;
        let section = parse_entry(&entry, index)?;
        // The size is compared first, so that no sum below can overflow.
        let is_inside = section.offset <= total_bytes && section.bytes <= total_bytes - section.offset;
        if section.offset < free_from || !is_aligned(section.offset) || !is_inside {
            return Err(BundleError::SectionPlace { section: index });
        }
        free_from = section.end();
        sections.push(section);
    }
    Ok(sections)
}

fn parse_entry(entry: &[u8; ENTRY_BYTES], section: usize) -> Result<Section, BundleError> {
    let field32 = |offset| u32_at(entry, offset).ok_or(BundleError::Truncated);
    let field64 = |offset| u64_at(entry, offset).ok_or(BundleError::Truncated);
    let code = field32(0)?;
    let kind = SectionKind::from_code(code).ok_or(BundleError::SectionKind { section, found: code })?;
    let name = usize::try_from(field32(ENTRY_NAME_LENGTH_AT)?)
        .ok()
        .and_then(|length| entry.get(ENTRY_NAME_AT..)?.get(..length))
        .and_then(|name| core::str::from_utf8(name).ok())
        .and_then(|name| ArrayString::from(name).ok())
        .ok_or(BundleError::SectionName { section })?;
    Ok(Section {
        kind,
        offset: field64(ENTRY_OFFSET_AT)?,
        bytes: field64(ENTRY_BYTES_AT)?,
        checksum: field64(ENTRY_CHECKSUM_AT)?,
        name,
    })
}
