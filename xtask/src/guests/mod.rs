//! The guests file: one TOML file that describes a machine, its guests and what must hold.
//!
//! [`raw`] is its form, [`check`] turns it into a [`Scenario`] or into messages with file and line.

mod check;
mod check_devices;
mod check_disk;
mod check_expect;
mod check_merge;
mod check_packages;
mod check_reclaim;
mod check_script;
mod check_terms;
mod expect;
mod names;
mod places;
mod raw;
mod values;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cooperation;
#[cfg(test)]
mod tests_disk;
#[cfg(test)]
mod tests_reclaim;

use std::path::{Path, PathBuf};

pub use check::read;
pub use expect::{Bound, Expectation, GuestExpectation, Outcome};
pub use pleat_bundle::config::{
    BalloonConfig, HostConfig, Merge, MergeConfig, OnReboot, Pages, ReclaimConfig, Start, Terms, TypedAt,
};
pub use values::micros;

/// A checked guests file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// One line about it.
    pub about: String,
    /// The machine it runs on.
    pub machine: MachineSpec,
    /// Milliseconds of guest time after which the run ends.
    pub for_ms: Option<u64>,
    /// The run ends when every guest has reported these.
    pub until: Vec<String>,
    /// How equal pages are merged.
    pub merge: MergeConfig,
    /// How memory is taken from guests that do not give it.
    pub reclaim: ReclaimConfig,
    /// When the host counts as short of memory.
    pub host: HostConfig,
    /// The guests.
    pub guests: Vec<GuestSpec>,
    /// Console commands that run by themselves.
    pub script: Vec<StepSpec>,
    /// What must hold afterwards, when the file says something about that.
    pub expect: Option<Expectation>,
}

/// The machine of a scenario.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// Which emulator.
    pub kind: MachineKind,
    /// Who starts Pleat on it.
    pub boot: Boot,
    /// MiB of memory.
    pub memory_mib: u64,
    /// Bochs's name of the processor model.
    pub processor: String,
    /// Microseconds of a time slice.
    pub slice_us: u32,
    /// Seconds of wall time after which the emulator is ended.
    pub wall_seconds: u64,
    /// The disk that Pleat has for itself.
    pub disk: Option<HostDiskSpec>,
    /// The check of that disk boots in the hypervisor's place.
    pub checks_disk: bool,
}

/// A disk for the host, empty at the start of each run and gone at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostDiskSpec {
    /// Its size.
    pub mebibytes: u64,
    /// What it is attached to.
    pub bus: DiskBus,
    /// A block of 4 KiB that cannot be read.
    pub bad_block: Option<u64>,
    /// How many requests it serves in a second; as many as it can if this is not said.
    pub pace: Option<u64>,
}

/// How the host's disk is attached and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskBus {
    /// The first ATA disk, by DMA where that works.
    Ata,
    /// The first ATA disk, each word moved by the processor.
    AtaPio,
    /// A virtio block device.
    Virtio,
}

/// Which emulator runs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MachineKind {
    /// Nested QEMU/KVM where that can work, else Bochs.
    Auto,
    /// Bochs, which emulates VMX.
    Bochs,
    /// QEMU with KVM: needs a processor with VMX and nesting.
    #[value(alias = "qemu-kvm")]
    Qemu,
    /// QEMU's own emulation: has no VMX, so Pleat says what is missing.
    QemuTcg,
}

/// Who starts Pleat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Our ROM and the boot bundle.
    Rom,
    /// The emulator's own BIOS and GRUB from an ISO image.
    Iso,
}

/// A guest.
#[derive(Clone, Debug)]
pub struct GuestSpec {
    /// Its name.
    pub name: String,
    /// Promised memory.
    pub memory_bytes: u64,
    /// Its kernel.
    pub kernel: Kernel,
    /// Its initial RAM disk.
    pub initramfs: Initramfs,
    /// The kernel's command line.
    pub command_line: String,
    /// Share of the processor.
    pub weight: u32,
    /// Guests of one domain trust each other.
    pub domain: String,
    /// With which pages its memory is backed.
    pub pages: Pages,
    /// When it starts.
    pub start: Start,
    /// What a reboot does.
    pub on_reboot: OnReboot,
    /// Whether its pages are merged.
    pub merge: Merge,
    /// What it is entitled to.
    pub terms: Terms,
    /// Its virtio devices.
    pub devices: DeviceSpec,
}

/// The virtio devices of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its balloon, if it has one.
    pub balloon: Option<BalloonConfig>,
    /// To how many bytes its memory can grow; 0: it cannot.
    pub max_memory_bytes: u64,
    /// Whether it has a virtio console with the port for messages about pressure.
    pub has_console: bool,
    /// Whether it has a source of random numbers.
    pub has_random: bool,
    /// Its disk, if it has one.
    pub disk: Option<DiskSpec>,
    /// Where what is typed goes.
    pub typed_at: TypedAt,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskSpec {
    /// What it has at the start.
    pub image: DiskImage,
    /// Its size, a multiple of 4,096.
    pub bytes: u64,
    /// The most that the guest can have written, a multiple of 4,096.
    pub written_bytes: Option<u64>,
}

/// What a disk has at the start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskImage {
    /// A small Debian with a login, and these packages.
    Debian(Vec<String>),
    /// The files of these packages and of what they depend on.
    Programs(Vec<String>),
    /// A file.
    File(PathBuf),
}

/// What a guest boots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernel {
    /// Debian's cloud kernel as an uncompressed vmlinux.
    DebianCloud,
    /// Debian's cloud kernel as it is packaged.
    DebianCloudBzImage,
    /// One of our test kernels, by its directory below guest-tests/guests.
    Test(String),
    /// A file.
    File(PathBuf),
}

impl DiskImage {
    /// A guest may start from it: there is a system on it, as far as we know.
    #[must_use]
    pub const fn is_system(&self) -> bool {
        !matches!(self, Self::Programs(_))
    }
}

impl Kernel {
    /// It is a Linux kernel as far as we know.
    #[must_use]
    pub const fn is_debian(&self) -> bool {
        matches!(self, Self::DebianCloud | Self::DebianCloudBzImage)
    }
}

/// A guest's initial RAM disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Initramfs {
    /// None.
    None,
    /// Busybox and the workload that checks itself.
    Workload,
    /// The same, with the agent that listens to the host, and jobs for it.
    Agent,
    /// Just enough to start from the guest's disk.
    Disk,
    /// A file.
    File(PathBuf),
}

/// A console command that runs by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSpec {
    /// When.
    pub when: When,
    /// The command.
    pub command: String,
}

/// When a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Microseconds after the first guest's entry.
    Micros(u64),
    /// When this guest reports this event.
    Event {
        /// The guest.
        guest: String,
        /// The event.
        event: String,
    },
    /// Again and again.
    Every {
        /// Microseconds from one time to the next.
        period_us: u64,
        /// Microseconds after the first guest's entry for the first time.
        from_us: u64,
    },
}

/// The command line of a Linux guest whose file gives none.
///
/// `cryptomgr.notests` saves 741 M instructions of self tests, `reboot=p` makes a reboot a write to port
/// 0xCF9, `quiet` saves an exit for each character. `noapic` keeps LINT0 open for the 8259 pair, and with it
/// the serial line's interrupt: without an I/O APIC Linux masks it otherwise. The rest keeps a small guest small: no security
/// modules, no page counters, no IPv6, and hash tables sized for 128 MiB rather than for a server.
pub const LINUX_COMMAND_LINE: &str = "console=ttyS0 cryptomgr.notests noapic reboot=p quiet printk.devkmsg=on lsm= apparmor=0 \
     cgroup_disable=memory ipv6.disable=1 dhash_entries=1024 ihash_entries=1024 thash_entries=64 uhash_entries=256";

/// The name of a scenario: its file's name without the ending.
fn name_of(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
