//! The bundle as a whole, and the checks of its sections.
//!
//! Two kinds of readers exist. A tool, a test and the ROM have the whole file as a slice and use
//! [`Bundle`]. The hypervisor must not hold a `&[u8]` over memory that becomes a guest's later: it copies
//! the header page and gives it to [`Header::parse`], then reads a section piece by piece through a buffer
//! of its own and feeds the pieces to a [`SectionCheck`].

use xxhash_rust::xxh3::Xxh3;

use crate::PAGE_SIZE;
use crate::header::{BundleError, Header, Section};

/// Checks a section's bytes and padding as they pass by, in pieces of any size.
///
/// ```
/// # use pleat_bundle::{Bundle, SectionCheck, SectionKind, write::BundleWriter};
/// # let mut writer = BundleWriter::new();
/// # writer.add(SectionKind::Initramfs, "ram disk", vec![7; 5000]).unwrap();
/// # let file = writer.finish();
/// # let bundle = Bundle::parse(&file).unwrap();
/// let section = bundle.header().section(0).unwrap();
/// let start = section.offset as usize;
/// let mut check = SectionCheck::new(section);
/// for page in file[start..start + section.padded_bytes() as usize].chunks(4096) {
///     check.update(page);
/// }
/// assert_eq!(check.finish(), Ok(()));
/// ```
#[derive(Clone)]
pub struct SectionCheck {
    hash: Xxh3,
    bytes_left: u64,
    padding_left: u64,
    wanted: u64,
    is_padding_zero: bool,
}

impl SectionCheck {
    /// Starts the check of a section.
    #[must_use]
    pub fn new(section: &Section) -> Self {
        Self {
            hash: Xxh3::new(),
            bytes_left: section.bytes,
            padding_left: section.padded_bytes() - section.bytes,
            wanted: section.checksum,
            is_padding_zero: true,
        }
    }

    /// Takes the next piece. The pieces together are the section with its padding; bytes beyond its
    /// last page belong to others and are ignored.
    pub fn update(&mut self, piece: &[u8]) {
        let data = take(&mut self.bytes_left, piece);
        self.hash.update(data);
        let rest = piece.get(data.len()..).unwrap_or_default();
        let padding = take(&mut self.padding_left, rest);
        self.is_padding_zero &= padding.iter().all(|&byte| byte == 0);
    }

    /// The verdict.
    ///
    /// # Errors
    /// [`BundleError::Truncated`] when pieces are missing, else what is wrong with the section.
    pub fn finish(self) -> Result<(), BundleError> {
        if self.bytes_left != 0 || self.padding_left != 0 {
            return Err(BundleError::Truncated);
        }
        if self.hash.digest() != self.wanted {
            return Err(BundleError::SectionChecksum);
        }
        if !self.is_padding_zero {
            return Err(BundleError::SectionPadding);
        }
        Ok(())
    }
}

/// The part of `piece` that still belongs to what has `left` bytes left.
fn take<'a>(left: &mut u64, piece: &'a [u8]) -> &'a [u8] {
    let taken = usize::try_from(*left).map_or(piece, |left| piece.get(..left).unwrap_or(piece));
    *left -= taken.len() as u64;
    taken
}

/// A bundle that lies in memory as a whole and does not change.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    header: Header,
}

impl<'a> Bundle<'a> {
    /// Reads the header; `bytes` may be longer than the bundle.
    ///
    /// # Errors
    /// As [`Header::parse`], and [`BundleError::Truncated`] when bytes are missing at the end.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let page = bytes.first_chunk::<PAGE_SIZE>().ok_or(BundleError::Truncated)?;
        let header = Header::parse(page)?;
        let bytes = usize::try_from(header.total_bytes())
            .ok()
            .and_then(|total| bytes.get(..total))
            .ok_or(BundleError::Truncated)?;
        Ok(Self { bytes, header })
    }

    /// The checked header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of a section, without the padding. They are not verified.
    ///
    /// # Errors
    /// [`BundleError::NoSection`].
    pub fn section(&self, index: u16) -> Result<&'a [u8], BundleError> {
        let missing = BundleError::NoSection {
            section: usize::from(index),
        };
        let section = self.header.section(index).ok_or(missing)?;
        self.range(section.offset, section.bytes)
            .ok_or(BundleError::Truncated)
    }

    /// Compares a section with its checksum and its padding with zeros.
    ///
    /// # Errors
    /// Says what is wrong with the section.
    pub fn verify(&self, index: u16) -> Result<(), BundleError> {
        let missing = BundleError::NoSection {
            section: usize::from(index),
        };
        let section = self.header.section(index).ok_or(missing)?;
        let mut check = SectionCheck::new(section);
        check.update(
            self.range(section.offset, section.padded_bytes())
                .ok_or(BundleError::Truncated)?,
        );
        check.finish()
    }

    fn range(&self, offset: u64, bytes: u64) -> Option<&'a [u8]> {
        let offset = usize::try_from(offset).ok()?;
        self.bytes.get(offset..)?.get(..usize::try_from(bytes).ok()?)
    }
}
