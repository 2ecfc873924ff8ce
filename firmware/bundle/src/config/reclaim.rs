//! How memory is taken from guests that do not give it.

use serde::{Deserialize, Serialize};

/// How memory is taken from guests that do not give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReclaimConfig {
    /// Whether pages are taken by force at all.
    pub is_on: bool,
    /// How often it is looked at which pages were used, in microseconds: a generation.
    pub generation_us: u32,
    /// Pages that were not used for so many generations are taken even where memory is plentiful; `None`: only where it
    /// is short.
    pub cold_generations: Option<u8>,
    /// At most so many percent of all memory hold compressed pages; 0: none are compressed.
    pub compressed_percent: u8,
}

impl ReclaimConfig {
    /// Nothing is taken by force.
    pub const OFF: Self = Self {
        is_on: false,
        generation_us: 2_000_000,
        cold_generations: None,
        compressed_percent: 0,
    };

    /// All zero: for a static place that a configuration is read into.
    pub const ZERO: Self = Self {
        is_on: false,
        generation_us: 0,
        cold_generations: None,
        compressed_percent: 0,
    };
}

impl Default for ReclaimConfig {
    fn default() -> Self {
        Self {
            is_on: true,
            compressed_percent: 50,
            ..Self::OFF
        }
    }
}
