//! ELF files: headers, sections and whether a program is static.

use std::path::Path;

use anyhow::{Context, Result};
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, SectionKind};

type Header = FileHeader64<Endianness>;

/// The headers of a 64-bit ELF file.
pub fn header(file: &[u8]) -> Result<(&Header, Endianness)> {
    let header = Header::parse(file).context("not a 64-bit ELF file")?;
    let endian = header.endian().context("an ELF file of unknown byte order")?;
    Ok((header, endian))
}

/// Whether a program needs no dynamic loader. A file that is no ELF program needs an interpreter.
#[must_use]
pub fn is_static(program: &Path) -> bool {
    let Ok(file) = std::fs::read(program) else {
        return false;
    };
    let Ok((header, endian)) = header(&file) else {
        return false;
    };
    let Ok(segments) = header.program_headers(endian, file.as_slice()) else {
        return false;
    };
    segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP)
}

/// The kinds of sections whose symbols a backtrace can meet.
#[must_use]
pub fn is_code(kind: SectionKind) -> bool {
    kind == SectionKind::Text
}
