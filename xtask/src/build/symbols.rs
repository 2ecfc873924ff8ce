//! The symbols section of the bundle: what turns addresses of a crash record into names.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolSection};
use pleat_bundle::symbols::SymbolsWriter;

/// All functions of the hypervisor, demangled.
pub fn section(hypervisor: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(hypervisor).context("the built hypervisor is no ELF file")?;
    let mut writer = SymbolsWriter::new();
    for symbol in file.symbols() {
        let SymbolSection::Section(index) = symbol.section() else {
            continue;
        };
        let is_code = file
            .section_by_index(index)
            .is_ok_and(|section| super::elf::is_code(section.kind()));
        let Ok(name) = symbol.name() else { continue };
        // Local labels of the assembler are no functions.
        if is_code && !name.is_empty() && !name.starts_with(".L") {
            writer.add(
                symbol.address(),
                symbol.size(),
                &format!("{:#}", rustc_demangle::demangle(name)),
            );
        }
    }
    Ok(writer.finish())
}
