//! Where things are: the workspace, the build directory and what xtask keeps below it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Directories of this workspace.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The workspace's root.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Paths {
    /// Asks Cargo, so that `CARGO_TARGET_DIR` and configuration files are honoured.
    pub fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = crate::process::cargo_metadata(&manifest)?;
        let path = |name: &str| {
            let value = metadata[name]
                .as_str()
                .with_context(|| format!("cargo metadata has no {name}"));
            value.map(PathBuf::from)
        };
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
        })
    }

    /// Everything that xtask itself puts below the target directory.
    #[must_use]
    pub fn ours(&self) -> PathBuf {
        self.target.join("pleat")
    }

    /// Unpacked tools and downloaded packages.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.ours().join("tools")
    }

    /// Images made from what was built.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.ours().join("images")
    }

    /// The directory of one run, made empty.
    pub fn fresh_run(&self, name: &str) -> Result<PathBuf> {
        let run = self.ours().join("runs").join(name);
        if run.exists() {
            std::fs::remove_dir_all(&run).with_context(|| format!("cannot empty {}", run.display()))?;
        }
        std::fs::create_dir_all(&run).with_context(|| format!("cannot make {}", run.display()))?;
        Ok(run)
    }

    /// Where programs of the release profile are built.
    #[must_use]
    pub fn release(&self) -> PathBuf {
        self.target.join("release")
    }

    /// The scenarios that `test` runs.
    #[must_use]
    pub fn scenarios(&self) -> PathBuf {
        self.root.join("guest-tests/scenarios")
    }

    /// A path as shown to people: relative to the workspace where it is below it.
    #[must_use]
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}
