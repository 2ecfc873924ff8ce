//! The memory brain of Pleat: who owns which frame of the host, and who should.
//!
//! This crate knows no processor and no page-table entry. The [`ledger`] has one record for every frame, and
//! the allocator over them. [`merge`] is the policy of merging: what to compare, with what, and how much of it.
//! [`swap`] is where contents wait that nobody looks at.
//! [`reclaim`] is the policy of taking pages by force.
//! [`promise`] is what guests are entitled to, and how they are asked for memory when there is too little.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "refusals"))]
extern crate std;

pub mod ledger;
pub mod merge;
pub mod promise;
pub mod reclaim;
pub mod swap;
