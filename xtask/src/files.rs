//! Writing files so that another xtask beside this one never reads half of one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes a file under a temporary name and renames it; directories are made as needed.
pub fn write_new(file: &Path, content: &[u8]) -> Result<()> {
    let shown = file.display();
    let directory = file
        .parent()
        .with_context(|| format!("{shown} has no directory"))?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let partial = directory.join(format!(".{name}.{}", std::process::id()));
    fs::write(&partial, content).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, file).with_context(|| format!("cannot write {shown}"))
}

/// A file made from others: `make` runs only when a file with this name is not there yet.
/// The name has to contain what the content depends on.
pub fn cached(file: &Path, make: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    if let Ok(known) = fs::read(file) {
        return Ok(known);
    }
    let made = make()?;
    write_new(file, &made)?;
    Ok(made)
}
