//! The configuration record of a bundle: what `xtask` made of the operator's TOML file.
//!
//! It is encoded with postcard. `xtask` has checked it before it was encoded, with messages that name
//! file and line; Pleat checks again what it depends on.

mod devices;
mod reclaim;

pub use devices::{BalloonConfig, DeviceConfig, DiskConfig, TypedAt};
pub use reclaim::ReclaimConfig;

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

/// The most guests that one machine runs.
pub const MAX_GUESTS: usize = 64;
/// The most steps of a script: two for each guest.
pub const MAX_STEPS: usize = 2 * MAX_GUESTS;
/// The most events that a run can wait for.
pub const MAX_UNTIL: usize = 8;
/// The most events of one guest that a run and the steps of its script can wait for.
pub const MAX_AWAITED: usize = 72;
/// The longest name of a guest, a domain or an event, in bytes.
pub const MAX_NAME: usize = 32;

/// Everything about one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig<'a> {
    /// Ticks of the time-stamp counter in a second, where whoever starts the machine knows them exactly.
    pub tsc_hz: Option<u64>,
    /// End the run after this much guest time (milliseconds from the first guest's entry).
    pub for_ms: Option<u64>,
    /// End the run when every guest has reported all of these events, or has ended.
    #[serde(borrow)]
    pub until: ArrayVec<&'a str, MAX_UNTIL>,
    /// A person sits at the console: no end by `until` or by all guests having ended.
    pub is_interactive: bool,
    /// Length of a time slice in microseconds.
    pub slice_us: u32,
    /// What the secrets of the domains are made from, where a run is to repeat; else from the processor's
    /// random numbers.
    pub seed: Option<u64>,
    /// How equal pages are merged.
    pub merge: MergeConfig,
    /// How memory is taken from guests that do not give it.
    pub reclaim: ReclaimConfig,
    /// When the host counts as short of memory.
    pub host: HostConfig,
    /// The disk for pages that memory has no room for, if the machine has one for that: its content is lost.
    pub disk: HostDisk,
    /// The guests.
    pub guests: ArrayVec<GuestConfig<'a>, MAX_GUESTS>,
    /// Console commands that run by themselves, in order of time.
    pub script: ArrayVec<Step<'a>, MAX_STEPS>,
}

/// How equal pages are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeConfig {
    /// Whether the scanner runs from the start.
    pub is_on: bool,
    /// Instructions (ticks) in a second that the scanner may spend; `None`: by pressure and yield.
    pub pace: Option<u64>,
    /// The shortest time from one look at a guest's pages to the next, in microseconds: what is not written
    /// for that long is calm.
    pub epoch_us: u32,
    /// Of the sampled pages of a 2 MiB mapping so many percent must be duplicates for it to be split. Half of it
    /// in the soft state, a quarter in the hard and low ones.
    pub split_percent: u8,
    /// Bits of the hash that are used, at most 32. Less than 32 is for tests of collisions.
    pub hash_bits: u8,
}

impl MergeConfig {
    /// No scanner at all.
    pub const OFF: Self = Self {
        split_percent: 100,
        hash_bits: 32,
        ..Self::ZERO
    };

    /// All zero: for a static place that a configuration is read into.
    pub const ZERO: Self = Self {
        is_on: false,
        pace: None,
        epoch_us: 0,
        split_percent: 0,
        hash_bits: 0,
    };
}

impl Default for MergeConfig {
    fn default() -> Self {
        Self {
            is_on: true,
            pace: None,
            epoch_us: 200_000,
            split_percent: 25,
            hash_bits: 32,
        }
    }
}

/// Which disk the host may use for itself, and how.
///
/// Not an `Option`: the first variant is zero, as all has to be in the static place that a configuration is read into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostDisk {
    /// None.
    #[default]
    Absent,
    /// A virtio block device; else the first ATA disk, by a bus master; else that by the processor.
    Best,
    /// The first ATA disk, by the processor alone.
    AtaPio,
    /// A virtio block device alone.
    Virtio,
}

/// When the host counts as short of memory, and how it asks for some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Below so many percent of free frames the host is in the soft state.
    pub soft_below_percent: u8,
    /// The hard state.
    pub hard_below_percent: u8,
    /// The low state.
    pub low_below_percent: u8,
    /// A state gets better only so many percent above the bound that it fell below.
    pub hysteresis_percent: u8,
    /// For so long after a message about pressure guests can give memory by themselves, before their balloons are
    /// told to take it, in milliseconds.
    pub grace_ms: u32,
}

impl HostConfig {
    /// All zero: for a static place that a configuration is read into.
    pub const ZERO: Self = Self {
        soft_below_percent: 0,
        hard_below_percent: 0,
        low_below_percent: 0,
        hysteresis_percent: 0,
        grace_ms: 0,
    };
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            soft_below_percent: 6,
            hard_below_percent: 4,
            low_below_percent: 2,
            hysteresis_percent: 1,
            grace_ms: 1000,
        }
    }
}

/// What a guest is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Memory that it can always have, in bytes. Reservations of all guests fit into the machine together.
    pub reservation_bytes: u64,
    /// Memory that it can have at most, in bytes, however much it was promised; `None`: all of it.
    pub limit_bytes: Option<u64>,
    /// Its part of what is left beyond the reservations, against others; at least 1, usual 100.
    pub shares: u32,
    /// Who is stopped first when there is no other way: the guest with the lowest; usual 100.
    pub priority: u8,
    /// How much more a page costs it that it does not use: 75 means that such a page counts four times.
    pub idle_tax_percent: u8,
    /// Page cache beyond so many percent of its memory is the first to go when memory is short.
    pub cache_soft_percent: u8,
    /// Page cache beyond so many percent of its memory is taken back, short or not.
    pub cache_strict_percent: u8,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            reservation_bytes: 0,
            limit_bytes: None,
            shares: 100,
            priority: 100,
            idle_tax_percent: 75,
            cache_soft_percent: 100,
            cache_strict_percent: 100,
        }
    }
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig<'a> {
    /// Its name, unique; letters, digits, `-` and `_`.
    pub name: &'a str,
    /// Promised memory in bytes, a multiple of 4,096.
    pub memory_bytes: u64,
    /// Index of the bundle section with its kernel: an ELF with a PVH note, or a bzImage.
    pub kernel: u16,
    /// Index of the bundle section with its initial RAM disk.
    pub initramfs: Option<u16>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Share of the processor against other guests; at least 1, usual 100.
    pub weight: u32,
    /// Guests of the same domain trust each other.
    pub domain: &'a str,
    /// With which pages its memory is backed.
    pub pages: Pages,
    /// When it starts.
    pub start: Start,
    /// What a reboot by the guest does.
    pub on_reboot: OnReboot,
    /// Whether its pages are merged.
    pub merge: Merge,
    /// What it is entitled to.
    pub terms: Terms,
    /// Its virtio devices.
    pub devices: DeviceConfig,
}

/// Whether a guest's pages are merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merge {
    /// With equal pages of its own and of others in its domain.
    #[default]
    On,
    /// With none; nor do others merge with them.
    Off,
}

/// With which pages a guest's memory is backed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pages {
    /// 4 KiB only: the least memory.
    #[default]
    Small,
    /// 2 MiB where a whole untouched 2 MiB range and such a free block exist: few faults.
    Large,
    /// 1 GiB where a whole untouched 1 GiB range and such a free block exist, zeroed at the first touch in
    /// it; else as [`Pages::Large`]. For a guest that will use all of its memory: the fewest faults, the
    /// shortest page walks, and no memory saved.
    Huge,
}

/// When a guest starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// With the run.
    #[default]
    Now,
    /// When somebody asks for it. Until then it has no memory but its images.
    Later,
}

/// What a reboot by the guest does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnReboot {
    /// The guest ends; the images it was loaded from need not be kept.
    #[default]
    Stop,
    /// The guest starts again from its images, which stay in memory for that.
    Restart,
}

/// A console command that runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step<'a> {
    /// When.
    pub when: When<'a>,
    /// The command, as one would type it.
    pub command: &'a str,
}

/// When a [`Step`] runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When<'a> {
    /// So many microseconds after the first guest's entry.
    Micros(u64),
    /// When this guest reports this event.
    Event {
        /// The guest's name.
        guest: &'a str,
        /// The event's name.
        event: &'a str,
    },
    /// Again and again.
    Every {
        /// Microseconds from one time to the next. A time that has passed before the command could run is not
        /// made up for.
        period_us: u64,
        /// So many microseconds after the first guest's entry for the first time.
        from_us: u64,
    },
}

/// What is wrong with a configuration record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// It ends too early, has a value that no field allows, or a list that is too long.
    Malformed,
    /// So many bytes are left behind its end.
    TrailingBytes(usize),
}

/// Reads a configuration section; the names and texts stay where they are.
///
/// # Errors
/// Says what is wrong with the record.
pub fn decode(section: &[u8]) -> Result<RunConfig<'_>, ConfigError> {
    let (config, rest) = postcard::take_from_bytes(section).map_err(|_| ConfigError::Malformed)?;
    if rest.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::TrailingBytes(rest.len()))
    }
}

/// Writes a configuration section.
///
/// # Errors
/// None is known for this record; the encoder's interface has one.
#[cfg(feature = "write")]
pub fn encode(config: &RunConfig<'_>) -> Result<alloc::vec::Vec<u8>, postcard::Error> {
    postcard::to_allocvec(config)
}
