//! The boot bundle: one file in memory that carries everything Pleat boots with.
#![no_std]
#![forbid(unsafe_code)]

pub mod config;
