//! Where the agent, its port and its subscribers find each other.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The port's name, as the host gave it.
pub const PORT: &str = "org.pleat.pressure";
/// Where the agent keeps its files unless it is told otherwise.
pub const DIRECTORY: &str = "/run/pleat";

/// The socket that subscribers connect to.
#[must_use]
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("pressure")
}

/// The file with the current line.
#[must_use]
pub fn level(directory: &Path) -> PathBuf {
    directory.join("level")
}

/// Opens the port. Where nobody makes names below /dev/virtio-ports (udev does), it is found by the name that the driver
/// shows in sysfs.
///
/// # Errors
/// Where there is no such port, or somebody else has it open.
pub fn open_port() -> io::Result<File> {
    let named = Path::new("/dev/virtio-ports").join(PORT);
    let path = if named.exists() {
        named
    } else {
        find(Path::new("/sys/class/virtio-ports"))?
    };
    open(&path)
}

/// Opens a device so that neither reading nor writing ever waits. The driver spins until the host has taken what is
/// written unless it is asked not to (Linux, drivers/char/virtio_console.c, `__send_to_port`).
///
/// # Errors
/// Those of the system.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).map_err(io::Error::other)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
}

fn find(class: &Path) -> io::Result<PathBuf> {
    for entry in fs::read_dir(class)? {
        let entry = entry?;
        // A port without a name has no such file, or an empty one.
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT {
            return Ok(Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "no port has the right name",
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::find;

    #[test]
    fn a_port_is_found_by_its_name() {
        let class = std::env::temp_dir().join(format!("pleat-ports-{}", std::process::id()));
        for (port, name) in [("vport1p0", None), ("vport1p1", Some("org.pleat.pressure\n"))] {
            fs::create_dir_all(class.join(port)).unwrap();
            if let Some(name) = name {
                fs::write(class.join(port).join("name"), name).unwrap();
            }
        }
        assert_eq!(find(&class).unwrap(), Path::new("/dev/vport1p1"));
        fs::write(class.join("vport1p1/name"), "another\n").unwrap();
        assert!(find(&class).is_err());
        fs::remove_dir_all(&class).unwrap();
    }
}
