//! The distribution's packages without root: `apt-get` with its state and cache below our directory.
//!
//! Downloading needs no lock on the system's database and no right to write to it; apt checks the
//! packages' hashes against signed lists, so what arrives is what the distribution made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::{process, progress};

/// Access to the distribution's packages.
#[derive(Clone, Debug)]
pub struct Packages {
    directory: PathBuf,
    status: PathBuf,
    has_own_lists: bool,
    leaves_runtime: bool,
}

/// What apt takes for the list of installed packages where nothing counts as installed.
const STATUS_OF_NOTHING: &str = "status-of-nothing";

/// A directory for package files that never has any.
const NO_ARCHIVES: &str = "cache/none";

/// One package file to download.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    file: String,
    bytes: u64,
}

impl Packages {
    /// With `ignores_installed`, everything but the C runtime counts as missing.
    pub fn new(directory: PathBuf, ignores_installed: bool) -> Result<Self> {
        let archives = format!("{NO_ARCHIVES}/partial");
        for part in ["lists/partial", "cache/archives/partial", &archives] {
            fs::create_dir_all(directory.join(part))
                .with_context(|| format!("cannot make directories below {}", directory.display()))?;
        }
        let empty = directory.join(STATUS_OF_NOTHING);
        fs::write(&empty, "").with_context(|| format!("cannot write {}", empty.display()))?;
        let status = if ignores_installed {
            empty
        } else {
            PathBuf::from("/var/lib/dpkg/status")
        };
        let has_own_lists = directory.join("lists-are-fetched").exists();
        Ok(Self {
            directory,
            status,
            has_own_lists,
            leaves_runtime: true,
        })
    }

    /// The same for a system of its own, where nothing is installed and the C runtime is missing too.
    pub fn for_guests(self) -> Self {
        Self {
            status: self.directory.join(STATUS_OF_NOTHING),
            leaves_runtime: false,
            ..self
        }
    }

    /// The same with package lists of our own.
    fn with_own_lists(&self) -> Self {
        Self {
            has_own_lists: true,
            ..self.clone()
        }
    }

    /// Downloads packages and what they need and this system has not; returns the package files.
    pub fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        if let Ok(files) = self.try_download(packages) {
            return Ok(files);
        }
        // Lists that are missing or so old that the files they name are gone: fetch our own.
        self.refresh()?;
        self.with_own_lists().try_download(packages).map_err(|error| {
            match unknown(&format!("{error:#}")).as_slice() {
                [] => error.context(self.unreachable(packages)),
                names => anyhow!(
                    "this system's package sources (/etc/apt) have no package {}",
                    names.join(", ")
                ),
            }
        })
    }

    /// What is to be done when nothing arrives.
    fn unreachable(&self, packages: &[&str]) -> String {
        let by_hand = match self.leaves_runtime {
            true => format!(
                " Installing them by hand works too: apt-get install {}",
                packages.join(" ")
            ),
            false => String::new(),
        };
        format!(
            "the packages {} cannot be fetched from this system's package sources (/etc/apt); is the network there?{by_hand}",
            packages.join(", ")
        )
    }

    /// Downloads one package without its dependencies.
    pub fn download_alone(&self, package: &str) -> Result<PathBuf> {
        let directory = self.archives();
        let mut command = self.command("apt-get");
        command
            .current_dir(&directory)
            .args(["--print-uris", "-qq", "download", package]);
        let wanted = parse_uris(&process::text(&mut command)?);
        let Some(wanted) = wanted.into_iter().next() else {
            bail!("apt-get knows no file for {package}")
        };
        let mut command = self.command("apt-get");
        command.current_dir(&directory).args(["-qq", "download", package]);
        self.watch(package, wanted.bytes, command)?;
        Ok(directory.join(wanted.file))
    }

    /// What a meta package depends on, by a prefix of the name.
    pub fn dependency(&self, meta_package: &str, prefix: &str) -> Result<String> {
        match self.try_dependency(meta_package, prefix) {
            Ok(name) => Ok(name),
            Err(_) => {
                self.refresh()?;
                self.with_own_lists().try_dependency(meta_package, prefix)
            }
        }
    }

    /// Where this system gets Debian from.
    pub fn debian_mirror(&self) -> Result<Option<String>> {
        let format = "$(LABEL)|$(COMPONENT)|$(REPO_URI)";
        let mut command = self.command("apt-get");
        command.args(["indextargets", "--format", format, "Created-By: Packages"]);
        let targets = process::text(&mut command)?;
        let mirror = targets.lines().find_map(|line| line.strip_prefix("Debian|main|"));
        Ok(mirror.map(|uri| uri.trim_end_matches('/').to_owned()))
    }

    fn try_dependency(&self, meta_package: &str, prefix: &str) -> Result<String> {
        let text = process::text(self.command("apt-cache").args(["depends", meta_package]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("the package {meta_package} depends on no {prefix}*"))
    }

    fn try_download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let install = |extra: &[&str]| {
            let mut command = self.command("apt-get");
            command
                .args(["-y", "-qq", "--no-install-recommends"])
                .args(extra)
                .arg("install")
                .args(packages);
            command
        };
        // With `--reinstall` the packages themselves are fetched even where the system has them. What was fetched before
        // for others is not listed, unless apt looks for it where nothing is.
        let nowhere = format!(
            "Dir::Cache::archives={}",
            self.directory.join(NO_ARCHIVES).display()
        );
        let mut list = install(&["--reinstall", "--print-uris", "-o", &nowhere]);
        let listed = parse_uris(&process::text(&mut list)?);
        let wanted: Vec<Wanted> = listed
            .into_iter()
            .filter(|wanted| !(self.leaves_runtime && is_runtime(&wanted.file)))
            .collect();
        if wanted.is_empty() {
            bail!("apt-get names no files for {}", packages.join(", "));
        }
        let total = wanted.iter().map(|wanted| wanted.bytes).sum();
        self.watch(packages[0], total, install(&["--reinstall", "--download-only"]))?;
        Ok(wanted
            .into_iter()
            .map(|wanted| self.archives().join(wanted.file))
            .collect())
    }

    /// Fetches package lists of the system's sources into our directory. A source that does not answer
    /// (a vendor's, say) is no failure as long as the packages are found afterwards.
    fn refresh(&self) -> Result<()> {
        let bar = progress::spinner("fetching the distribution's package lists");
        let outcome = process::run(self.with_own_lists().command("apt-get").args(["-qq", "update"]));
        bar.finish_and_clear();
        if let Err(error) = outcome {
            eprintln!("xtask: some package lists could not be fetched: {error}");
        }
        fs::write(self.directory.join("lists-are-fetched"), "").context("cannot note that lists were fetched")
    }

    /// Runs a download while showing how much has arrived.
    fn watch(&self, name: &str, total: u64, mut command: Command) -> Result<()> {
        let mib = total.div_ceil(1 << 20);
        let bar = progress::bytes(&format!("fetching {name} ({mib} MiB)"), total);
        let before = size_below(&self.archives());
        let archives = self.archives();
        let watcher = bar.clone();
        let counting = std::thread::spawn(move || {
            while !watcher.is_finished() {
                watcher.set_position(size_below(&archives).saturating_sub(before));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let outcome = process::run(&mut command);
        bar.finish_and_clear();
        counting.join().ok();
        outcome.map(drop)
    }

    fn archives(&self) -> PathBuf {
        self.directory.join("cache/archives")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut set = |name: &str, value: &str| {
            command.arg("-o").arg(format!("{name}={value}"));
        };
        let path = |path: &Path| path.display().to_string();
        // No lock is needed for what only reads the system's state and writes to our directory.
        set("Debug::NoLocking", "1");
        set("APT::Sandbox::User", "root");
        set("Acquire::Retries", "3");
        set("Acquire::http::Timeout", "30");
        set("Dir::State::status", &path(&self.status));
        set("Dir::Cache", &path(&self.directory.join("cache")));
        if self.has_own_lists {
            set("Dir::State::lists", &path(&self.directory.join("lists")));
        }
        command
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// The C runtime that every program on this system already uses: a second copy beside the system's
/// dynamic loader would not fit it.
fn is_runtime(file: &str) -> bool {
    ["libc6_", "libgcc-s1_", "gcc-12-base_", "libcrypt1_"]
        .iter()
        .any(|name| file.starts_with(name))
}

/// The packages that apt-get complains not to know.
fn unknown(said: &str) -> Vec<String> {
    let name = |line: &str| {
        let line = line.strip_prefix("E: ")?;
        let located = line.strip_prefix("Unable to locate package ");
        let candidate = || {
            let name = line.strip_prefix("Package '")?;
            name.strip_suffix("' has no installation candidate")
        };
        located.or_else(candidate).map(|name| format!("`{name}`"))
    };
    said.lines().filter_map(name).collect()
}

/// Parses lines of `apt-get --print-uris`: `'uri' file bytes hash`.
fn parse_uris(text: &str) -> Vec<Wanted> {
    let parse = |line: &str| {
        let mut words = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ');
        Some(Wanted {
            file: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

fn size_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() {
                size_below(&entry.path())
            } else {
                metadata.len()
            })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{Wanted, parse_uris, unknown};

    #[test]
    fn packages_that_apt_does_not_know_are_named() {
        let said = "`apt-get install` failed (exit status: 100):\nE: Unable to locate package memtestr\n\
                    E: Package 'mawkish' has no installation candidate\nE: Broken packages\n";
        assert_eq!(unknown(said), ["`memtestr`", "`mawkish`"]);
        assert!(unknown("E: Failed to fetch http://m/p/memtester.deb\n").is_empty());
    }

    #[test]
    fn uris_are_parsed_and_noise_is_skipped() {
        let text = "Reading lists\n'http://m/p/bochs_2.7_amd64.deb' bochs_2.7_amd64.deb 1234 SHA256:ab\n";
        assert_eq!(
            parse_uris(text),
            [Wanted {
                file: "bochs_2.7_amd64.deb".into(),
                bytes: 1234
            }]
        );
    }
}
