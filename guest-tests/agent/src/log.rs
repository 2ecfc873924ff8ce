//! What is said on standard error, without ever waiting for whoever reads it: a console or a pipe that nobody empties
//! is not to stop the agent. What finds no room is lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::net::{SendFlags, send};

/// Says a line.
pub fn say(line: &str) {
    let _ = write(&format!("{line}\n"));
}

fn write(line: &str) -> io::Result<()> {
    let stderr = io::stderr();
    match FileType::from_raw_mode(fstat(&stderr)?.st_mode) {
        // The service manager's journal.
        FileType::Socket => {
            send(
                &stderr,
                line.as_bytes(),
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            )?;
        }
        FileType::Fifo | FileType::CharacterDevice => {
            reopened(Path::new("/proc/self/fd/2"))?.write_all(line.as_bytes())?;
        }
        _ => {
            rustix::io::write(stderr.as_fd(), line.as_bytes())?;
        }
    }
    Ok(())
}

/// The same pipe or terminal with flags of its own: to change those of standard error would change them for all that
/// share it.
fn reopened(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().write(true).custom_flags(flags).open(path)
}
