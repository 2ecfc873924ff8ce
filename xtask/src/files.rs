//! Writing files so that whoever runs beside this, another xtask or another thread, never reads half of one.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// Writes a file under a temporary name and renames it; directories are made as needed.
pub fn write_new(file: &Path, content: &[u8]) -> Result<()> {
    let shown = file.display();
    let directory = file
        .parent()
        .with_context(|| format!("{shown} has no directory"))?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // Two threads may make the same file at the same time: each its own partial one, and the last rename stays.
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let partial = directory.join(format!(".{name}.{}.{serial}", std::process::id()));
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

#[cfg(test)]
mod tests {
    use super::write_new;

    #[test]
    fn many_threads_write_the_same_file() {
        let directory = std::env::temp_dir().join(format!("xtask-files-{}", std::process::id()));
        let file = directory.join("deep").join("file");
        std::thread::scope(|scope| {
            for byte in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    (0..50).for_each(|_| write_new(file, &[byte; 100]).expect("each write succeeds"));
                });
            }
        });
        let content = std::fs::read(&file).expect("the last one stays");
        assert!(
            content.len() == 100 && content.iter().all(|byte| *byte == content[0]),
            "one whole content"
        );
        std::fs::remove_dir_all(directory).expect("the test made it");
    }
}
