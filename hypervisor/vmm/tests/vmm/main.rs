//! The hypervisor on a fake machine, from the boot context to the last record.
#![allow(missing_docs, clippy::cast_possible_truncation)]

mod churn;
mod console;
mod events;
mod fake;
mod fake_memory;
mod fake_vcpu;
mod fake_walk;
mod huge;
mod life;
mod loading;
mod memory;
mod merging;
mod merging_breaks;
mod merging_console;
mod merging_large;
mod merging_short;
mod oracle;
mod random;
mod scenario;
mod script;
mod shares;
mod shortage;
