//! The policy of reclaim: how many frames are taken by force, from whom, and how old a page must be; who is shielded
//! from that ([`Token`]), who does not run meanwhile ([`Holds`]), and who is suspended ([`whom_to_suspend`]).
//!
//! All of it is pure: what is taken, and whether it can be, is decided by who does it, page by page.

mod hold;
mod need;
mod suspend;
#[cfg(test)]
mod tests;
mod token;
mod victim;

pub use hold::{Holds, Standing, WAIT};
pub use need::{Need, Situation, need};
pub use suspend::{Rank, Resumption, SUSPEND_AFTER_MS, Suspended, may_resume, whom_to_suspend};
pub use token::{Doing, Handover, TURN, Token, Why};
pub use victim::{AGES, Ages, Candidate, choose, idle, least_age, older};
