//! The programs and files of the distribution that we need: installed ones first, else unpacked below
//! the target directory without root.

mod apt;
mod unpacked;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

pub use apt::Packages;
pub use unpacked::Unpacked;

/// One thing that we need from the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The emulator with VMX, its terminal display and its stock BIOS.
    Bochs,
    /// QEMU for x86-64.
    Qemu,
    /// The statically linked busybox of the Linux guests' RAM disk.
    Busybox,
    /// grub-mkrescue with the BIOS modules, and what it calls.
    Grub,
}

impl Tool {
    /// What has to exist for an installed one to be used: a program, and files beside it.
    const fn needs(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Bochs => (
                "bochs-bin",
                &[
                    "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so",
                    "/usr/share/bochs/BIOS-bochs-latest",
                    "/usr/share/vgabios/vgabios.bin",
                ],
            ),
            Self::Qemu => ("qemu-system-x86_64", &["/usr/share/seabios/bios-256k.bin"]),
            Self::Busybox => ("busybox", &[]),
            Self::Grub => ("grub-mkrescue", &["/usr/lib/grub/i386-pc/moddep.lst"]),
        }
    }

    /// The Debian packages that bring it.
    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Bochs => &["bochs", "bochs-term", "bochsbios", "vgabios"],
            Self::Qemu => &["qemu-system-x86"],
            Self::Busybox => &["busybox-static"],
            Self::Grub => &["grub-common", "grub-pc-bin", "xorriso", "mtools"],
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Bochs => "bochs",
            Self::Qemu => "qemu",
            Self::Busybox => "busybox",
            Self::Grub => "grub",
        }
    }
}

/// Where a tool was found.
#[derive(Clone, Debug)]
pub struct Found {
    program: PathBuf,
    unpacked: Option<Unpacked>,
}

impl Found {
    /// The program itself.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command that starts it, with the paths it needs when it is not installed.
    #[must_use]
    pub fn command(&self) -> Command {
        self.companion(&self.program)
    }

    /// A command for another program of the same packages.
    fn companion(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(unpacked) = &self.unpacked {
            unpacked.prepare(&mut command);
        }
        command
    }

    /// A file of the package, given by its installed path.
    #[must_use]
    pub fn file(&self, installed: &str) -> PathBuf {
        match &self.unpacked {
            Some(unpacked) => unpacked.file(installed),
            None => PathBuf::from(installed),
        }
    }

    /// It was unpacked by us, not installed.
    #[must_use]
    pub const fn is_unpacked(&self) -> bool {
        self.unpacked.is_some()
    }
}

/// Finds tools, and fetches what is missing.
#[derive(Clone, Debug)]
pub struct Toolbox {
    directory: PathBuf,
    ignores_installed: bool,
}

impl Toolbox {
    /// `PLEAT_IGNORE_INSTALLED=1` fetches everything, as a machine would on which nothing is installed.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        let ignores_installed = std::env::var_os("PLEAT_IGNORE_INSTALLED").is_some_and(|value| value == "1");
        Self {
            directory,
            ignores_installed,
        }
    }

    /// The tool, installed or fetched.
    pub fn get(&self, tool: Tool) -> Result<Found> {
        if !self.ignores_installed
            && let Some(program) = installed(tool)
        {
            return Ok(Found {
                program,
                unpacked: None,
            });
        }
        let packages = self.packages(tool.needs().0)?;
        let unpacked = Unpacked::get(&self.directory, tool.name(), tool.packages(), &packages)?;
        let program = unpacked.program(tool.needs().0)?;
        Ok(Found {
            program,
            unpacked: Some(unpacked),
        })
    }

    /// The kernel image that a meta package (such as `linux-image-cloud-amd64`) stands for, as a bzImage.
    /// It is always unpacked, never installed: installing would change how this machine boots.
    pub fn kernel(&self, meta_package: &str) -> Result<PathBuf> {
        let packages = self.packages(meta_package)?;
        unpacked::kernel(&self.directory, meta_package, &packages)
    }

    /// Packages for work of our own, always unpacked and never the installed ones: it depends on where their
    /// parts lie.
    pub fn unpacked(&self, name: &str, wanted: &[&str]) -> Result<Unpacked> {
        let packages = self.packages(name)?;
        Unpacked::get(&self.directory, name, wanted, &packages)
    }

    /// Packages for a guest, which has nothing yet: their files, and those of all that they depend on.
    pub fn for_guests(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        self.packages("packages in a guest")?
            .for_guests()
            .download(wanted)
    }

    /// The mirror of Debian that this system's package sources name, if they name one.
    pub fn debian_mirror(&self) -> Result<Option<String>> {
        self.packages("debootstrap")?.debian_mirror()
    }

    fn packages(&self, wanted: &str) -> Result<Packages> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if which(program).is_none() {
                bail!(
                    "`{wanted}` is needed and this does not look like a Debian system (no `{program}`).\n\
                     Install these, so that they are found in PATH: bochs-bin (Bochs 2.7 with VMX, the terminal display \
                     and its BIOS in /usr/share/bochs), qemu-system-x86_64, a static busybox, and for `image` grub-mkrescue, \
                     xorriso and mtools. The Linux guests' kernel can be a path in the guests file (kernel = \"/boot/...\")."
                );
            }
        }
        Packages::new(self.directory.join("apt"), self.ignores_installed)
    }
}

fn installed(tool: Tool) -> Option<PathBuf> {
    let (program, files) = tool.needs();
    let program = which(program)?;
    let complete = files.iter().all(|file| Path::new(file).exists());
    // A dynamically linked busybox would not start in a RAM disk that has no libraries.
    let fits = tool != Tool::Busybox || crate::build::elf::is_static(&program);
    let companions: &[&str] = if tool == Tool::Grub {
        &["xorriso", "mformat"]
    } else {
        &[]
    };
    (complete && fits && companions.iter().all(|name| which(name).is_some())).then_some(program)
}

/// The first program of this name in PATH.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
