//! Packages unpacked below the target directory, and how programs find their parts there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Packages;
use crate::{process, progress};

/// A directory with packages unpacked into it, laid out like the root of a system.
#[derive(Clone, Debug)]
pub struct Unpacked {
    root: PathBuf,
}

impl Unpacked {
    /// Unpacks the packages into `directory/name`, or uses what a complete earlier unpacking left there.
    pub fn get(directory: &Path, name: &str, wanted: &[&str], packages: &Packages) -> Result<Self> {
        let root = directory.join(name);
        let stamp = directory.join(format!("{name}.packages"));
        if !stamp.exists() {
            let files = packages.download(wanted)?;
            unpack(&files, &root)?;
            fs::write(&stamp, list(&files)).with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        Ok(Self { root })
    }

    /// A file, given by its installed path.
    pub fn file(&self, installed: &str) -> PathBuf {
        self.root.join(installed.trim_start_matches('/'))
    }

    /// A program, wherever the packages put it.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let places = ["usr/bin", "bin", "usr/sbin", "sbin"];
        let found = places
            .iter()
            .map(|place| self.root.join(place).join(name))
            .find(|file| file.is_file());
        found.with_context(|| {
            format!(
                "the unpacked packages have no program {name} (below {})",
                self.root.display()
            )
        })
    }

    /// Tells a program where its libraries, plugins and data lie.
    pub fn prepare(&self, command: &mut Command) {
        let library = self.file("/usr/lib/x86_64-linux-gnu");
        let mut libraries = vec![
            library.clone(),
            self.file("/lib/x86_64-linux-gnu"),
            self.file("/usr/lib"),
        ];
        // Libraries in directories of their own, which an installed system finds by its loader's cache.
        libraries.extend(["pulseaudio", "blas", "lapack", "samba"].map(|part| library.join(part)));
        let places = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
        let mut path: Vec<PathBuf> = places.map(|part| self.file(part)).to_vec();
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        // Ordinary users often have no path to the system's programs, such as chroot.
        path.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
        let joined = |parts: &[PathBuf]| std::env::join_paths(parts).unwrap_or_default();
        command
            .env("LD_LIBRARY_PATH", joined(&libraries))
            .env("PATH", joined(&path));
        command.env("QEMU_MODULE_DIR", library.join("qemu"));
    }
}

/// The bzImage of the kernel package that a meta package stands for.
pub fn kernel(directory: &Path, meta_package: &str, packages: &Packages) -> Result<PathBuf> {
    let current = directory.join(format!("{meta_package}.current"));
    if let Ok(known) = fs::read_to_string(&current)
        && Path::new(&known).is_file()
    {
        return Ok(PathBuf::from(known));
    }
    let package = packages.dependency(meta_package, "linux-image-")?;
    let archive = packages.download_alone(&package)?;
    let root = directory.join(&package);
    unpack(&[archive], &root)?;
    let boot = root.join("boot");
    let image = fs::read_dir(&boot)
        .with_context(|| format!("{package} has no /boot"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        });
    let Some(image) = image else {
        bail!("{package} has no /boot/vmlinuz-*")
    };
    fs::write(&current, image.display().to_string()).context("cannot note which kernel was unpacked")?;
    Ok(image)
}

/// Unpacks into a fresh directory beside `root`, which takes its place only when all is there.
fn unpack(files: &[PathBuf], root: &Path) -> Result<()> {
    let partial = root.with_extension("partial");
    for directory in [&partial, root] {
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
    }
    let name = root
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let bar = progress::steps(&format!("unpacking {name}"), files.len() as u64);
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    for file in files {
        process::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(&partial))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    fs::rename(&partial, root).with_context(|| format!("cannot rename to {}", root.display()))
}

fn list(files: &[PathBuf]) -> String {
    let names = files.iter().filter_map(|file| file.file_name());
    names
        .map(|name| format!("{}\n", name.to_string_lossy()))
        .collect()
}
