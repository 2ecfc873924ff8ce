//! The policy of merging: which pages to look at, what to compare them with, and how much to spend on it.
//!
//! Nothing here changes a mapping or reads a frame. The parts answer questions of whoever does:
//!
//! - [`content`]: is a page all zeros, are two pages equal;
//! - [`Secret`]: the key of a page's content, of its domain alone;
//! - [`Index`]: which frames had that key;
//! - [`calm`]: how long a page must stay unwritten before it is looked at;
//! - [`Sampler`]: whether a 2 MiB mapping holds enough duplicates to split it;
//! - [`Pace`]: how many ticks may be spent now.
//!
//! All of them may be wrong, and then memory is not saved, or time is wasted. That two pages are equal is
//! decided by comparing all of their bytes while nobody can write to them (rule 4), elsewhere.

pub mod calm;
pub mod content;
mod index;
mod pace;
mod sampler;
mod secret;
#[cfg(test)]
mod tests;

pub use crate::ledger::Key;
pub use index::{EQUAL_KEYS_MAX, Index, Inserted, Keys, Mismatch, bytes_for};
pub use pace::Pace;
pub use sampler::{Estimate, Look, SAMPLE_WORDS, Sample, Sampler, Statistics, should_split};
pub use secret::Secret;
