//! ELF64 images: the hypervisor's for the ROM, the guests' kernels for the loader.
//!
//! Only what loading needs: the entry point, the program headers, and the note with the PVH entry
//! point. The reader works on a copy of the file's beginning, because the file itself may lie in
//! memory that nobody may borrow. Layouts: System V ABI, "Object Files"; the PVH note: Xen's
//! `elfnote.h`, `XEN_ELFNOTE_PHYS32_ENTRY`.

use crate::bytes::{array_at, u16_at, u32_at, u64_at};

/// Size of the file header.
pub const FILE_HEADER_BYTES: usize = 64;
/// Size of a program header.
pub const PROGRAM_HEADER_BYTES: usize = 56;
/// How much of a file's beginning a caller should copy: linkers put the program headers first.
pub const HEAD_BYTES: usize = 4096;

const MACHINE_X86_64: u16 = 62;
const NOTE_HEADER_BYTES: usize = 12;
const NOTE_NAME_XEN: &[u8] = b"Xen\0";
const NOTE_PHYS32_ENTRY: u32 = 18;

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It does not start like an ELF file.
    NotElf,
    /// It is an ELF file, but not a 64-bit little-endian one for x86-64.
    NotX86_64,
    /// Its program headers have another size than ELF64 says, or do not lie in its first bytes.
    ProgramHeaders,
    /// This program header names bytes that the file does not have, has more bytes in the file than
    /// in memory, or leaves the address space.
    Segment(usize),
}

/// What a program header describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// To be loaded.
    Load,
    /// Notes.
    Note,
    /// Of no interest to a loader.
    Other(u32),
}

/// A program header, checked: its bytes lie in the file, no sum overflows, and a segment to be loaded
/// has no more bytes in the file than in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What it describes.
    pub kind: SegmentKind,
    /// Where its bytes start in the file.
    pub file_offset: u64,
    /// How many bytes of it are in the file.
    pub file_bytes: u64,
    /// Where it runs.
    pub virtual_address: u64,
    /// Where it is to be loaded.
    pub physical_address: u64,
    /// Its size in memory; what the file does not have is zero.
    pub memory_bytes: u64,
}

impl Segment {
    /// The physical address behind its last byte.
    #[must_use]
    pub const fn physical_end(&self) -> u64 {
        self.physical_address + self.memory_bytes
    }
}

/// The headers of an ELF64 file for x86-64.
#[derive(Clone, Copy, Debug)]
pub struct Elf64<'a> {
    entry: u64,
    program_headers: &'a [[u8; PROGRAM_HEADER_BYTES]],
}

/// Whether a file starts like an ELF file.
#[must_use]
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

impl<'a> Elf64<'a> {
    /// Reads the headers. `head` is the file's beginning ([`HEAD_BYTES`], or all of a shorter file),
    /// `file_bytes` the size of the whole file.
    ///
    /// # Errors
    /// Says what is wrong; a returned image has only checked segments.
    pub fn parse(head: &'a [u8], file_bytes: u64) -> Result<Self, ElfError> {
        if !is_elf(head) {
            return Err(ElfError::NotElf);
        }
        // EI_CLASS = 2 (64 bits), EI_DATA = 1 (little-endian), EI_VERSION = 1.
        if array_at(head, 4) != Some([2_u8, 1, 1]) || u16_at(head, 18) != Some(MACHINE_X86_64) {
            return Err(ElfError::NotX86_64);
        }
        let bad = ElfError::ProgramHeaders;
        let entry = u64_at(head, 24).ok_or(bad)?;
        let table_at = u64_at(head, 32)
            .and_then(|at| usize::try_from(at).ok())
            .ok_or(bad)?;
        let entry_bytes = u16_at(head, 54).ok_or(bad)?;
        let count = u16_at(head, 56).ok_or(bad)?;
        if count != 0 && usize::from(entry_bytes) != PROGRAM_HEADER_BYTES {
            return Err(bad);
        }
        let table = head
            .get(table_at..)
            .and_then(|rest| rest.get(..usize::from(count) * PROGRAM_HEADER_BYTES))
            .ok_or(bad)?;
        let program_headers = table.as_chunks::<PROGRAM_HEADER_BYTES>().0;
        for (index, header) in program_headers.iter().enumerate() {
            check_segment(&segment(header), file_bytes).ok_or(ElfError::Segment(index))?;
        }
        Ok(Self {
            entry,
            program_headers,
        })
    }

    /// The entry point: a virtual address.
    #[must_use]
    pub const fn entry(&self) -> u64 {
        self.entry
    }

    /// All segments, in the file's order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + use<'a> {
        self.program_headers.iter().map(segment)
    }

    /// The segments that are to be loaded and are not empty.
    pub fn loads(&self) -> impl Iterator<Item = Segment> + use<'a> {
        self.segments()
            .filter(|segment| segment.kind == SegmentKind::Load && segment.memory_bytes != 0)
    }

    /// The segments with notes; [`pvh_entry`] reads their bytes.
    pub fn notes(&self) -> impl Iterator<Item = Segment> + use<'a> {
        self.segments()
            .filter(|segment| segment.kind == SegmentKind::Note)
    }
}

fn segment(header: &[u8; PROGRAM_HEADER_BYTES]) -> Segment {
    // All offsets are inside the array by its type.
    let word = |offset| u64_at(header, offset).unwrap_or_default();
    Segment {
        kind: match u32_at(header, 0).unwrap_or_default() {
            1 => SegmentKind::Load,
            4 => SegmentKind::Note,
            other => SegmentKind::Other(other),
        },
        file_offset: word(8),
        virtual_address: word(16),
        physical_address: word(24),
        file_bytes: word(32),
        memory_bytes: word(40),
    }
}

fn check_segment(segment: &Segment, file_bytes: u64) -> Option<()> {
    let is_used = matches!(segment.kind, SegmentKind::Load | SegmentKind::Note);
    if !is_used {
        return Some(());
    }
    let end = segment.file_offset.checked_add(segment.file_bytes)?;
    segment.physical_address.checked_add(segment.memory_bytes)?;
    segment.virtual_address.checked_add(segment.memory_bytes)?;
    let is_load = segment.kind == SegmentKind::Load;
    (end <= file_bytes && !(is_load && segment.file_bytes > segment.memory_bytes)).then_some(())
}

/// The 32-bit PVH entry point (a physical address), when the bytes of a note segment have one.
#[must_use]
pub fn pvh_entry(notes: &[u8]) -> Option<u32> {
    let mut rest = notes;
    // Every turn consumes at least a note's header, so the loop ends.
    loop {
        let name_bytes = usize::try_from(u32_at(rest, 0)?).ok()?;
        let value_bytes = usize::try_from(u32_at(rest, 4)?).ok()?;
        let kind = u32_at(rest, 8)?;
        let name = rest.get(NOTE_HEADER_BYTES..)?.get(..name_bytes)?;
        let value_at = NOTE_HEADER_BYTES.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
        let value = rest.get(value_at..)?.get(..value_bytes)?;
        if kind == NOTE_PHYS32_ENTRY && name == NOTE_NAME_XEN {
            return entry_value(value);
        }
        rest = rest.get(value_at.checked_add(value_bytes.checked_next_multiple_of(4)?)?..)?;
    }
}

/// Kernels write the address with 32 bits (by hand) or 64 (Linux for x86-64).
fn entry_value(value: &[u8]) -> Option<u32> {
    match value.len() {
        4 => u32_at(value, 0),
        8 => u32::try_from(u64_at(value, 0)?).ok(),
        _ => None,
    }
}
