//! The policy of reclaim: how many frames are taken by force, from whom, and how old a page must be.
//!
//! All of it is pure: what is taken, and whether it can be, is decided by who does it, page by page.

mod need;
#[cfg(test)]
mod tests;
mod victim;

pub use need::{Need, Situation, need};
pub use victim::{AGES, Ages, Candidate, choose, idle, least_age, older};
