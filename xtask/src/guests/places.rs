//! Where names of files and test kernels are looked up.

use std::path::{Path, PathBuf};

use super::names::check_name;
use super::{Initramfs, Kernel};

/// The directories that names in a guests file refer to.
pub struct Places<'a> {
    /// Of the guests file.
    pub directory: &'a Path,
    /// Of the workspace.
    pub root: &'a Path,
}

impl Places<'_> {
    /// The kernel that a word or a path stands for.
    pub fn kernel(&self, text: &str) -> Result<Kernel, String> {
        match text {
            "debian-cloud" => return Ok(Kernel::DebianCloud),
            "debian-cloud-bzimage" => return Ok(Kernel::DebianCloudBzImage),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("test:") {
            return self.test_kernel(name);
        }
        if !text.contains('/') {
            return Err(format!(
                "`{text}` is no kernel; allowed: \"debian-cloud\", \"debian-cloud-bzimage\", \"test:<name>\", or the path \
                 of a file (with a `/` in it)"
            ));
        }
        self.file(text).map(Kernel::File)
    }

    fn test_kernel(&self, name: &str) -> Result<Kernel, String> {
        let guests = self.root.join("guest-tests/guests");
        if check_name("a test kernel", name).is_ok() && guests.join(name).join("Cargo.toml").is_file() {
            return Ok(Kernel::Test(name.to_owned()));
        }
        let entries = std::fs::read_dir(&guests).into_iter().flatten().flatten();
        let mut known: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        known.sort();
        Err(format!(
            "there is no test kernel `{name}`; there are: {}",
            known.join(", ")
        ))
    }

    /// The RAM disk that a word or a path stands for, for a guest with or without a disk to start from.
    pub fn initramfs(&self, text: &str, has_system: bool) -> Result<Initramfs, String> {
        match text {
            "none" => Ok(Initramfs::None),
            "workload" => Ok(Initramfs::Workload),
            "agent" => Ok(Initramfs::Agent),
            "disk" if has_system => Ok(Initramfs::Disk),
            "disk" => Err(
                "a guest starts from a disk only if it has one with a system: disk = \"debian\" or a path"
                    .to_owned(),
            ),
            path if path.contains('/') => self.file(path).map(Initramfs::File),
            _ => Err(format!(
                "`{text}` is no RAM disk; allowed: \"agent\", \"workload\", \"disk\", \"none\", or the path of a file (with a `/` in it)"
            )),
        }
    }

    /// A file, relative to the guests file.
    pub fn file(&self, path: &str) -> Result<PathBuf, String> {
        let file = self.directory.join(path);
        if file.is_file() {
            Ok(file)
        } else {
            Err(format!("there is no file {}", file.display()))
        }
    }
}
