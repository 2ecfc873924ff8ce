//! The hypervisor on a fake machine, from the boot context to the last record.
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod console;
mod events;
mod fake;
mod fake_memory;
mod huge;
mod life;
mod loading;
mod memory;
mod random;
mod scenario;
mod script;
mod shares;
mod shortage;
