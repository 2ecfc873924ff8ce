//! The memory brain of Pleat: who owns which frame of the host, and who should.
//!
//! This crate knows no processor and no page-table entry. What is here so far is the [`ledger`]: one
//! record for every frame, and the allocator over them.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod ledger;
