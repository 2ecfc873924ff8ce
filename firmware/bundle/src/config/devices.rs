//! The virtio devices of a guest.

use serde::{Deserialize, Serialize};

/// The virtio devices of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceConfig {
    /// Its balloon, if it has one.
    pub balloon: Option<BalloonConfig>,
    /// To how many bytes its memory can grow; no more than it starts with: it has no virtio-mem device.
    pub max_memory_bytes: u64,
    /// Whether it has a virtio console, and with it the port for messages about pressure.
    pub has_console: bool,
    /// Whether it has a source of random numbers.
    pub has_random: bool,
    /// Its disk, if it has one.
    pub disk: Option<DiskConfig>,
    /// Where what is typed goes.
    pub typed_at: TypedAt,
}

impl DeviceConfig {
    /// None at all.
    pub const NONE: Self = Self {
        balloon: None,
        max_memory_bytes: 0,
        has_console: false,
        has_random: false,
        disk: None,
        typed_at: TypedAt::Serial,
    };
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            balloon: Some(BalloonConfig::default()),
            max_memory_bytes: 0,
            has_console: true,
            has_random: true,
            disk: None,
            typed_at: TypedAt::Serial,
        }
    }
}

/// A balloon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonConfig {
    /// The guest may take pages out of it before it kills for want of memory.
    pub deflates_on_oom: bool,
    /// The guest reports memory that it has freed.
    pub has_reporting: bool,
    /// How often its statistics are asked for, in milliseconds; 0: never.
    pub statistics_ms: u32,
}

impl Default for BalloonConfig {
    fn default() -> Self {
        Self {
            deflates_on_oom: true,
            has_reporting: true,
            statistics_ms: 2000,
        }
    }
}

/// A disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskConfig {
    /// Index of the bundle section with its base image, which is never written.
    pub image: u16,
    /// Its size in bytes, a multiple of 4,096; what is beyond the image reads as zeros.
    pub bytes: u64,
    /// The most that the guest can have written, in bytes, a multiple of 4,096: a write beyond it is an I/O error.
    pub written_bytes: Option<u64>,
}

/// Which of a guest's consoles a person types at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TypedAt {
    /// The serial line (ttyS0).
    #[default]
    Serial,
    /// The virtio console (hvc0).
    Virtio,
}
