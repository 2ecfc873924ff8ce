//! A kernel's ELF file cut down to what is loaded and the note that says where it is entered.
//!
//! Sections, symbols and appended relocations go; segments move to page bounds of the file, at the same
//! place within a page as in memory, so that their frames can be given to a guest without a copy.

use anyhow::{Context, Result, bail};
use object::elf::{PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};

use super::elf;

/// Beginning of the names of files made here; its number counts versions of what this module makes.
pub const PREFIX: &str = "vmlinux.2";

const FILE_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PAGE: usize = 4096;

struct Kept<'a> {
    kind: u32,
    flags: u32,
    virtual_address: u64,
    physical_address: u64,
    memory_bytes: u64,
    alignment: u64,
    content: &'a [u8],
}

/// A kernel cut down; it has to have notes.
pub fn strip(file: &[u8]) -> Result<Vec<u8>> {
    let kept = kept(file)?;
    if !kept.iter().any(|segment| segment.kind == PT_NOTE.0) {
        bail!("it has no notes, so no PVH entry point; Pleat boots ELF kernels by that");
    }
    assemble(file, &kept)
}

/// Any program cut down to what is loaded.
pub fn loadable(file: &[u8]) -> Result<Vec<u8>> {
    assemble(file, &kept(file)?)
}

fn kept(file: &[u8]) -> Result<Vec<Kept<'_>>> {
    let (header, endian) = elf::header(file)?;
    let segments = header
        .program_headers(endian, file)
        .context("its program headers are damaged")?;
    let mut kept = Vec::new();
    for segment in segments
        .iter()
        .filter(|segment| matches!(segment.p_type(endian), PT_LOAD | PT_NOTE))
    {
        let content = segment
            .data(endian, file)
            .map_err(|()| anyhow::anyhow!("a segment leaves the file"))?;
        kept.push(Kept {
            kind: segment.p_type(endian).0,
            flags: segment.p_flags(endian).0,
            virtual_address: segment.p_vaddr(endian),
            physical_address: segment.p_paddr(endian),
            memory_bytes: segment.p_memsz(endian),
            // Readers of notes round by it.
            alignment: segment.p_align(endian),
            content,
        });
    }
    Ok(kept)
}

fn assemble(file: &[u8], kept: &[Kept<'_>]) -> Result<Vec<u8>> {
    let mut small = file
        .get(..FILE_HEADER_BYTES)
        .context("the kernel ends in its header")?
        .to_vec();
    // e_phoff and e_phnum point at our headers; e_shoff, e_shnum and e_shstrndx say there are no sections.
    small[32..40].copy_from_slice(&(FILE_HEADER_BYTES as u64).to_le_bytes());
    small[40..48].fill(0);
    small[56..58].copy_from_slice(
        &u16::try_from(kept.len())
            .context("too many segments")?
            .to_le_bytes(),
    );
    small[60..64].fill(0);
    small.resize(FILE_HEADER_BYTES + kept.len() * PROGRAM_HEADER_BYTES, 0);
    let mut copied: Vec<(u64, u64, usize)> = Vec::new();
    for (index, segment) in kept.iter().enumerate() {
        let offset = place(&mut small, segment, &copied);
        copied.push((segment.virtual_address, segment.content.len() as u64, offset));
        let at = FILE_HEADER_BYTES + index * PROGRAM_HEADER_BYTES;
        small[at..at + PROGRAM_HEADER_BYTES].copy_from_slice(&program_header(segment, offset as u64));
    }
    Ok(small)
}

/// Puts a segment's bytes into the file, unless an earlier segment already has them (notes lie inside
/// the text); returns where they are.
fn place(small: &mut Vec<u8>, segment: &Kept<'_>, copied: &[(u64, u64, usize)]) -> usize {
    let end = segment.virtual_address + segment.content.len() as u64;
    let inside = copied
        .iter()
        .find(|(start, bytes, _)| *start <= segment.virtual_address && end <= start.saturating_add(*bytes));
    if let Some((start, _, offset)) = inside {
        return offset + usize::try_from(segment.virtual_address - start).unwrap_or_default();
    }
    let in_page = usize::try_from(segment.physical_address % PAGE as u64).unwrap_or_default();
    let offset = small.len().next_multiple_of(PAGE) + in_page;
    small.resize(offset, 0);
    small.extend_from_slice(segment.content);
    offset
}

fn program_header(segment: &Kept<'_>, offset: u64) -> [u8; PROGRAM_HEADER_BYTES] {
    let mut bytes = [0; PROGRAM_HEADER_BYTES];
    bytes[0..4].copy_from_slice(&segment.kind.to_le_bytes());
    bytes[4..8].copy_from_slice(&segment.flags.to_le_bytes());
    let content = segment.content.len() as u64;
    let words = [
        offset,
        segment.virtual_address,
        segment.physical_address,
        content,
        segment.memory_bytes,
        segment.alignment,
    ];
    for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
